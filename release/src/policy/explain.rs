//! A policy in plain words, for people who did not write it.

use std::fmt::Write as _;

use super::{Authority, AuthorityRule, DriveRules, Formats, LapRules, Mode, ModelRules, Policy};

/// What the policy asks for, a line each.
pub fn explain(policy: &Policy) -> Vec<String> {
    let globs: Vec<String> = policy.images.iter().map(ToString::to_string).collect();
    let mut lines = vec![
        format!("policy `{}`", policy.name),
        format!("speaks of images {}", globs.join(" and ")),
        match policy.mode {
            Mode::Enforce => "refuses what does not meet it".into(),
            Mode::Warn => {
                "only warns: nothing is stopped, except that a car takes no such policy".into()
            }
        },
    ];
    let any = if policy.authorities.len() > 1 { "any one of these vouches:" } else { "vouches:" };
    lines.push(any.into());
    lines.extend(policy.authorities.iter().map(|one| format!("  - {}", authority(one))));
    match &policy.drive {
        Some(rules) => drive(policy, rules, &mut lines),
        None => lines.push("nothing more: no order, no laps, no source".into()),
    }
    lines
}

fn authority(one: &Authority) -> String {
    let who = match &one.rule {
        AuthorityRule::Static { pass: true, .. } => {
            return format!("`{}`: everything passes", one.name);
        }
        AuthorityRule::Static { pass: false, message } => {
            return format!("`{}`: nothing passes ({message})", one.name);
        }
        AuthorityRule::Key(rule) => {
            let (mut text, key) = (String::new(), rule.key.id());
            if let Some((witness, _)) = &rule.witness {
                text = witnesses(witness.log, witness.stamp) + &by_root(rule.root.as_ref());
            }
            format!("key {key}{text}")
        }
        AuthorityRule::Keyless(rule) => match rule.keyless() {
            Some(keyless) => {
                let names: Vec<String> = keyless
                    .any_of
                    .iter()
                    .map(|identity| format!("{} (attested by {})", identity.san, identity.issuer))
                    .collect();
                let sct = if keyless.sct { "" } else { ", its certificate logged or not" };
                let witnesses = witnesses(keyless.witness.log, keyless.witness.stamp);
                let root = by_root(rule.name.as_ref());
                format!("{}{witnesses}{sct}{root}", names.join(" or "))
            }
            None => "nobody".into(),
        },
    };
    let what = match one.attestations.as_slice() {
        [] => "signs the image".to_owned(),
        kinds => format!("attests {}", kinds.join(" and ")),
    };
    let form = match one.formats {
        Formats::Any => "",
        Formats::Bundle => ", in a bundle",
        Formats::Legacy => ", under a .sig or .att tag",
    };
    format!("`{}`: {who} {what}{form}", one.name)
}

fn by_root(name: Option<&String>) -> String {
    match name {
        Some(name) => format!(" by the trusted root `{name}`,"),
        None => " by the default trusted root,".into(),
    }
}

fn witnesses(log: bool, stamp: bool) -> String {
    match (log, stamp) {
        (true, true) => ", in a transparency log and stamped,".into(),
        (true, false) => ", in a transparency log,".into(),
        (false, true) => ", stamped,".into(),
        (false, false) => String::new(),
    }
}

