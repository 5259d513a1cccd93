//! A drawing of a run: the road from above, and the car's path coloured by how far off it was.

use crate::drive::{Drive, TracePoint};
use crate::world::geometry::Vec2;
use std::fmt::Write as _;

/// Pixels to a metre.
const SCALE: f64 = 72.0;
/// Room above the road for the words, in pixels.
const HEAD: f64 = 92.0;
/// Room around the road in metres.
const PAD_M: f64 = 0.7;
/// Steps of the colour scale: neighbouring frames of one colour become one line.
const STEPS: usize = 24;
/// From on the line to the road's edge.
const COLOURS: [[f64; 3]; 4] =
    [[38.0, 166.0, 154.0], [156.0, 204.0, 101.0], [255.0, 193.0, 7.0], [229.0, 57.0, 53.0]];

/// The colour of a deviation, where 1 is the road's edge.
fn colour(part: f64) -> String {
    let place = part.clamp(0.0, 1.0) * (COLOURS.len() - 1) as f64;
    let first = (place as usize).min(COLOURS.len() - 2);
    let mix = |i: usize| {
        COLOURS[first][i] + (COLOURS[first + 1][i] - COLOURS[first][i]) * (place - first as f64)
    };
    format!("#{:02x}{:02x}{:02x}", mix(0) as u8, mix(1) as u8, mix(2) as u8)
}

/// Maps the ground to the drawing: x to the right, z upwards.
struct Sheet {
    low: Vec2,
    high: Vec2,
}

impl Sheet {
    fn of(drive: &Drive) -> Self {
        let (mut low, mut high) = drive.track().bounds();
        let trim = crate::world::track::MARGIN_M - PAD_M;
        low = low + Vec2::new(trim, trim);
        high = high - Vec2::new(trim, trim);
        Self { low, high }
    }

    fn width(&self) -> f64 {
        (self.high.x - self.low.x) * SCALE
    }

    fn height(&self) -> f64 {
        (self.high.z - self.low.z) * SCALE + HEAD
    }

    fn put(&self, out: &mut String, at: Vec2) {
        let x = (at.x - self.low.x) * SCALE;
        let y = (self.high.z - at.z) * SCALE + HEAD;
        let _ = write!(out, "{x:.1},{y:.1} ");
    }

    fn points(&self, points: impl Iterator<Item = Vec2>) -> String {
        points.fold(String::new(), |mut text, at| {
            self.put(&mut text, at);
            text
        })
    }
}

/// The drawing of a run, titled with its outcome.
pub fn svg(drive: &Drive, outcome: &str) -> String {
    let sheet = Sheet::of(drive);
    let track = drive.track();
    let (width, height) = (sheet.width(), sheet.height());
    let road = sheet.points(track.points.iter().step_by(4).copied());
    let mut out = String::new();
    let _ = write!(
        out,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0} {height:.0}" font-family="system-ui, sans-serif">
<rect width="100%" height="100%" fill="#f4f1ea"/>
<text x="24" y="36" font-size="22" font-weight="600" fill="#22262b">{title}</text>
<text x="24" y="60" font-size="14" fill="#5a6068">{outcome}</text>
<g fill="none" stroke-linejoin="round">
<polygon points="{road}" stroke="#ffffff" stroke-width="{edge:.1}"/>
<polygon points="{road}" stroke="#4a4d55" stroke-width="{lane:.1}"/>
<polygon points="{road}" stroke="#e2be30" stroke-width="2" stroke-dasharray="18 18" opacity="0.7"/>
</g>
"##,
        title = format_args!(
            "{} · {} · seed {}",
            track.name,
            drive.scenario().light.word(),
            drive.scenario().seed
        ),
        edge = (track.half_width * 2.0 + 0.06) * SCALE,
        lane = track.half_width * 2.0 * SCALE,
    );
    obstacles(&mut out, &sheet, drive);
    path(&mut out, &sheet, drive);
    start(&mut out, &sheet, drive);
    legend(&mut out, width, track.half_width);
    out.push_str("</svg>\n");
    out
}

fn obstacles(out: &mut String, sheet: &Sheet, drive: &Drive) {
    for obstacle in &drive.track().obstacles {
        let at = sheet.points(std::iter::once(obstacle.at));
        let (x, y) = at.trim().split_once(',').unwrap_or(("0", "0"));
        let fill = if obstacle.name == "cone" { "#e2622a" } else { "#8c8a84" };
        let radius = obstacle.radius * SCALE;
        let _ = writeln!(out, r#"<circle cx="{x}" cy="{y}" r="{radius:.1}" fill="{fill}"/>"#);
    }
}

/// The car's path, cut into lines of one colour.
fn path(out: &mut String, sheet: &Sheet, drive: &Drive) {
    let half = drive.track().half_width;
    let step = |point: &TracePoint| ((point.cte.abs() / half * STEPS as f64) as usize).min(STEPS);
    out.push_str(r#"<g fill="none" stroke-width="4" stroke-linecap="round" stroke-linejoin="round" opacity="0.9">"#);
    out.push('\n');
    let trace = drive.trace();
    let mut first = 0;
    while first + 1 < trace.len() {
        let mut last = first + 1;
        // A jump is a reset: the car was carried, not driven.
        let far = |i: usize| (trace[i].x - trace[i - 1].x).hypot(trace[i].z - trace[i - 1].z) > 0.5;
        while last + 1 < trace.len() && step(&trace[last]) == step(&trace[first]) && !far(last) {
            last += 1;
        }
        if !far(last) {
            let line = sheet.points(trace[first..=last].iter().map(|p| Vec2::new(p.x, p.z)));
            let part = step(&trace[first]) as f64 / STEPS as f64;
            let _ = writeln!(out, r#"<polyline points="{line}" stroke="{}"/>"#, colour(part));
        }
        first = last;
    }
    out.push_str("</g>\n");
    if let Some(end) = trace.last() {
        let at = sheet.points(std::iter::once(Vec2::new(end.x, end.z)));
        let (x, y) = at.trim().split_once(',').unwrap_or(("0", "0"));
        let _ = writeln!(
            out,
            r##"<circle cx="{x}" cy="{y}" r="7" fill="#22262b" stroke="#fff" stroke-width="2"/>"##
        );
    }
}

/// The line the car started from.
fn start(out: &mut String, sheet: &Sheet, drive: &Drive) {
    let pose = drive.track().pose_at(drive.scenario().start);
    let across = Vec2::right_of(pose.yaw) * drive.track().half_width;
    let line = sheet.points([pose.at - across, pose.at + across].into_iter());
    let _ = writeln!(out, r##"<polyline points="{line}" stroke="#ffffff" stroke-width="5"/>"##);
    let _ = writeln!(
        out,
        r##"<polyline points="{line}" stroke="#22262b" stroke-width="5" stroke-dasharray="6 6"/>"##
    );
}

fn legend(out: &mut String, width: f64, half: f64) {
    let left = width - 264.0;
    for step in 0..STEPS {
        let x = left + step as f64 * 10.0;
        let fill = colour(step as f64 / (STEPS - 1) as f64);
        let _ =
            writeln!(out, r#"<rect x="{x:.0}" y="12" width="10.5" height="10" fill="{fill}"/>"#);
    }
    let _ = writeln!(
        out,
        r##"<text x="{left:.0}" y="36" font-size="12" fill="#5a6068">on the line</text>
<text x="{:.0}" y="36" font-size="12" fill="#5a6068" text-anchor="end">edge, {:.0} cm</text>"##,
        left + 240.0,
        half * 100.0,
    );
}
