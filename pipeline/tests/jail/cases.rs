//! Each wish of `hostile.c`, and what the jail must make of it; each is first seen to come true
//! outside, so that no case passes because the program is wrong.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A root with the hostile program in it, and a secret beside it.
struct World {
    dir: tempfile::TempDir,
    user: Option<u32>,
}

/// The hostile program, compiled once (by one process; others wait for the rename).
fn hostile() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/jail/hostile.c");
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hostile");
        let newer = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
        if newer(&out) < newer(Path::new(source)) {
            let own = out.with_extension(std::process::id().to_string());
            let mut cc = Command::new("cc");
            cc.args(["-O1", "-Wall", "-Werror", "-static", "-pthread", "-o"]).arg(&own).arg(source);
            assert!(cc.status().expect("a C compiler, as for Rust").success());
            fs::rename(&own, &out).unwrap();
        }
        out
    })
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let open = |path: &Path| {
            fs::create_dir_all(path).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
        };
        for name in ["", "root", "root/bin", "root/run", "root/tmp", "root/out", "out", "sock"] {
            open(&dir.path().join(name));
        }
        for (from, to) in [(hostile(), "root/bin/hostile"), (Path::new(PITLANE), "pitlane")] {
            fs::copy(from, dir.path().join(to)).unwrap();
        }
        fs::write(dir.path().join("secret"), "the key").unwrap();
        fs::write(dir.path().join("root/shared"), "visible").unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("root/link")).unwrap();
        Self { dir, user: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn jail(&self, options: &[&str], wish: &[&str]) -> Command {
        let mut command = Command::new(self.path("pitlane"));
        command.arg("jail").arg("--root").arg(self.path("root")).args(options);
        command.args(["--", "/bin/hostile"]).args(wish);
        command.stdin(Stdio::null()).env("PITLANE_TOKEN", "s3cret");
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }

    /// Runs a wish in the jail; gives the program's exit code and what it said.
    fn wish(&self, options: &[&str], wish: &[&str]) -> (i32, String) {
        let Output { status, stdout, stderr } = self.jail(options, wish).output().unwrap();
        let (said, trouble) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        let (first, said) = said.split_once('\n').unwrap_or_else(|| panic!("no jail: {trouble}"));
        assert!(first.starts_with(r#"{"jail":{"uid":65532,"#), "{first}");
        (status.code().unwrap(), format!("{said}{trouble}"))
    }

    fn kept(&self, wish: &[&str]) {
        let (code, said) = self.wish(&[], wish);
        assert!(code == 1 && said.starts_with("kept: "), "{wish:?}: {code} {said}");
    }
}

const PITLANE: &str = env!("CARGO_BIN_EXE_pitlane");

/// What the program gets without a jail.
fn outside(wish: &[&str]) -> (i32, String) {
    let output = Command::new(hostile()).args(wish).stdin(Stdio::null()).output().unwrap();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stdout).into_owned())
}

fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}

#[test]
fn it_is_nobody_and_alone() {
    let world = World::new();
    let (code, said) = world.wish(&[], &["id"]);
    let want = "uid 65532 65532 65532 gid 65532 65532 65532 groups 0 pid 1 ppid 0 host pitlane \
                caps 0 nnp 1 seccomp 2\n";
    assert_eq!((code, said.as_str()), (0, want));
}

/// As any other user than root, by user namespaces: the same jail.
#[test]
fn an_ordinary_user_gets_the_same_jail() {
    let mut world = World::new();
    if is_root() {
        world.user = Some(54321);
    }
    let (code, said) = world.wish(&[], &["id"]);
    assert_eq!(code, 0);
    assert!(said.starts_with("uid 65532 65532 65532 gid 65532 65532 65532"), "{said}");
    assert!(said.contains("pid 1 ppid 0 host pitlane caps 0 nnp 1 seccomp 2"), "{said}");
    for wish in [&["tcp", "1"][..], &["fork"], &["clone"], &["unshare"], &["mount"], &["setuid"]] {
        world.kept(wish);
    }
    world.kept(&["read", world.path("secret").to_str().unwrap()]);
    world.kept(&["write", "/shared"]);
}

