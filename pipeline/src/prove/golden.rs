//! The candidate's answers to fixed frames, given in the jail: what cars have to reproduce.

use std::fs;
use std::time::Duration;

use pitlane_release::golden::{GoldenFrames, MAX_GOLDEN};
use tokio::time::timeout;

use super::confined::{Cell, Confined, GRACE};
use super::drive::{CAR, described, file, last_words, library, open_root};
use super::{Failure, Prove, ProveError, evidence, twin_root};

/// The code of a candidate without usable answers.
const CODE: &str = "prove-golden";

/// Lets the candidate answer. A candidate that cannot is an answer, too.
pub(super) async fn answers(
    prove: &Prove<'_>,
) -> Result<Result<GoldenFrames, Failure>, ProveError> {
    let scratch = tempfile::Builder::new().prefix("pitlane-golden-").tempdir();
    let scratch = scratch.map_err(file(&std::env::temp_dir(), "written"))?;
    let out = scratch.path().join("out");
    twin_root::shared_dir(&out).map_err(file(&out, "made"))?;
    open_root(prove.rootfs)?;
    let tolerance = prove.scenario.golden_tolerance;
    let command: Vec<String> = [CAR, "golden", "--model", prove.model, "--tolerance"]
        .into_iter()
        .map(str::to_owned)
        .chain([tolerance.to_string(), "--out".into(), "/run/golden.json".into()])
        .chain(library(prove))
        .collect();
    let binds = vec![(out.clone(), "/run", true)];
    let (jail, root, limits) = (&*prove.jail, prove.rootfs, prove.limits);
    let mut car = Confined::start(Cell { jail, root, binds, limits, command }).await?;
    car.ignore_output();
    let deadline = Duration::from_secs(prove.limits.wall_seconds);
    let _ = timeout(deadline, car.wait()).await;
    let (status, said) = car.end(GRACE).await;
    let fail = |why: String| {
        let message = format!("the golden frames were not answered: {why}");
        Ok(Err(Failure { code: CODE.into(), message }))
    };
    if !status.is_some_and(|status| status.success()) {
        return fail(format!("{}: {}", described(status), last_words(&said)));
    }
    let written = out.join("golden.json");
    let bytes = match evidence::read(&written, MAX_GOLDEN) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return fail("it wrote none".into()),
        Err(error) => return fail(error.to_string()),
    };
    let golden = match GoldenFrames::read(&bytes) {
        // How much may differ is the operator's word, not the candidate's.
        Ok(golden) => GoldenFrames { tolerance, ..golden },
        Err(error) => return fail(error.to_string()),
    };
    let kept = prove.evidence_dir.join("golden.json");
    fs::create_dir_all(prove.evidence_dir).map_err(file(prove.evidence_dir, "made"))?;
    fs::write(&kept, &bytes).map_err(file(&kept, "written"))?;
    Ok(Ok(golden))
}
