//! Step 6: the laps and the further evidence that the policy asks for, and how evidence is taken
//! from a statement.

use serde::de::{DeserializeOwned, IgnoredAny};

use super::{Case, Notes, Step, failed, signed_payload};
use crate::{
    Digest,
    lap::{Drive, LAP, Lap, TestResult},
    policy::{Authority, LapRules},
    refusal::Refusal,
    statement::Statement,
};

/// What is looked for among the evidence that a release names.
#[derive(Clone, Copy)]
pub(super) struct Sought<'a> {
    /// The predicate type.
    pub(super) kind: &'a str,
    /// The check, and what is missing when it is.
    pub(super) what: &'static str,
    /// Who may have signed it (after a rotation, not always who signed the release).
    pub(super) authorities: &'a [Authority],
}

/// The statements of this type that the release names: each must be the bytes that were named,
/// signed by one of the authorities. A statement that is named and was not served is missing, and
/// so is one that the release does not name, wherever it may lie.
pub(super) fn named_statement<P: DeserializeOwned>(
    sought: Sought<'_>,
    case: &Case<'_>,
) -> Step<Vec<Statement<P>>> {
    let Sought { kind, what, authorities } = sought;
    let (release, evidence) = (case.release(), case.evidence);
    let fail = |refusal| failed(what, wanted(sought), refusal);
    let mut found = Vec::new();
    for named in release.evidence.iter().filter(|named| named.predicate_type == kind) {
        let Some(bytes) = evidence.named.get(&named.digest) else {
            return Err(fail(Refusal::NoEvidence(what)));
        };
        if Digest::of(bytes) != named.digest {
            let want = named.digest;
            return Err(fail(Refusal::Altered { what: "evidence", want }));
        }
        let altered = |why: String| fail(Refusal::AlteredStatement(why));
        let payload = signed_payload(authorities, bytes).map_err(fail)?;
        let statement = Statement::parse(&payload, kind);
        found.push(statement.map_err(|error| altered(error.to_string()))?);
    }
    if found.is_empty() {
        return Err(fail(Refusal::NoEvidence(what)));
    }
    Ok(found)
}

fn wanted(sought: Sought<'_>) -> String {
    let names: Vec<String> =
        sought.authorities.iter().map(|authority| format!("`{}`", authority.name)).collect();
    format!("{} by {}", sought.kind, names.join(" or "))
}

pub(super) fn check(case: &Case<'_>, notes: &mut Notes) -> Step<()> {
    let Some(want) = &case.rules.laps else { return Ok(()) };
    let (release, platform) = (case.release(), case.question.platform);
    let sought = Sought { kind: LAP, what: "lap", authorities: case.policy.lap_authorities() };
    let laps = named_statement::<Lap>(sought, case)?;
    let manifest = case.manifest();
    let mine = laps.iter().find(|statement| {
        let lap = &statement.predicate;
        manifest.is_some_and(|m| statement.is_about(m) && lap.speaks_for(platform, m))
            && lap.model == release.model.digest
            // A lap lent from a release that no longer exists would name a manifest that is
            // not one of this release.
            && release.platforms.get(&lap.platform) == Some(&lap.manifest)
    });
    let wanted = asked(want);
    let Some(statement) = mine else {
        return Err(failed("lap", "a lap of this very image", Refusal::LapOfAnotherImage));
    };
    let lap = &statement.predicate;
    let fail = |why| failed("lap", wanted.clone(), Refusal::LapFailed(why));
    if lap.result != TestResult::Passed || !lap.failed_tests.is_empty() {
        return Err(fail(format!("failed: {}", lap.failed_tests.join(", "))));
    }
    for track in &want.tracks {
        let drives: Vec<_> = lap.drives.iter().filter(|drive| drive.track == *track).collect();
        if drives.is_empty() {
            return Err(fail(format!("nobody drove {track}")));
        }
        if let Some(why) = drives.iter().find_map(|drive| suffices(drive, want).err()) {
            return Err(fail(format!("{track}: {why}")));
        }
        let with = |seed: &&u64| drives.iter().any(|drive| drive.seed == **seed);
        if let Some(seed) = want.seeds.iter().find(|seed| !with(seed)) {
            return Err(fail(format!("{track}: nobody drove it with seed {seed}")));
        }
    }
    let worst = lap.drives.iter().map(|drive| drive.max_abs_cte_m).fold(0.0, f64::max);
    let found = format!("{} drives passed, never further than {worst:.2} m off", lap.drives.len());
    notes.pass("lap", wanted, found);
    Ok(())
}

/// What is asked of laps, for people.
fn asked(want: &LapRules) -> String {
    let laps = format!("{} laps on {}", want.min_laps, want.tracks.join(" and "));
    let seeds: Vec<String> = want.seeds.iter().map(u64::to_string).collect();
    let seeds =
        if seeds.is_empty() { String::new() } else { format!(", seeds {}", seeds.join(", ")) };
    match want.max_abs_cte_m {
        Some(limit) => format!("{laps}{seeds}, within {limit} m"),
        None => format!("{laps}{seeds}, on the road"),
    }
}

/// Further evidence: named, signed, and about this very image.
pub(super) fn further(case: &Case<'_>, notes: &mut Notes) -> Step<()> {
    let manifest = case.manifest();
    for kind in &case.rules.evidence {
        let sought = Sought { kind, what: "evidence", authorities: &case.policy.authorities };
        let found = named_statement::<IgnoredAny>(sought, case)?;
        if !found.iter().any(|one| manifest.is_some_and(|manifest| one.is_about(manifest))) {
            return Err(failed("evidence", wanted(sought), Refusal::OtherImage));
        }
        notes.pass("evidence", wanted(sought), format!("{kind} about this image"));
    }
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
    if let Some(limit) = want.max_mean_abs_cte_m
        && !within(drive.mean_abs_cte_m, limit)
    {
        let mean = drive.mean_abs_cte_m;
        return Err(format!("{mean:.3} m from the centre line in the mean, at most {limit:.3}"));
    }
    let limit = want.max_abs_cte_m.unwrap_or(drive.road_half_width_m);
    if within(drive.max_abs_cte_m, limit) {
        return Ok(());
    }
    Err(format!("{:.2} m from the centre line, at most {limit:.2}", drive.max_abs_cte_m))
}

/// Written so that a NaN is not within.
fn within(found: f64, limit: f64) -> bool {
    found <= limit
}
