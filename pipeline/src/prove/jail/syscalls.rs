//! System calls that the program has no use for, and an attacker would.
//!
//! A list of what is denied, not of what is allowed: the C library and ONNX Runtime may change
//! the calls they make, and namespaces, user and limits already hold without this. Denied calls
//! fail with an error; a program that probes them goes on.

use std::collections::BTreeMap;

use anyhow::Context as _;
use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Denied whatever their arguments.
const DENIED: &[i64] = &[
    // other processes
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_process_madvise,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    // new worlds and their files
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    libc::SYS_acct,
    // the kernel
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_syslog,
    libc::SYS_personality,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    // memory that no limit counts
    libc::SYS_memfd_create,
    libc::SYS_memfd_secret,
    libc::SYS_shmget,
    libc::SYS_msgget,
    libc::SYS_semget,
    libc::SYS_mq_open,
];

/// Denied on this architecture only.
#[cfg(target_arch = "x86_64")]
const DENIED_HERE: &[i64] =
    &[libc::SYS_fork, libc::SYS_vfork, libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_modify_ldt];
/// Denied on this architecture only: the rest lacks these calls.
#[cfg(not(target_arch = "x86_64"))]
const DENIED_HERE: &[i64] = &[];

/// Calls that look absent, so that libraries take the older way: `clone3` hides its flags from a
/// filter (the C library then uses `clone`), `io_uring` makes calls that a filter does not see.
const ABSENT: &[i64] = &[
    libc::SYS_clone3,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
];

/// Filters the calls of this process and all it becomes.
pub(super) fn filter() -> anyhow::Result<()> {
    let always = |calls: &[i64]| calls.iter().map(|&call| (call, vec![])).collect::<Rules>();
    let mut denied = always(DENIED);
    denied.append(&mut always(DENIED_HERE));
    // Sockets within the machine only: the twin's. Netlink, raw packets and VM sockets are not.
    let local = u64::try_from(libc::AF_UNIX)?;
    for call in [libc::SYS_socket, libc::SYS_socketpair] {
        denied.insert(call, vec![when(0, SeccompCmpOp::Ne, local)?]);
    }
    // Threads, but no processes: then the limit on memory is a limit on all of it.
    let thread = u64::try_from(libc::CLONE_THREAD)?;
    denied.insert(libc::SYS_clone, vec![when(0, SeccompCmpOp::MaskedEq(thread), 0)?]);
    // Typing into a terminal that the caller may own.
    let typing = [libc::TIOCSTI, libc::TIOCLINUX].map(|code| when(1, SeccompCmpOp::Eq, code));
    denied.insert(libc::SYS_ioctl, typing.into_iter().collect::<anyhow::Result<_>>()?);
    install(denied, libc::EPERM)?;
    install(always(ABSENT), libc::ENOSYS)
}

fn when(argument: u8, operator: SeccompCmpOp, value: u64) -> anyhow::Result<SeccompRule> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)?;
    Ok(SeccompRule::new(vec![condition])?)
}

fn install(mut rules: Rules, error: i32) -> anyhow::Result<()> {
    // x86-64 kernels may know every call by a second number (x32); deny that one too.
    #[cfg(target_arch = "x86_64")]
    {
        const X32: i64 = 0x4000_0000;
        let twins: Rules = rules.iter().map(|(call, rule)| (call | X32, rule.clone())).collect();
        rules.extend(twins);
    }
    let arch = TargetArch::try_from(std::env::consts::ARCH).context("no filter for this CPU")?;
    let action = SeccompAction::Errno(u32::try_from(error)?);
    let program: BpfProgram =
        SeccompFilter::new(rules, SeccompAction::Allow, action, arch)?.try_into()?;
    apply_filter(&program).context("seccomp failed")
}
