//! What this machine can enforce, read once before a start.

use std::{fs, path::Path};

use nix::sys::resource::{Resource, getrlimit};
use pitlane_release::Platform;

use super::bundle::Machine;

/// A file that shows that a controller can limit: in cgroup v1 below its own directory.
const V1: [(&str, &str); 4] = [
    ("memory", "memory/memory.limit_in_bytes"),
    ("swap", "memory/memory.memsw.limit_in_bytes"),
    ("pids", "pids/tasks"),
    ("cpu", "cpu/cpu.cfs_quota_us"),
];

/// Looks at the kernel; `None` on a platform that releases are not made for.
pub(super) fn look(seccomp: bool) -> Option<Machine> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    Some(Machine {
        platform: Platform::host()?,
        max_open_files: hard,
        controllers: controllers(Path::new("/sys/fs/cgroup")),
        seccomp,
        cgroup_namespace: Path::new("/proc/self/ns/cgroup").exists(),
    })
}

/// The controllers that can be used. `/proc/cgroups` is not asked: newer kernels leave the memory
/// controller out of it although it works.
fn controllers(root: &Path) -> Vec<String> {
    if let Ok(list) = fs::read_to_string(root.join("cgroup.controllers")) {
        let mut list: Vec<String> = list.split_whitespace().map(String::from).collect();
        // The root group has no limit files; where memory is counted, so is swap, if there is any.
        if list.iter().any(|c| c == "memory") && Path::new("/proc/swaps").exists() {
            list.push("swap".into());
        }
        return list;
    }
    V1.iter().filter(|(_, file)| root.join(file).exists()).map(|(name, _)| (*name).into()).collect()
}

/// Whether cgroup v1 is in use with controllers on the v2 side as well: crun refuses that mix.
pub(super) fn hybrid_with_v2_controllers() -> bool {
    hybrid(Path::new("/sys/fs/cgroup"))
}

fn hybrid(root: &Path) -> bool {
    let v2 = fs::read_to_string(root.join("unified/cgroup.controllers"));
    !root.join("cgroup.controllers").exists() && v2.is_ok_and(|list| !list.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_of_both_generations() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        assert_eq!(controllers(root), [""; 0]);
        fs::create_dir_all(root.join("memory")).unwrap();
        fs::write(root.join("memory/memory.limit_in_bytes"), "").unwrap();
        assert_eq!((controllers(root), hybrid(root)), (vec!["memory".to_owned()], false));
        fs::create_dir_all(root.join("unified")).unwrap();
        fs::write(root.join("unified/cgroup.controllers"), "hugetlb\n").unwrap();
        assert!(hybrid(root));
        fs::write(root.join("cgroup.controllers"), "cpu pids\n").unwrap();
        assert_eq!(
            (controllers(root), hybrid(root)),
            (vec!["cpu".to_owned(), "pids".to_owned()], false)
        );
    }
}
