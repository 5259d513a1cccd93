//! `pitlane base`: packs root file systems into the base layout.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Context as _;
use pitlane_release::Platform;

use crate::assemble::{base, parts};

/// Pack root file systems into the base layout of car images.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The layout is an OCI image layout; the same files give the same digests everywhere. With the lock
that the files were made from, SBOMs of releases list its packages; a file that is not as the lock
says is refused.

Example:
  pitlane base --rootfs linux/amd64=target/base/rootfs/amd64 --lock pipelines/base.lock.yaml \\
      --out target/base/layout")]
pub(super) struct Args {
    /// PLATFORM=DIRECTORY; once for each platform.
    #[arg(long = "rootfs", required = true, value_parser = pair)]
    rootfs: Vec<(Platform, PathBuf)>,
    /// The lock that the root file systems were made from.
    #[arg(long)]
    lock: Option<PathBuf>,
    /// Where the layout goes.
    #[arg(long)]
    out: PathBuf,
}

fn pair(text: &str) -> Result<(Platform, PathBuf), String> {
    let (platform, dir) = text.split_once('=').ok_or("want PLATFORM=DIRECTORY")?;
    Ok((platform.parse().map_err(|e| format!("{e}"))?, dir.into()))
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let rootfs: BTreeMap<_, _> = args.rootfs.into_iter().collect();
    let mut parts = BTreeMap::new();
    if let Some(lock) = &args.lock {
        parts = parts::of_lock(lock)?;
        for platform in rootfs.keys() {
            let shown = lock.display();
            anyhow::ensure!(parts.contains_key(platform), "{shown}: it has no {platform}");
        }
    }
    let index = base::pack(&rootfs, &parts, &args.out)
        .with_context(|| format!("packing the base into {}", args.out.display()))?;
    let mut sizes = serde_json::Map::new();
    for platform in rootfs.keys() {
        let image = base::read(&args.out, *platform)?;
        let bytes: u64 = image.layers.iter().map(|layer| layer.descriptor.size).sum();
        sizes.insert(platform.to_string(), bytes.into());
    }
    super::print_json(&serde_json::json!({ "index": index, "bytes": sizes }))
}
