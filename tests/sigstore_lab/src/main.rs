//! `pitlane-sigstore-lab`: the instance as a program, for scripts and trials by hand.

use std::{io::Write as _, path::PathBuf};

use anyhow::Context as _;
use pitlane_sigstore_lab::{Lab, REQUEST_TOKEN};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let folder = match (arguments.next(), arguments.next(), arguments.next()) {
        (Some(option), Some(folder), None) if option == "--dir" => PathBuf::from(folder),
        _ => anyhow::bail!("usage: pitlane-sigstore-lab --dir OUT"),
    };
    let lab = Lab::start(&folder)?;
    let addresses = lab.addresses();
    // One line, which says that it is ready.
    let line = serde_json::json!({
        "listening": true,
        "issuer": addresses.issuer,
        "personToken": format!("{}/token?email=", addresses.issuer),
        "actionsTokenUrl": format!("{}/actions/token?api-version=2.0", addresses.issuer),
        "actionsToken": REQUEST_TOKEN,
        "authority": addresses.authority,
        "log": addresses.log,
        "oldLog": addresses.old_log,
        "stamper": addresses.stamper,
        "trustedRoot": lab.trusted_root(),
        "signingConfig": lab.signing_config(),
        "oldSigningConfig": lab.old_signing_config(),
    });
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").context("stdout")?;
    stdout.flush()?;
    // Until it is ended.
    loop {
        std::thread::park();
    }
}
