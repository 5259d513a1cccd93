//! Runs without a client: faults, verdicts, and what a judged car may not do.

use super::*;
use crate::fault::{Fault, Faults};
use crate::view::light::LightName;
use crate::world::catalogue;

fn drive(name: &str, faults: &[Fault], judge: Option<Judge>) -> Drive {
    let scenario = Scenario {
        light: LightName::Day,
        seed: 1,
        start: 0.0,
        faults: Faults::of(faults),
        watchdog: None,
        judge,
    };
    Drive::new(catalogue::track(name).unwrap(), scenario)
}

const JUDGE: Judge = Judge { laps: 1, max_seconds: 60.0 };
const AHEAD: Control = Control { steering: 0.0, throttle: 0.3, brake: 0.0 };

#[test]
fn straight_on_leaves_the_road() {
    let mut drive = drive("generated_track", &[], Some(JUDGE));
    drive.control(AHEAD);
    let over = (0..2000).find_map(|_| drive.advance().unwrap().over);
    assert_eq!(over, Some(Some(Reason::OffRoad)));
    let last = drive.trace().last().unwrap();
    assert!(last.cte.abs() > drive.track().half_width && last.cte.abs() < 0.4);
}

#[test]
fn what_stands_in_the_way_is_hit_and_ends_a_judged_run() {
    let mut drive = drive("sparkfun_avc", &[], Some(JUDGE));
    let cone = drive.track.obstacles[0];
    let ahead = drive.home.at + Vec2::heading(drive.home.yaw) * 0.8;
    drive.track.obstacles.push(crate::world::track::Obstacle { at: ahead, ..cone });
    drive.control(AHEAD);
    let over = (0..200).find_map(|_| drive.advance().unwrap().over);
    assert_eq!(over, Some(Some(Reason::Hit)));
    assert_eq!((drive.hits(), drive.trace().last().unwrap().hit), (1, Some("cone")));
}

#[test]
fn a_free_drive_runs_into_the_wall_and_stays_there() {
    let mut drive = drive("warehouse", &[], None);
    drive.control(AHEAD);
    let mut names = Vec::new();
    for _ in 0..600 {
        let tick = drive.advance().unwrap();
        assert_eq!(tick.over, None);
        let text = String::from_utf8(tick.bytes).unwrap();
        if !text.contains("\"hit\":\"none\"") {
            names.push(if text.contains("\"hit\":\"wall\"") { "wall" } else { "other" });
        }
    }
    assert_eq!(drive.hits(), names.len() as u64);
    assert_eq!(names.len(), 1, "a hit is told once: {names:?}");
    assert!(drive.trace().is_empty(), "a free drive keeps no trace");
}

#[test]
fn a_standing_car_runs_out_of_time() {
    let mut drive = drive("warehouse", &[], Some(Judge { laps: 1, max_seconds: 2.0 }));
    let ticks = (1..100).find(|_| drive.advance().unwrap().over == Some(Some(Reason::Time)));
    assert_eq!(ticks, Some(40));
}

#[test]
fn a_frozen_picture_stays_while_the_car_moves_on() {
    let mut drive = drive("generated_road", &[Fault::FreezeAt(1.0)], Some(JUDGE));
    drive.control(AHEAD);
    for _ in 0..40 {
        drive.advance().unwrap();
    }
    let trace = drive.trace();
    assert_ne!(trace[10].image_crc32, trace[12].image_crc32);
    assert_eq!(trace[21].image_crc32, trace[39].image_crc32);
    assert!((trace[39].z - trace[21].z).abs() > 0.1);
}

#[test]
fn frames_are_late_black_lost_or_cut_as_asked() {
    let mut late = drive("generated_road", &[Fault::DelayMs(100)], None);
    assert!(!late.first().unwrap().framed && !late.advance().unwrap().framed);
    let tick = late.advance().unwrap();
    assert!(String::from_utf8(tick.bytes).unwrap().contains("\"time\":0.0"));

    let mut black = drive("generated_road", &[Fault::BlackoutAt(0.1)], Some(JUDGE));
    black.control(AHEAD);
    (0..9).for_each(|_| drop(black.advance().unwrap()));
    assert_eq!(black.trace()[3].image_crc32, black.trace()[8].image_crc32);

    let mut lost = drive("generated_road", &[Fault::Drop(1.0)], None);
    assert!((0..20).all(|_| !lost.advance().unwrap().framed));

    let mut stalled = drive("generated_road", &[Fault::StallAt(0.5)], None);
    let framed = (0..20).filter(|_| stalled.advance().unwrap().framed).count();
    assert_eq!(framed, 9);

    let mut closed = drive("generated_road", &[Fault::CloseAt(0.2)], None);
    assert_eq!((1..100).find(|_| closed.advance().unwrap().close), Some(4));
}

#[test]
fn the_watchdog_stops_a_car_that_is_no_longer_driven() {
    let mut car = drive("generated_track", &[], None);
    car.scenario.watchdog = Some(0.5);
    car.control(AHEAD);
    (0..10).for_each(|_| drop(car.advance().unwrap()));
    assert!(car.car.speed > 0.3);
    (0..30).for_each(|_| drop(car.advance().unwrap()));
    assert!(car.car.speed.abs() < 1e-6);
}

#[test]
fn a_judged_car_cannot_be_carried() {
    let mut judged = drive("generated_track", &[], Some(JUDGE));
    assert!(!judged.set_position(Vec2::new(0.0, 0.0), None));
    let mut free = drive("generated_track", &[], None);
    let pose = free.track().pose_at(0.5);
    assert!(free.set_position(pose.at, None));
    assert!((free.fix.along / free.track.length() - 0.5).abs() < 0.01);
    free.reset();
    assert!(free.fix.cte.abs() < 1e-9 && free.fix.index == 0);
}
