//! Step 6, the model: the contract that this car asks of it, and the golden frames that its own
//! hardware will have to reproduce.

use super::{
    Case, Notes, Step, failed,
    laps::{Sought, named_statement},
};
use crate::{
    facts::{AttestedModel, MODEL},
    golden::{GOLDEN, GoldenFrames},
    policy::{GoldenRules, ModelRules},
    refusal::Refusal,
};

/// The model by the pipeline's signed word, against the car's own contract.
pub(super) fn contract(case: &Case<'_>, notes: &mut Notes) -> Step<()> {
    let Some(want) = &case.rules.model else { return Ok(()) };
    let authorities = case.policy.authorities.as_slice();
    let sought = Sought { kind: MODEL, what: "model contract", authorities };
    let found = named_statement::<AttestedModel>(sought, case)?;
    let (manifest, model) = (case.manifest(), case.release().model.digest);
    let wanted = asked(want);
    let fail = |why: String| failed("model contract", wanted.clone(), Refusal::ModelContract(why));
    let mine = found.iter().find(|statement| {
        manifest.is_some_and(|manifest| statement.is_about(manifest))
            && statement.predicate.facts.digest == model
    });
    let Some(statement) = mine else {
        return Err(fail("what is said of a model is said of another one".into()));
    };
    let AttestedModel { facts, card } = &statement.predicate;
    suffices(&statement.predicate, want).map_err(&fail)?;
    let found = format!(
        "{}: opset {}, {} weights, {} bytes",
        shown(&card.name),
        facts.opset,
        facts.parameters,
        facts.bytes
    );
    notes.pass("model contract", wanted, found);
    Ok(())
}

fn suffices(found: &AttestedModel, want: &ModelRules) -> Result<(), String> {
    let AttestedModel { facts, card } = found;
    let most = |what: &str, found: u64, limit: Option<u64>| match limit {
        Some(limit) if found > limit => Err(format!("{found} {what}, at most {limit}")),
        _ => Ok(()),
    };
    most("bytes", facts.bytes, want.max_bytes)?;
    most("weights", facts.parameters, want.max_parameters)?;
    if let Some(limit) = want.opset_max.filter(|limit| facts.opset > *limit) {
        return Err(format!("operator set {}, at most {limit}", facts.opset));
    }
    if let Some(list) = &want.operators
        && let Some(name) = facts.operators.keys().find(|name| !list.contains(name))
    {
        return Err(format!("it uses the operator {}", shown(name)));
    }
    if want.pilots.as_ref().is_some_and(|list| !list.contains(&card.pilot)) {
        return Err(format!("it is a {:?} pilot", card.pilot));
    }
    if want.input_shapes.as_ref().is_some_and(|list| !list.contains(&card.input.shape)) {
        return Err(format!("its input is {:?}", card.input.shape));
    }
    if let Some(list) = &want.licenses
        && !card.license.as_ref().is_some_and(|license| list.contains(license))
    {
        let license = card.license.as_deref().map_or_else(|| "none".into(), shown);
        return Err(format!("its licence is {license}"));
    }
    Ok(())
}

/// What is asked of the model, for people.
fn asked(want: &ModelRules) -> String {
    let mut parts = Vec::new();
    if let Some(pilots) = &want.pilots {
        parts.push(format!("pilot {pilots:?}").to_lowercase());
    }
    if let Some(shapes) = &want.input_shapes {
        parts.push(format!("input {shapes:?}"));
    }
    let limits = [
        ("opset", want.opset_max.map(|limit| limit.to_string())),
        ("bytes", want.max_bytes.map(|limit| limit.to_string())),
        ("weights", want.max_parameters.map(|limit| limit.to_string())),
    ];
    for (what, limit) in limits {
        parts.extend(limit.map(|limit| format!("{what} up to {limit}")));
    }
    if let Some(operators) = &want.operators {
        parts.push(format!("only {} operators", operators.len()));
    }
    if let Some(licenses) = &want.licenses {
        parts.push(format!("licence {}", licenses.join(" or ")));
    }
    if parts.is_empty() { "a statement about the model".into() } else { parts.join(", ") }
}

/// The golden frames, when the policy asks for them.
pub(super) fn golden(case: &Case<'_>, notes: &mut Notes) -> Step<Option<GoldenFrames>> {
    let Some(want) = &case.rules.golden else { return Ok(None) };
    let authorities = case.policy.authorities.as_slice();
    let sought = Sought { kind: GOLDEN, what: "golden frames", authorities };
    let found = named_statement::<GoldenFrames>(sought, case)?;
    let (manifest, model) = (case.manifest(), case.release().model.digest);
    let wanted = match want.max_tolerance {
        Some(limit) => format!("answers to reproduce within {limit} or less"),
        None => "answers to reproduce".into(),
    };
    let fail = |why: String| failed("golden frames", wanted.clone(), Refusal::GoldenFrames(why));
    let mine = found.into_iter().find(|statement| {
        manifest.is_some_and(|manifest| statement.is_about(manifest))
            && statement.predicate.model == model
    });
    let Some(statement) = mine else {
        return Err(fail("another model answered them".into()));
    };
    let golden = statement.predicate;
    golden.check().map_err(|error| fail(error.to_string()))?;
    comparable(&golden, want).map_err(&fail)?;
    let found = format!("{} frames within {}", golden.frames.len(), golden.tolerance);
    notes.pass("golden frames", wanted, found);
    Ok(Some(golden))
}

fn comparable(golden: &GoldenFrames, want: &GoldenRules) -> Result<(), String> {
    if let Some(limit) = want.max_tolerance.filter(|limit| golden.tolerance > *limit) {
        return Err(format!("it asks for a tolerance of {}, at most {limit}", golden.tolerance));
    }
    let names = want.frames.iter().flatten();
    match names.into_iter().find(|name| !golden.frames.iter().any(|frame| frame.name == **name)) {
        Some(name) => Err(format!("there is no frame `{name}`")),
        None => Ok(()),
    }
}

/// A stranger's name, short.
fn shown(name: &str) -> String {
    name.chars().take(60).collect()
}
