//! Step 4: is this release for this car, and now, and by the run that it should be? And who built
//! it (step 6, provenance).

use super::{
    Case, Notes, SignedRelease, Step, failed,
    laps::{Sought, named_statement},
};
use crate::{
    evidence::Question,
    policy::DriveRules,
    provenance::{BUILD_TYPE, DOCKERFILE_BUILD_TYPE, PROVENANCE, Provenance},
    refusal::Refusal,
    statement::Release,
};

/// How far the pipeline's clock may be ahead of the car's (seconds).
const CLOCK_SKEW_S: i64 = 300;
/// Seconds of a day.
const DAY_S: i64 = 86_400;

pub(super) fn check(
    rules: &DriveRules,
    question: &Question<'_>,
    release: &Release,
    notes: &mut Notes,
) -> Step<()> {
    let source = &release.source;
    let trusted = list(rules.sources.iter().map(|rule| &rule.repository));
    let Some(rule) = rules.sources.iter().find(|rule| rule.repository == source.repository) else {
        let refusal = Refusal::WrongSource(source.repository.to_string());
        return Err(failed("source", trusted, refusal));
    };
    let found = format!("{} {} {}", source.repository, source.tag, source.commit);
    notes.pass("source", trusted, found);

    let kinds = list(&rule.car_kinds);
    if !rule.car_kinds.contains(&release.car_kind) {
        return Err(failed("kind", kinds, Refusal::WrongKind(release.car_kind.to_string())));
    }
    notes.pass("kind", kinds, release.car_kind.to_string());

    let platform = question.platform;
    let allowed = rules.platforms.as_ref().is_none_or(|list| list.contains(&platform));
    if !allowed || !release.platforms.contains_key(&platform) {
        let found = match allowed {
            true => format!("it has {}", list(release.platforms.keys())),
            false => "the policy does not allow that platform".into(),
        };
        let refusal = Refusal::WrongPlatform(platform, found);
        return Err(failed("platform", platform.to_string(), refusal));
    }
    notes.pass("platform", platform.to_string(), platform.to_string());

    let floor = crate::Floor(question.floor.0.max(rules.minimum_counter));
    let wanted = format!("{} or more", floor.0);
    if !floor.admits(release.counter) {
        return Err(failed("counter", wanted, Refusal::Rollback(release.counter, floor)));
    }
    notes.pass("counter", wanted, format!("{}, the floor is {}", release.counter, floor.0));
    time(rules, question, release, notes)
}

fn time(
    rules: &DriveRules,
    question: &Question<'_>,
    release: &Release,
    notes: &mut Notes,
) -> Step<()> {
    let (issued, now) = (release.issued_at, question.now);
    let wanted = match (rules.require_expiry, rules.max_age_days) {
        (true, Some(days)) => format!("an expiry after {now}, at most {days} days old"),
        (true, None) => format!("an expiry after {now}"),
        (false, Some(days)) => format!("not expired at {now}, at most {days} days old"),
        (false, None) => format!("not expired at {now}"),
    };
    let fail = |refusal| failed("time", wanted.clone(), refusal);
    if issued.as_second() > now.as_second() + CLOCK_SKEW_S {
        return Err(fail(Refusal::NotYetValid(issued.to_string())));
    }
    if let Some(days) = rules.max_age_days
        && now.as_second() - issued.as_second() > i64::from(days) * DAY_S
    {
        let why = format!("it was issued at {issued}, more than {days} days ago");
        return Err(fail(Refusal::TooOld(why)));
    }
    let found = match release.expires_at {
        Some(end) if end <= now => return Err(fail(Refusal::Expired(end.to_string()))),
        None if rules.require_expiry => {
            let why = "the time of issue: the policy wants an expiry, it has none".into();
            return Err(fail(Refusal::Expired(why)));
        }
        Some(end) => format!("issued {issued}, expires {end}"),
        None => format!("issued {issued}, does not expire"),
    };
    notes.pass("time", wanted, found);
    Ok(())
}

