//! Step 6: the laps that the policy asks for, and how evidence is taken from a statement.

use serde::de::DeserializeOwned;

use super::{Notes, SignedRelease, Step};
use crate::{
    Digest,
    bundle::{Bundle, Signed},
    evidence::{Evidence, Question},
    lap::{Drive, LAP, Lap, TestResult},
    policy::{DriveRules, LapRules, Policy},
    refusal::Refusal,
    statement::Statement,
};

/// The statements of this type that the release names: each must be the bytes that were named,
/// signed by a key of the policy (after a rotation, not always the one that signed the release).
/// A statement that is named and was not served is missing, and so is one that the release does
/// not name, wherever it may lie.
pub(super) fn named_statement<P: DeserializeOwned>(
    policy: &Policy,
    signed: &SignedRelease<'_>,
    evidence: &Evidence,
    kind: &str,
    what: &'static str,
) -> Step<Vec<Statement<P>>> {
    let release = &signed.statement.predicate;
    let mut found = Vec::new();
    for named in release.evidence.iter().filter(|named| named.predicate_type == kind) {
        let Some(bytes) = evidence.named.get(&named.digest) else {
            return Err((what, Refusal::NoEvidence(what)));
        };
        if Digest::of(bytes) != named.digest {
            let want = named.digest;
            return Err((what, Refusal::Altered { what: "evidence", want }));
        }
        let altered = |why: String| (what, Refusal::AlteredStatement(why));
        let bundle = Bundle::parse(bytes).map_err(|error| altered(error.to_string()))?;
        match bundle.verify(policy.keys()) {
            Signed::By(_, payload) => {
                let statement = Statement::parse(payload, kind);
                found.push(statement.map_err(|error| altered(error.to_string()))?);
            }
            Signed::Altered => return Err(altered("the signature does not fit".into())),
            Signed::ByNobodyKnown => return Err((what, Refusal::WrongSigner)),
        }
    }
    if found.is_empty() {
        return Err((what, Refusal::NoEvidence(what)));
    }
    Ok(found)
}

pub(super) fn check(
    policy: &Policy,
    rules: &DriveRules,
    question: &Question<'_>,
    signed: &SignedRelease<'_>,
    evidence: &Evidence,
    notes: &mut Notes,
) -> Step<()> {
    let Some(want) = &rules.laps else { return Ok(()) };
    let release = &signed.statement.predicate;
    let laps = named_statement::<Lap>(policy, signed, evidence, LAP, "lap")?;
    let manifest = release.platforms.get(&question.platform);
    let mine = laps.iter().find(|statement| {
        let lap = &statement.predicate;
        manifest.is_some_and(|m| statement.is_about(m) && lap.speaks_for(question.platform, m))
            && lap.model == release.model.digest
            // A lap lent from a release that no longer exists would name a manifest that is
            // not one of this release.
            && release.platforms.get(&lap.platform) == Some(&lap.manifest)
    });
    let Some(statement) = mine else { return Err(("lap", Refusal::LapOfAnotherImage)) };
    let lap = &statement.predicate;
    if lap.result != TestResult::Passed || !lap.failed_tests.is_empty() {
        let why = format!("failed: {}", lap.failed_tests.join(", "));
        return Err(("lap", Refusal::LapFailed(why)));
    }
    for track in &want.tracks {
        let drives = lap.drives.iter().filter(|drive| drive.track == *track);
        let verdicts: Vec<_> = drives.map(|drive| suffices(drive, want)).collect();
        match verdicts.iter().find_map(|verdict| verdict.as_ref().err()) {
            Some(why) => return Err(("lap", Refusal::LapFailed(format!("{track}: {why}")))),
            None if verdicts.is_empty() => {
                let why = format!("nobody drove {track}");
                return Err(("lap", Refusal::LapFailed(why)));
            }
            None => {}
        }
    }
    let worst = lap.drives.iter().map(|drive| drive.max_abs_cte_m).fold(0.0, f64::max);
    let found = format!("{} drives passed, never further than {worst:.2} m off", lap.drives.len());
    notes.pass("lap", found);
    Ok(())
}

/// Whether a drive is good enough. Judged by the numbers: the twin's own `passed` only adds to it.
fn suffices(drive: &Drive, want: &LapRules) -> Result<(), String> {
    if drive.laps < want.min_laps {
        return Err(format!("{} laps, want {}", drive.laps, want.min_laps));
    }
    if drive.off_road || drive.hits > 0 {
        let left = if drive.off_road { "left the road" } else { "stayed on the road" };
        return Err(format!("{left}, hit something {}×", drive.hits));
    }
    if !drive.passed {
        return Err("the twin did not call it passed".into());
    }
    if !drive.lock_step {
        return Err("not driven in lock step, so it may not repeat".into());
    }
    let limit = want.max_abs_cte_m.unwrap_or(drive.road_half_width_m);
    // Written so that a NaN fails.
    if drive.max_abs_cte_m <= limit {
        return Ok(());
    }
    Err(format!("{:.2} m from the centre line, at most {limit:.2}", drive.max_abs_cte_m))
}