fn drive(policy: &Policy, rules: &DriveRules, lines: &mut Vec<String>) {
    lines.push("and a release statement by one of them that says:".into());
    for source in &rules.sources {
        let kinds: Vec<String> = source.car_kinds.iter().map(ToString::to_string).collect();
        lines.push(format!("  - from {} for {}", source.repository, kinds.join(" or ")));
    }
    if let Some(platforms) = &rules.platforms {
        let names: Vec<String> = platforms.iter().map(ToString::to_string).collect();
        lines.push(format!("  - on {}", names.join(" or ")));
    }
    lines.push(format!(
        "  - counter {} or more, and not below what the car has confirmed",
        rules.minimum_counter
    ));
    if rules.require_expiry {
        lines.push("  - with an expiry that lies ahead".into());
    }
    if let Some(days) = rules.max_age_days {
        lines.push(format!("  - at most {days} days old"));
    }
    if let Some(run) = &rules.workflow {
        let own = if run.own_tag { ", for the release's own tag and commit" } else { "" };
        let list = |what: &str, list: &Option<Vec<String>>| {
            list.as_ref().map(|list| format!(", {what} {}", list.join(" or "))).unwrap_or_default()
        };
        let (on, by) = (list("on", &run.runners), list("started by", &run.triggers));
        let who = run.repositories.join(" or ");
        lines.push(format!("  - signed by a CI run of {who}{by}{on}{own}"));
    }
    if let Some(laps) = &rules.laps {
        lines.push(format!("  - {}", self::laps(policy, laps)));
    }
    if let Some(provenance) = &rules.provenance {
        let builders = provenance.builders.as_ref();
        let who = builders.map_or("anybody".into(), |list| list.join(" or "));
        let from = provenance.sources.as_ref().map(|list| format!(" from {}", list.join(" or ")));
        let from = from.unwrap_or_default();
        lines.push(format!("  - built by {who}{from}, of its own tag and commit"));
    }
    if let Some(model) = &rules.model {
        lines.push(format!("  - {}", contract(model)));
    }
    if let Some(golden) = &rules.golden {
        let frames = golden.frames.as_ref().map(|list| format!(" to {}", list.join(" and ")));
        let within = golden.max_tolerance.map(|limit| format!(", within {limit} or less"));
        let (frames, within) = (frames.unwrap_or_default(), within.unwrap_or_default());
        lines.push(format!(
            "  - with golden answers{frames}, which the car's own hardware must reproduce{within}"
        ));
    }
    for kind in &rules.evidence {
        lines.push(format!("  - with evidence of type {kind}"));
    }
}

fn contract(model: &ModelRules) -> String {
    let mut text = "with a model".to_owned();
    if let Some(pilots) = &model.pilots {
        let _ = write!(text, ", pilot {}", format!("{pilots:?}").to_lowercase());
    }
    if let Some(shapes) = &model.input_shapes {
        let _ = write!(text, ", input {shapes:?}");
    }
    if let Some(opset) = model.opset_max {
        let _ = write!(text, ", operator set up to {opset}");
    }
    if let Some(operators) = &model.operators {
        let _ = write!(text, ", of operators {}", operators.join(", "));
    }
    if let Some(bytes) = model.max_bytes {
        let _ = write!(text, ", at most {bytes} bytes");
    }
    if let Some(weights) = model.max_parameters {
        let _ = write!(text, ", at most {weights} weights");
    }
    if let Some(licenses) = &model.licenses {
        let _ = write!(text, ", licence {}", licenses.join(" or "));
    }
    text
}

fn laps(policy: &Policy, laps: &LapRules) -> String {
    let mut text =
        format!("drove {} laps or more on {}", laps.min_laps, laps.tracks.join(" and on "));
    let _ = match laps.max_abs_cte_m {
        Some(limit) => write!(text, ", never further than {limit} m from the centre line"),
        None => write!(text, ", never off the road"),
    };
    if let Some(limit) = laps.max_mean_abs_cte_m {
        let _ = write!(text, ", {limit} m in the mean");
    }
    if !laps.seeds.is_empty() {
        let seeds: Vec<String> = laps.seeds.iter().map(u64::to_string).collect();
        let _ = write!(text, ", with each of the seeds {}", seeds.join(", "));
    }
    if !policy.lap_authorities.is_empty() {
        let who: Vec<String> = policy.lap_authorities.iter().map(authority).collect();
        let _ = write!(text, "; laps are signed by {}", who.join(" or "));
    }
    text
}