#[test]
fn no_network_of_any_kind() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    assert_eq!(outside(&["tcp", &port]).0, 0, "reachable from outside");
    let world = World::new();
    world.kept(&["tcp", &port]);
    // internet 4 and 6, netlink, packets, bluetooth, hypervisor
    for family in ["2", "10", "16", "17", "31", "40"] {
        world.kept(&["socket", family]);
    }
    let abstract_name = format!("@pitlane-jail-{}", std::process::id());
    let address = {
        use std::os::linux::net::SocketAddrExt as _;
        std::os::unix::net::SocketAddr::from_abstract_name(&abstract_name[1..]).unwrap()
    };
    let _listener = UnixListener::bind_addr(&address).unwrap();
    assert_eq!(outside(&["unix", &abstract_name]).0, 0);
    world.kept(&["unix", &abstract_name]);
}

#[test]
fn the_one_socket_that_was_handed_in_is_reached() {
    let world = World::new();
    let _listener = UnixListener::bind(world.path("sock/sim.sock")).unwrap();
    let all = fs::Permissions::from_mode(0o777);
    fs::set_permissions(world.path("sock/sim.sock"), all).unwrap();
    let sock = world.path("sock");
    let (code, said) =
        world.wish(&["--bind", sock.to_str().unwrap(), "/run"], &["unix", "/run/sim.sock"]);
    assert_eq!(code, 0, "{said}");
    world.kept(&["unix", "/run/sim.sock"]);
}

#[test]
fn no_file_beyond_the_root_and_none_writable() {
    let world = World::new();
    let secret = world.path("secret");
    let secret = secret.to_str().unwrap();
    assert_eq!(outside(&["read", secret]), (0, "got: the key\n".into()));
    let (code, said) = world.wish(&[], &["read", "/shared"]);
    assert_eq!((code, said.as_str()), (0, "got: visible\n"));
    world.kept(&["read", secret]);
    world.kept(&["read", "/etc/shadow"]);
    world.kept(&["read", "/link/etc/shadow"]);
    world.kept(&["read", "../../../../../../../../etc/hostname"]);
    world.kept(&["read", "/proc/self/environ"]);
    world.kept(&["write", "/shared"]);
    world.kept(&["write", "/out/x"]);
    world.kept(&["mknod"]);
    let (_, said) = world.wish(&[], &["list", "/"]);
    let mut names: Vec<_> = said.lines().collect();
    names.sort_unstable();
    assert_eq!(names, [".", "..", "bin", "link", "out", "run", "shared", "tmp"]);
    let out = world.path("out");
    let bind = ["--bind-rw", out.to_str().unwrap(), "/out"];
    assert_eq!(world.wish(&bind, &["write", "/out/x"]).0, 0);
    assert!(world.path("out/x").exists());
}

/// A bind over a link of the image lands inside of the root, or not at all.
#[test]
fn links_in_an_image_lead_no_bind_out() {
    let world = World::new();
    let out = world.path("out");
    let run =
        world.jail(&["--bind", out.to_str().unwrap(), "/link/etc"], &["id"]).output().unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(!run.status.success() && said.contains("no place for the bind"), "{said}");
    assert!(run.stdout.is_empty(), "nothing was started");
}

#[test]
fn nothing_is_inherited() {
    let world = World::new();
    let (_, said) = world.wish(&[], &["env"]);
    assert_eq!(
        said,
        "ORT_DISABLE_TELEMETRY=1\nPATH=/usr/bin:/bin\nHOME=/nonexistent\nLANG=C.UTF-8\n"
    );
    // A file that a careless parent leaves open: the shell opens 7 and 900.
    let mut shell = Command::new("sh");
    shell.arg("-c").arg("exec 7<\"$0\"; exec \"$@\"").arg(world.path("secret"));
    let jail = world.jail(&[], &["files"]);
    shell.arg(jail.get_program()).args(jail.get_args()).stdin(Stdio::null());
    let said = String::from_utf8(shell.output().unwrap().stdout).unwrap();
    assert!(said.contains("kept: standard input is empty"), "{said}");
}

