//! Resource limits of the program.

use anyhow::Context as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::JailArgs;

/// Memory that may be locked or queued in the kernel (bytes): none is needed.
const KERNEL_MEMORY: u64 = 64 * 1024;

/// Sets every limit, soft and hard, never above the hard limit that is there already.
pub(super) fn set(args: &JailArgs) -> anyhow::Result<()> {
    let mib = |n: u64| n.saturating_mul(1 << 20);
    for (resource, want) in [
        (Resource::RLIMIT_AS, mib(args.memory)),
        (Resource::RLIMIT_CPU, args.cpu),
        (Resource::RLIMIT_NPROC, args.processes),
        (Resource::RLIMIT_NOFILE, args.open_files),
        (Resource::RLIMIT_FSIZE, mib(args.file_size)),
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_MEMLOCK, KERNEL_MEMORY),
        (Resource::RLIMIT_MSGQUEUE, 0),
        (Resource::RLIMIT_SIGPENDING, 256),
        (Resource::RLIMIT_RTPRIO, 0),
    ] {
        let (_, hard) = getrlimit(resource)?;
        let value = want.min(hard);
        setrlimit(resource, value, value)
            .with_context(|| format!("setting {resource:?} failed"))?;
    }
    Ok(())
}
