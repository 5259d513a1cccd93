//! `GET /metrics` in Prometheus' text format (exposition format 0.0.4), made of the store alone.

use std::fmt::Write as _;

use super::store::Figures;

/// The type of the answer.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The text; `now` is milliseconds since 1970.
pub(super) fn text(figures: &Figures, now: i64) -> String {
    let mut out = String::new();
    let mut family = |name: &str, kind: &str, help: &str, lines: Vec<(String, f64)>| {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in lines {
            let _ = writeln!(out, "{labels} {value}");
        }
    };
    let runs = figures.runs.iter().map(|(pipeline, state, count)| {
        let labels = labels("pitlane_runs", &[("pipeline", pipeline), ("state", state)]);
        (labels, number(*count))
    });
    family("pitlane_runs", "gauge", "Runs by pipeline and state.", runs.collect());
    let steps = |name: &'static str, value: fn(i64, i64) -> f64| {
        let made = figures.steps.iter().map(move |(step, outcome, count, ms)| {
            (labels(name, &[("step", step), ("outcome", outcome)]), value(*count, *ms))
        });
        made.collect::<Vec<_>>()
    };
    let name = "pitlane_step_attempts_total";
    let lines = steps(name, |count, _| number(count));
    family(name, "counter", "Attempts of steps that ended, by outcome.", lines);
    let name = "pitlane_step_seconds_total";
    let lines = steps(name, |_, ms| number(ms) / 1000.0);
    family(name, "counter", "Time of these attempts together.", lines);
    let waited = figures.waiting_since.map_or(0.0, |since| number((now - since).max(0)) / 1000.0);
    for (name, kind, help, value) in [
        ("pitlane_queue_wait_seconds", "gauge", "How long the oldest queued run waits.", waited),
        ("pitlane_deliveries_total", "counter", "Deliveries recorded.", number(figures.deliveries)),
        ("pitlane_alerts", "gauge", "Alerts that stand.", number(figures.alerts)),
    ] {
        family(name, kind, help, vec![(name.to_owned(), value)]);
    }
    out
}

#[expect(clippy::cast_precision_loss, reason = "no count comes near 2^53")]
fn number(value: i64) -> f64 {
    value as f64
}

/// A name with labels, whose values are escaped.
fn labels(name: &str, pairs: &[(&str, &str)]) -> String {
    let escaped =
        |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs: Vec<String> =
        pairs.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
    format!("{name}{{{}}}", pairs.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_as_prometheus_reads_it() {
        let figures = Figures {
            runs: vec![("car".into(), "done".into(), 3), ("a\"b\\\n".into(), "failed".into(), 1)],
            steps: vec![("prove".into(), "done".into(), 2, 4500)],
            waiting_since: Some(1000),
            deliveries: 7,
            alerts: 0,
        };
        let text = text(&figures, 3500);
        for line in [
            "# TYPE pitlane_runs gauge",
            "pitlane_runs{pipeline=\"car\",state=\"done\"} 3",
            "pitlane_runs{pipeline=\"a\\\"b\\\\\\n\",state=\"failed\"} 1",
            "pitlane_step_attempts_total{step=\"prove\",outcome=\"done\"} 2",
            "pitlane_step_seconds_total{step=\"prove\",outcome=\"done\"} 4.5",
            "pitlane_queue_wait_seconds 2.5",
            "pitlane_deliveries_total 7",
            "pitlane_alerts 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
