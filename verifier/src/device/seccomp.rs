//! The system calls a car program never needs, as the `linux.seccomp` section of a bundle.
//!
//! A list of what is denied, not of what is allowed: a car must not stop because a newer C library
//! or inference library uses a new harmless call. It removes the calls that kernel exploits and
//! escapes start from; capabilities, namespaces and the read-only root are the main walls.
//! Calls of foreign architectures (32-bit, x32) are outside the filter's architecture list and
//! kill the program.

use pitlane_release::Platform;
use serde_json::{Value, json};

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// Denied outright.
const DENIED: &[&str] = &[
    // other processes and their memory
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "process_madvise",
    "pidfd_getfd",
    "kcmp",
    // the kernel itself
    "bpf",
    "perf_event_open",
    "userfaultfd",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "init_module",
    "finit_module",
    "delete_module",
    "create_module",
    "kexec_load",
    "kexec_file_load",
    "reboot",
    "syslog",
    "lookup_dcookie",
    "nfsservctl",
    "uselib",
    "ustat",
    "sysfs",
    "_sysctl",
    "quotactl",
    "quotactl_fd",
    "acct",
    "swapon",
    "swapoff",
    // keys
    "add_key",
    "request_key",
    "keyctl",
    // namespaces, mounts, and handles that ignore both
    "unshare",
    "setns",
    "mount",
    "umount",
    "umount2",
    "pivot_root",
    "chroot",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "move_mount",
    "open_tree",
    "mount_setattr",
    "open_by_handle_at",
    "name_to_handle_at",
    "fanotify_init",
    // clocks and names of the machine
    "settimeofday",
    "clock_settime",
    "clock_settime64",
    "clock_adjtime",
    "clock_adjtime64",
    "adjtimex",
    "stime",
    "sethostname",
    "setdomainname",
    // hardware past the device list
    "iopl",
    "ioperm",
    "modify_ldt",
    "vm86",
    "vm86old",
    "vhangup",
    "personality",
    "move_pages",
    "mbind",
    "set_mempolicy",
    "migrate_pages",
];

/// New namespaces by `clone` flags (linux/sched.h), each tested by itself: a mask of several would
/// match only when none is set.
const CLONE_NEW: [u64; 8] = [
    0x0000_0080,
    0x0002_0000,
    0x0200_0000,
    0x0400_0000,
    0x0800_0000,
    0x1000_0000,
    0x2000_0000,
    0x4000_0000,
];

/// Socket families with large kernel attack surface and no use in a car program:
/// packet 17, RDS 21, TIPC 30, ALG 38, vsock 40, XDP 44. CAN (29) stays: vehicles have it.
const SOCKETS: [u64; 6] = [17, 21, 30, 38, 40, 44];

/// The section, for one platform.
pub(super) fn section(platform: Platform) -> Value {
    let architecture = match platform {
        Platform::LinuxAmd64 => "SCMP_ARCH_X86_64",
        Platform::LinuxArm64 => "SCMP_ARCH_AARCH64",
    };
    let deny = |names: &[&str], errno: u32, args: Value| json!({"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": errno, "args": args});
    let mut rules = vec![
        deny(DENIED, EPERM, json!([])),
        // Its flags are in memory, where a filter cannot look; libraries fall back to `clone`.
        deny(&["clone3"], ENOSYS, json!([])),
    ];
    rules.extend(CLONE_NEW.map(|flag| {
        deny(
            &["clone"],
            EPERM,
            json!([{"index": 0, "value": flag, "valueTwo": flag, "op": "SCMP_CMP_MASKED_EQ"}]),
        )
    }));
    rules.extend(SOCKETS.map(|family| {
        deny(&["socket"], EPERM, json!([{"index": 0, "value": family, "op": "SCMP_CMP_EQ"}]))
    }));
    json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": [architecture], "syscalls": rules})
}
