//! Runs and their steps as text for a terminal.

use std::fmt::Write as _;

use super::{
    progress::Transfer,
    store::{Car, Placed, Run, StepOutcome, StepRecord},
};

/// Messages and outputs are shown up to this many characters.
const SHOWN: usize = 2_000;

/// The time of a column, to the second, UTC.
fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms)
        .map_or_else(|_| "?".to_owned(), |at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
}

fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|t| t.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|c| width(c).unwrap_or(0)).collect();
    let mut out = String::new();
    for row in rows {
        let line: Vec<String> =
            row.iter().zip(&widths).map(|(text, &width)| format!("{text:width$}")).collect();
        out.push_str(line.join("  ").trim_end());
        out.push('\n');
    }
    out
}

/// A table of runs, one a line, newest first.
pub fn render_runs(runs: &[Run]) -> String {
    let head = ["RUN", "STATE", "REPOSITORY", "TAG", "COUNTER", "UPDATED", "NOTE"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for run in runs {
        let mut note = String::new();
        if run.rollback {
            note.push_str("rollback ");
        }
        if let (Some(step), Some(error)) = (run.failed_step, &run.error) {
            let _ = write!(note, "{}: {}", step.name(), printable(&error.message, 100));
        }
        rows.push(vec![
            run.id.clone(),
            run.state.name().to_owned(),
            run.repository.clone(),
            run.tag.clone(),
            run.counter.to_string(),
            time(run.updated),
            note,
        ]);
    }
    table(&rows)
}

/// One run, a field a line.
pub fn render_run(run: &Run) -> String {
    let mut rows = vec![
        ("run", run.id.clone()),
        ("state", run.state.name().to_owned()),
        ("repository", run.repository.clone()),
        ("tag", run.tag.clone()),
        ("commit", run.commit.clone().unwrap_or_else(|| "not told; see checkout".to_owned())),
        ("pipeline", run.pipeline.clone()),
        ("car kind", run.car_kind.clone()),
        ("counter", run.counter.to_string()),
        ("created", time(run.created)),
        ("updated", time(run.updated)),
    ];
    if run.rollback {
        rows.push(("rollback", "yes".to_owned()));
    }
    if let (Some(step), Some(error)) = (run.failed_step, &run.error) {
        rows.push(("failed in", step.name().to_owned()));
        rows.push(("error", format!("{} ({})", printable(&error.message, SHOWN), error.code)));
        if !error.hint.is_empty() {
            rows.push(("hint", printable(&error.hint, SHOWN)));
        }
        rows.push(("next", format!("pitlane runs retry {}", run.id)));
    }
    table(&rows.into_iter().map(|(key, value)| vec![key.to_owned(), value]).collect::<Vec<_>>())
}

/// The journal of a run: one line an attempt, with what it left or why it failed.
pub fn render_steps(steps: &[StepRecord]) -> String {
    let mut out = String::new();
    for record in steps {
        let took = record.finished.map(|end| format!("{} ms", (end - record.started).max(0)));
        let outcome = match record.outcome {
            StepOutcome::Running => "running",
            StepOutcome::Done => "done",
            StepOutcome::Failed => "failed",
            StepOutcome::Interrupted => "interrupted",
        };
        let (name, attempt) = (record.step.name(), record.attempt);
        let took = took.unwrap_or_default();
        let _ =
            writeln!(out, "{}  {name:9} #{attempt}  {outcome:11}  {took}", time(record.started));
        if let Some(error) = &record.error {
            let _ = writeln!(out, "    {}: {}", error.code, printable(&error.message, SHOWN));
            if !error.hint.is_empty() {
                let _ = writeln!(out, "    hint: {}", printable(&error.hint, SHOWN));
            }
        }
        if let Some(output) = record.output.as_ref().filter(|output| !output.is_null()) {
            let _ = writeln!(out, "    {}", printable(&output.to_string(), SHOWN));
        }
    }
    out
}

/// How a release stands in each environment.
pub fn render_places(places: &[Placed]) -> String {
    let mut rows = vec![["ENVIRONMENT", "COUNTER", "STANDS", "SINCE"].map(str::to_owned).to_vec()];
    for place in places {
        let text = |pointer: &str| place.progress.pointer(pointer).and_then(|v| v.as_str());
        let stands = match (text("/promotion/outcome"), text("/error")) {
            (Some(outcome), _) => outcome.to_owned(),
            (_, Some(error)) => printable(error, 100),
            _ if place.progress["waits"].is_null() => "held".to_owned(),
            _ => format!("waits: {}", printable(&place.progress["waits"].to_string(), 100)),
        };
        let (name, counter) = (place.environment.clone(), place.counter.to_string());
        rows.push(vec![name, counter, stands, time(place.time)]);
    }
    table(&rows)
}

/// What each car said last.
pub fn render_cars(cars: &[Car]) -> String {
    let head = ["PIPELINE", "ENVIRONMENT", "CAR", "STATE", "COUNTER", "SAID", "NOTE"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for car in cars {
        let state = serde_json::to_value(car.status.state).unwrap_or_default();
        let counter = car.status.counter.map(|n| n.to_string()).unwrap_or_default();
        rows.push(vec![
            car.pipeline.clone(),
            car.environment.clone(),
            car.car.clone(),
            state.as_str().unwrap_or_default().to_owned(),
            counter,
            time(car.time),
            printable(car.status.message.as_deref().unwrap_or_default(), 100),
        ]);
    }
    table(&rows)
}

/// One event of a run that is followed.
pub fn render_event(name: &str, data: &str) -> String {
    let record = serde_json::from_str::<StepRecord>(data).ok().filter(|_| name == "step");
    let run = serde_json::from_str::<Run>(data).ok().filter(|_| name == "run");
    match (record, run, name) {
        (Some(record), ..) => render_steps(std::slice::from_ref(&record)),
        (_, Some(run), _) => format!("{}  {} is {}\n", time(run.updated), run.id, run.state.name()),
        (.., "progress") => serde_json::from_str::<Transfer>(data)
            .map_or_else(|_| String::new(), |transfer| format!("\r{}", render_transfer(&transfer))),
        (.., "end") => String::new(),
        _ => format!("{}\n", printable(data, SHOWN)),
    }
}

/// A transfer as a bar; its line ends once it is whole.
pub fn render_transfer(transfer: &Transfer) -> String {
    const WIDTH: u64 = 30;
    let Transfer { step, done, total } = transfer;
    let part = if *total == 0 { WIDTH } else { (done * WIDTH / total).min(WIDTH) };
    let part = usize::try_from(part).unwrap_or(0);
    let bar = format!("{}{}", "#".repeat(part), ".".repeat(30 - part));
    let end = if done >= total { "\n" } else { "" };
    format!("  {step:9} [{bar}] {} of {} KiB{end}", done / 1024, total / 1024)
}

/// Text for a terminal: no control characters, so that no step's message can move its cursor.
fn printable(text: &str, max: usize) -> String {
    let clean = |c: char| if c.is_control() && c != '\n' { '\u{fffd}' } else { c };
    let mut shown: String = text.chars().map(clean).take(max).collect();
    if text.chars().count() > max {
        shown.push('…');
    }
    shown.replace('\n', "\n    ")
}
