//! Step 4: is this release for this car, and now? And who built it (step 6, provenance).

use super::{Notes, SignedRelease, Step, laps::named_statement};
use crate::{
    evidence::{Evidence, Question},
    policy::{DriveRules, Policy},
    provenance::{BUILD_TYPE, PROVENANCE, Provenance},
    refusal::Refusal,
    statement::Release,
};

/// How far the pipeline's clock may be ahead of the car's (seconds).
const CLOCK_SKEW_S: i64 = 300;

pub(super) fn check(
    rules: &DriveRules,
    question: &Question<'_>,
    release: &Release,
    notes: &mut Notes,
) -> Step<()> {
    let source = &release.source;
    let Some(rule) = rules.sources.iter().find(|rule| rule.repository == source.repository) else {
        return Err(("source", Refusal::WrongSource(source.repository.to_string())));
    };
    notes.pass("source", format!("{} {} {}", source.repository, source.tag, source.commit));

    if !rule.car_kinds.contains(&release.car_kind) {
        return Err(("kind", Refusal::WrongKind(release.car_kind.to_string())));
    }
    notes.pass("kind", release.car_kind.to_string());

    let platform = question.platform;
    let allowed = rules.platforms.as_ref().is_none_or(|list| list.contains(&platform));
    if !allowed || !release.platforms.contains_key(&platform) {
        let has: Vec<String> = release.platforms.keys().map(ToString::to_string).collect();
        let found = match allowed {
            true => format!("it has {}", has.join(", ")),
            false => "the policy does not allow that platform".into(),
        };
        return Err(("platform", Refusal::WrongPlatform(platform, found)));
    }
    notes.pass("platform", platform.to_string());

    let floor = crate::Floor(question.floor.0.max(rules.minimum_counter));
    if !floor.admits(release.counter) {
        return Err(("counter", Refusal::Rollback(release.counter, floor)));
    }
    notes.pass("counter", format!("{}, the floor is {}", release.counter, floor.0));

    let issued = release.issued_at;
    if issued.as_second() > question.now.as_second() + CLOCK_SKEW_S {
        return Err(("time", Refusal::NotYetValid(issued.to_string())));
    }
    match release.expires_at {
        Some(end) if end <= question.now => {
            return Err(("time", Refusal::Expired(end.to_string())));
        }
        None if rules.require_expiry => {
            let why = "the time of issue: the policy wants an expiry, it has none".into();
            return Err(("time", Refusal::Expired(why)));
        }
        Some(end) => notes.pass("time", format!("issued {issued}, expires {end}")),
        None => notes.pass("time", format!("issued {issued}, does not expire")),
    }
    Ok(())
}

/// The provenance, when the policy asks for one.
pub(super) fn provenance(
    policy: &Policy,
    rules: &DriveRules,
    question: &Question<'_>,
    signed: &SignedRelease<'_>,
    evidence: &Evidence,
    notes: &mut Notes,
) -> Step<()> {
    let Some(want) = &rules.provenance else { return Ok(()) };
    let fail = |why: String| Err(("provenance", Refusal::WrongProvenance(why)));
    let release = &signed.statement.predicate;
    let found = named_statement::<Provenance>(policy, signed, evidence, PROVENANCE, "provenance")?;
    let manifest = release.platforms.get(&question.platform);
    let Some(statement) = found.iter().find(|s| manifest.is_some_and(|m| s.is_about(m))) else {
        return fail("it speaks of another image".into());
    };
    let built = &statement.predicate.build_definition;
    if built.build_type != BUILD_TYPE {
        return fail(format!("build type `{}`", built.build_type));
    }
    let reference = format!("refs/tags/{}", release.source.tag);
    if built.external_parameters.source.reference != reference {
        return fail(format!("built from `{}`", built.external_parameters.source.reference));
    }
    let commit = release.source.commit.as_str();
    let sourced = built
        .resolved_dependencies
        .iter()
        .any(|dependency| dependency.digest.get("gitCommit").is_some_and(|found| found == commit));
    if !sourced {
        return fail(format!("it does not name commit {commit}"));
    }
    let builder = &statement.predicate.run_details.builder.id;
    if want.builders.as_ref().is_some_and(|list| !list.contains(builder)) {
        return fail(format!("built by `{builder}`"));
    }
    notes.pass("provenance", format!("built by {builder} from {reference}"));
    Ok(())
}