/// The run that signed, when the policy asks for one.
pub(super) fn workflow(
    rules: &DriveRules,
    signed: &SignedRelease<'_>,
    notes: &mut Notes,
) -> Step<()> {
    let Some(want) = &rules.workflow else { return Ok(()) };
    let source = &signed.statement.predicate.source;
    let wanted = match want.own_tag {
        true => format!("a run of {} for {}", want.repositories.join(" or "), source.tag),
        false => format!("a run of {}", want.repositories.join(" or ")),
    };
    let fail = |why: String| Err(failed("workflow", wanted.clone(), Refusal::WrongWorkflow(why)));
    let Some(run) = &signed.workflow else {
        return fail("its signer is no CI run".into());
    };
    let shown = |found: &Option<String>| found.clone().unwrap_or_else(|| "nothing".into());
    let among = |list: &[String], found: &Option<String>| {
        found.as_ref().is_some_and(|found| list.contains(found))
    };
    if !among(&want.repositories, &run.repository) {
        return fail(format!("of `{}`", shown(&run.repository)));
    }
    if want.triggers.as_ref().is_some_and(|list| !among(list, &run.trigger)) {
        return fail(format!("started by `{}`", shown(&run.trigger)));
    }
    if want.runners.as_ref().is_some_and(|list| !among(list, &run.runner)) {
        return fail(format!("on a `{}` machine", shown(&run.runner)));
    }
    if want.own_tag {
        // Else a run of one listed repository could release for another.
        let own = run.repository.as_deref().and_then(path_of);
        if own != Some(source.repository.as_str()) {
            let run = shown(&run.repository);
            return fail(format!("of `{run}`, for a release of {}", source.repository));
        }
        let own = format!("refs/tags/{}", source.tag);
        if run.reference.as_ref() != Some(&own) {
            return fail(format!("of `{}`", shown(&run.reference)));
        }
        if run.commit.as_deref() != Some(source.commit.as_str()) {
            return fail(format!("of commit `{}`", shown(&run.commit)));
        }
    }
    let found = format!("{} {}", shown(&run.repository), shown(&run.reference));
    notes.pass("workflow", wanted, found);
    Ok(())
}

/// The path of a repository's URL: `team/car` of `https://github.com/team/car`.
fn path_of(url: &str) -> Option<&str> {
    let (_, path) = url.split_once("://")?.1.split_once('/')?;
    Some(path.trim_end_matches('/').trim_end_matches(".git"))
}

/// The provenance, when the policy asks for one.
pub(super) fn provenance(case: &Case<'_>, notes: &mut Notes) -> Step<()> {
    let Some(want) = &case.rules.provenance else { return Ok(()) };
    let release = case.release();
    let reference = format!("refs/tags/{}", release.source.tag);
    let builders = want.builders.as_ref().map_or("any builder".into(), list);
    let wanted = format!("built by {builders} from {reference}");
    let fail =
        |why: String| Err(failed("provenance", wanted.clone(), Refusal::WrongProvenance(why)));
    let (kind, authorities) = (PROVENANCE, case.policy.authorities.as_slice());
    let sought = Sought { kind, what: "provenance", authorities };
    let found = named_statement::<Provenance>(sought, case)?;
    let manifest = case.manifest();
    let Some(statement) = found.iter().find(|s| manifest.is_some_and(|m| s.is_about(m))) else {
        return fail("it speaks of another image".into());
    };
    let built = &statement.predicate.build_definition;
    if ![BUILD_TYPE, DOCKERFILE_BUILD_TYPE].contains(&built.build_type.as_str()) {
        return fail(format!("build type `{}`", built.build_type));
    }
    let source = &built.external_parameters.source;
    if source.reference != reference {
        return fail(format!("built from `{}`", source.reference));
    }
    // Provenance from before the field was there says it by `uri` alone.
    if source.repository.as_ref().is_some_and(|built| *built != release.source.repository) {
        return fail("built from another repository".into());
    }
    if want.sources.as_ref().is_some_and(|list| !list.contains(&source.uri)) {
        return fail(format!("built from `{}`", source.uri));
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
    notes.pass("provenance", wanted, format!("built by {builder} from {reference}"));
    Ok(())
}

/// Items for people.
fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(" or ")
}
