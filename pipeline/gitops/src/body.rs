//! What a pull request says: everything that a reviewer needs, and a mark to read it by.

use std::fmt::Write as _;

use pitlane_release::Counter;

use crate::{Candidate, Environment, Record};

/// Most drives shown.
const MAX_DRIVES: usize = 12;
/// How much of a body is searched for the mark (bytes): forges end bodies at 64 KiB.
const MAX_BODY: usize = 256 * 1024;
/// What the mark begins with; forges do not show comments.
const MARK: &str = "<!-- pitlane counter=";

/// The body of a pull request.
pub(crate) fn body(
    candidate: &Candidate,
    environment: &Environment,
    from: &str,
    previous: Option<&Record>,
) -> String {
    let Candidate { image, counter, .. } = candidate;
    let mut text = format!("Promotes `{}` to `{}`.\n\n", candidate.tag, environment.name);
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "| {name} | {value} |");
    };
    row("", String::new());
    row("---", "---".into());
    row("Car", code(candidate.car_kind.as_str()));
    row("Tag", code(candidate.tag.as_str()));
    row("Commit", format!("{} of {}", code(&candidate.commit), code(candidate.source.as_str())));
    row("Counter", counter.to_string());
    row("Image", code(image));
    for (platform, digest) in &candidate.platforms {
        row(&format!("Image for {platform}"), code(digest));
    }
    row("Model", code(candidate.model));
    row("Run", code(&candidate.run));
    row("Changes", code(&environment.target));
    row("Before", code(from));
    if let Some(previous) = previous {
        let said = format!("{}, counter {}", code(&previous.image), previous.counter);
        row("Previous release", said);
    }
    if candidate.rollback {
        text.push_str("\nThis is a rollback: an old image with a new statement.\n");
    }
    laps(&mut text, candidate);
    let kind = &candidate.car_kind;
    let _ = write!(
        text,
        "\n### Check it\n\n```\npitlane-verifier check {image} --policy policies/{kind}.yaml\n\
         cosign verify --key release.pub {image}\npitlane reproduce {image}\n```\n\n\
         Merging promotes it; closing refuses this release, and a newer one opens another.\n\
         {MARK}{counter} image={image} -->\n"
    );
    text
}

fn laps(text: &mut String, candidate: &Candidate) {
    if candidate.drives.is_empty() {
        return;
    }
    text.push_str("\n### Laps in the twin\n\n");
    text.push_str(
        "| Track | Seed | Laps | Best lap (s) | Mean off centre (m) | Left the road | Passed |\n",
    );
    text.push_str("|---|---|---|---|---|---|---|\n");
    for drive in candidate.drives.iter().take(MAX_DRIVES) {
        let best = drive.lap_times_s.iter().copied().reduce(f64::min);
        let best = best.map_or_else(|| "-".into(), |best| format!("{best:.2}"));
        let yes = |it: bool| if it { "yes" } else { "no" };
        let _ = writeln!(
            text,
            "| {} | {} | {} of {} | {best} | {:.3} | {} | {} |",
            code(&drive.track),
            drive.seed,
            drive.laps,
            drive.laps_wanted,
            drive.mean_abs_cte_m,
            yes(drive.off_road),
            yes(drive.passed),
        );
    }
    if candidate.drives.len() > MAX_DRIVES {
        let _ =
            writeln!(text, "\n{} more in the attestation.", candidate.drives.len() - MAX_DRIVES);
    }
}

/// A value that cannot be taken for Markdown or HTML.
fn code(value: impl std::fmt::Display) -> String {
    let plain = |c: char| if c.is_control() || "`|<>".contains(c) { '?' } else { c };
    let text: String = value.to_string().chars().take(400).map(plain).collect();
    format!("`{text}`")
}

/// The counter of the release that a body of ours promotes.
pub(crate) fn counter_of(body: &str) -> Option<Counter> {
    let body = body.get(..MAX_BODY).unwrap_or(body);
    let after = &body[body.rfind(MARK)? + MARK.len()..];
    Counter::new(after.split(' ').next()?.parse().ok()?)
}
