//! How fast a folder is looked through for secrets: `scan_speed FOLDER`.

use std::{
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use pitlane_gates::secrets::{SecretsGate, walk};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("usage: scan_speed FOLDER")?;
    let gate =
        SecretsGate { max_files: 10_000_000, max_total_mib: 1 << 20, ..SecretsGate::default() };
    let started = Instant::now();
    let scan = walk(Path::new(&folder), &gate, started + Duration::from_mins(10))?;
    let seconds = started.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let mib = scan.bytes as f64 / f64::from(1 << 20);
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{} files, {mib:.0} MiB in {seconds:.2} s: {:.0} MiB/s; {} secrets, {} binary, {} cut",
        scan.files,
        mib / seconds,
        scan.secrets.len(),
        scan.binary,
        scan.cut
    )?;
    for (path, secret) in scan.secrets.iter().take(40) {
        writeln!(
            out,
            "{path}:{} {} {} {}",
            secret.line, secret.rule, secret.shown, secret.fingerprint
        )?;
    }
    Ok(())
}