#[test]
fn bombs_go_off_inside() {
    let world = World::new();
    let limit = |options: &[&str], wish: &[&str]| {
        let (code, said) = world.wish(options, wish);
        assert!(code == 1 && said.starts_with("kept: "), "{wish:?}: {code} {said}");
        let number: u64 = said.split_whitespace().nth(1).unwrap().parse().unwrap();
        number
    };
    assert!(limit(&["--memory", "96"], &["memory"]) < 96);
    assert!(limit(&["--processes", "20"], &["threads"]) < 20);
    assert!(limit(&[], &["tmp"]) <= 16);
    let out = world.path("out");
    let bind = ["--bind-rw", out.to_str().unwrap(), "/out", "--file-size", "8"];
    assert_eq!(limit(&bind, &["file"]), 8);
    for wish in [["fork"], ["clib-fork"], ["clone"], ["clone3"], ["memfd"], ["shm"]] {
        world.kept(&wish);
    }
}

#[test]
fn no_way_up_or_across() {
    let world = World::new();
    let mut victim = Command::new("sleep").arg("30").spawn().unwrap();
    let pid = victim.id().to_string();
    world.kept(&["ptrace", &pid]);
    world.kept(&["kill", &pid]);
    assert!(victim.try_wait().unwrap().is_none(), "still alive");
    victim.kill().unwrap();
    victim.wait().unwrap();
    for wish in [["mount"], ["unshare"], ["setuid"], ["io_uring"]] {
        world.kept(&wish);
    }
}

#[test]
fn clocks_end_what_does_not_end_itself() {
    let world = World::new();
    let started = Instant::now();
    let (code, _) = world.wish(&["--cpu", "1"], &["spin"]);
    assert_eq!(code, 128 + 9, "killed by the kernel");
    let (code, said) = world.wish(&["--wall", "1"], &["sleep"]);
    assert!(code == 124 && said.contains("killed after 1 s"), "{code} {said}");
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn exit_codes_pass_through() {
    let world = World::new();
    assert_eq!(world.wish(&[], &["exit", "0"]).0, 0);
    assert_eq!(world.wish(&[], &["exit", "10"]).0, 10);
}

/// Processes whose arguments hold this text.
fn running(text: &str) -> Vec<String> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter(|entry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(text)
    })
    .map(|entry| entry.file_name().to_string_lossy().into_owned())
    .filter(|name| name.bytes().all(|b| b.is_ascii_digit()))
    .collect()
}

/// Whether the caller lets go of the leash or kills the jail: nothing inside survives.
#[test]
fn nothing_outlives_its_caller() {
    let world = World::new();
    for kill in [false, true] {
        let mark = format!("pitlane-mark-{}-{kill}", std::process::id());
        let mut jail = world.jail(&["--leash"], &["sleep", &mark]);
        let mut child = jail.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while line.trim() != "sleeping" {
            line.clear();
            assert!(out.read_line(&mut line).unwrap() > 0, "ended early");
        }
        assert_eq!(running(&mark).len(), 2, "the jail and the program");
        if kill {
            child.kill().unwrap();
        } else {
            drop(child.stdin.take());
        }
        child.wait().unwrap();
        // The pipe ends when the last process that holds it is gone.
        out.read_to_string(&mut line).unwrap();
        let gone = Instant::now();
        while !running(&mark).is_empty() {
            assert!(gone.elapsed() < Duration::from_secs(5), "{:?} left", running(&mark));
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Refused, with the reason, where the world cannot be had; the program never starts.
#[test]
fn no_jail_no_run() {
    let world = World::new();
    // As on a machine, or in a container, that hands out no namespaces: the limit counts for this
    // one world.
    let mut poor = Command::new("unshare");
    poor.args(["--user", "--map-root-user", "sh", "-c"]);
    poor.arg("echo 0 >/proc/sys/user/max_net_namespaces && exec \"$@\"").arg("sh");
    let jail = world.jail(&[], &["id"]);
    poor.arg(jail.get_program()).args(jail.get_args()).stdin(Stdio::null());
    let run = poor.output().unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(!run.status.success() && run.stdout.is_empty(), "{said}");
    assert!(
        said.contains("network namespace") && said.contains("run the service as root"),
        "{said}"
    );
    // A root that is not there, and a program that is not in it.
    let mut absent = Command::new(world.path("pitlane"));
    absent.args(["jail", "--root", "/nowhere", "--", "/bin/hostile"]);
    assert!(!absent.output().unwrap().status.success());
    let mut other = Command::new(world.path("pitlane"));
    other.args(["jail", "--root"]).arg(world.path("root")).args(["--", "/bin/none"]);
    let run = other.output().unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(!run.status.success() && said.contains("`/bin/none`"), "{said}");
}
