//! A program for the tests of the launcher, compiled statically by them: it tells what it sees
//! from inside, tries what must not work, and then does as its arguments say.

use std::{fs, io::Write, process, thread, time};

extern "C" {
    fn unshare(flags: i32) -> i32;
    fn socket(family: i32, kind: i32, protocol: i32) -> i32;
    fn signal(number: i32, handler: usize) -> usize;
    fn _exit(status: i32) -> !;
}

extern "C" fn bye(_: i32) {
    // SAFETY: allowed in a signal handler.
    unsafe { _exit(42) }
}

fn main() {
    let now = time::SystemTime::now().duration_since(time::UNIX_EPOCH).unwrap();
    println!("main={}", now.as_nanos());
    let args: Vec<String> = std::env::args().skip(1).collect();
    println!("args={}", args.join(" "));
    for (name, value) in std::env::vars() {
        println!("env {name}={value}");
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    for line in status.lines().filter(|l| ["Uid", "Gid", "Groups", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp:"].iter().any(|k| l.starts_with(k))) {
        println!("{}", line.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    for path in ["/x", "/bin/probe", "/proc/sys/kernel/hostname", "/sys/x", "/run/pitlane/x", "/tmp/x", "/data/x", "/ro/x"] {
        let result = fs::OpenOptions::new().write(true).create(true).open(path);
        println!("write {path}={}", result.map_or_else(|e| format!("{:?}", e.kind()), |_| "ok".into()));
    }
    let interfaces = fs::read_to_string("/proc/net/dev").unwrap();
    let names: Vec<&str> = interfaces.lines().skip(2).filter_map(|l| l.split(':').next()).map(str::trim).collect();
    println!("net={}", names.join(","));
    println!("fill={:?}", fs::write("/run/pitlane/big", vec![1; 8 << 20]).map_err(|e| e.kind()).unwrap_err());
    fs::remove_file("/run/pitlane/big").unwrap();
    println!("pid={}", process::id());
    println!("golden={}", fs::read_to_string("/run/pitlane/golden.json").unwrap_or_default());
    println!("ro={}", fs::read_to_string("/ro/hello").unwrap_or_default());
    println!("limits={}", fs::read_to_string("/proc/self/limits").unwrap().lines().filter(|l| l.starts_with("Max open") || l.starts_with("Max core")).map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join(";"));
    // SAFETY: plain calls of the C library with numbers.
    unsafe {
        println!("unshare={} alg={}", unshare(0x1000_0000), socket(38, 5, 0));
    }
    std::io::stdout().flush().unwrap();
    match args.first().map(String::as_str) {
        Some("exit") => process::exit(args[1].parse().unwrap()),
        Some("drive") => {
            let handler = bye as extern "C" fn(i32) as usize;
            // SAFETY: SIGTERM is ignored, or ends the program with a status that shows it came.
            unsafe { signal(15, if args[1] == "stubborn" { 1 } else { handler }) };
            for n in 0.. {
                fs::write("/run/pitlane/t", format!("{{\"state\":\"driving\",\"frames\":{n},\"loop_hz\":20.0}}")).unwrap();
                fs::rename("/run/pitlane/t", "/run/pitlane/status.json").unwrap();
                thread::sleep(time::Duration::from_millis(100));
            }
        }
        Some("threads") => {
            let made = (0..500).filter(|_| thread::Builder::new().spawn(|| thread::sleep(time::Duration::from_secs(5))).is_ok()).count();
            println!("threads={made}");
            process::exit(0);
        }
        Some("eat") => {
            let mut all = Vec::new();
            for n in 0..200 {
                all.push(vec![n as u8 | 1; 1 << 20]);
            }
            println!("ate={}", all.len());
        }
        _ => {}
    }
}
