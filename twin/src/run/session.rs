//! One client from its first byte to its last: menu, scene, frames.

use super::peer::{Peer, PeerError};
use super::say;
use crate::drive::{Drive, FRAME_S, Scenario};
use crate::view::encode::EncodeError;
use crate::wire::inbound::Inbound;
use crate::wire::outbound;
use crate::world::catalogue;
use crate::world::laps::Reason;
use crate::world::track::Track;
use std::time::{Duration, Instant};

/// Pause before the menu is announced. Clients start to listen before they are ready to answer.
const FIRST_READY: Duration = Duration::from_millis(100);
/// The menu is announced again this often until the client says something: an announcement that
/// falls into the client's start is lost, and it would wait for ever.
const READY_AGAIN: Duration = Duration::from_millis(700);
/// Longest stay in the menu.
const MENU_PATIENCE: Duration = Duration::from_mins(1);
/// Scenes and roads one client may load: each costs a repaint.
const MAX_LOADS: u32 = 1_000;
/// Frames in a row that may be lost in lock step before the run ends: an hour of driving blind.
const MAX_LOST: u32 = 72_000;
/// Further behind than this, a real-time run gives up catching up.
const MAX_LAG: Duration = Duration::from_millis(500);

/// What a session is to be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The track of a judged run. In a free one the client's choice counts.
    pub track: Track,
    /// Light, seed, start, faults and judge.
    pub scenario: Scenario,
    /// One control, one frame; no clock.
    pub lock_step: bool,
    /// Longest wait for a control in lock step.
    pub reply_timeout: Duration,
}

/// How a session ended.
#[derive(Debug)]
pub struct Ended {
    /// The run, if a scene was loaded.
    pub drive: Option<Drive>,
    /// None when everything wanted was done.
    pub reason: Option<Reason>,
    /// Whether the client said anything at all.
    pub spoke: bool,
}

/// Why a scene was left.
enum Left {
    Done(Option<Reason>),
    Menu,
    Load(Track),
}

enum Trouble {
    Peer(PeerError),
    Encode(EncodeError),
}

impl From<PeerError> for Trouble {
    fn from(error: PeerError) -> Self {
        Self::Peer(error)
    }
}

impl From<EncodeError> for Trouble {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}

/// Serves one client until it leaves or the run is over.
pub fn serve(peer: &mut Peer, plan: &Plan) -> Result<Ended, EncodeError> {
    let mut drive = None;
    let reason = match talk(peer, plan, &mut drive) {
        Ok(reason) => reason,
        Err(Trouble::Encode(error)) => return Err(error),
        Err(Trouble::Peer(error)) => {
            if !matches!(error, PeerError::Gone(None)) {
                say(format_args!("{error}"));
            }
            Some(Reason::Disconnected)
        }
    };
    Ok(Ended { drive, reason, spoke: peer.heard() > 0 })
}

fn talk(
    peer: &mut Peer,
    plan: &Plan,
    drive: &mut Option<Drive>,
) -> Result<Option<Reason>, Trouble> {
    let judged = plan.scenario.judge.is_some();
    let mut next = None;
    for _ in 0..MAX_LOADS {
        let track = match next.take() {
            Some(track) => track,
            None => match menu(peer, plan)? {
                Some(track) => track,
                None => return Ok(Some(Reason::Time)),
            },
        };
        let current = drive.insert(Drive::new(track, plan.scenario.clone()));
        peer.send(&outbound::car_loaded())?;
        let left = if plan.lock_step {
            lock_step(peer, plan, current)?
        } else {
            real_time(peer, current)?
        };
        match left {
            Left::Done(reason) => return Ok(reason),
            // Leaving the scene is giving up.
            Left::Menu | Left::Load(_) if judged => return Ok(Some(Reason::Disconnected)),
            Left::Menu => {}
            Left::Load(track) => next = Some(track),
        }
    }
    say(format_args!("a client loaded more than {MAX_LOADS} scenes and is dropped"));
    Ok(Some(Reason::Disconnected))
}

/// Announces the menu until the client loads a scene; none when it never does.
fn menu(peer: &mut Peer, plan: &Plan) -> Result<Option<Track>, Trouble> {
    let opened = Instant::now();
    let mut announce = opened + FIRST_READY;
    let silent = peer.heard();
    while opened.elapsed() < MENU_PATIENCE {
        match peer.next(announce)? {
            None => {
                if peer.heard() == silent {
                    peer.send(&outbound::scene_selection_ready())?;
                }
                announce = Instant::now() + READY_AGAIN;
            }
            Some(Inbound::LoadScene(name)) => {
                if let Some(track) = scene(plan, &name) {
                    return Ok(Some(track));
                }
            }
            Some(other) => answer(peer, &other)?,
        }
    }
    Ok(None)
}

/// The track for a scene name. A judged run keeps its own track, whatever the client asks for.
fn scene(plan: &Plan, name: &str) -> Option<Track> {
    if plan.scenario.judge.is_some() {
        if name != plan.track.name {
            say(format_args!("the client asks for {name:?}; the run is on {}", plan.track.name));
        }
        return Some(plan.track.clone());
    }
    let track = catalogue::track(name);
    if track.is_none() {
        say(format_args!("there is no scene {name:?}; there are {}", catalogue::NAMES.join(", ")));
    }
    track
}

/// Answers what needs no scene.
fn answer(peer: &mut Peer, message: &Inbound) -> Result<(), PeerError> {
    match message {
        Inbound::ProtocolVersion => peer.send(&outbound::protocol_version()),
        Inbound::SceneNames => peer.send(&outbound::scene_names(&catalogue::NAMES)),
        _ => Ok(()),
    }
}

/// What a message in a scene leads to.
enum Heard {
    Control,
    Other,
    Leave(Left),
}

fn hear(peer: &mut Peer, drive: &mut Drive, message: Inbound) -> Result<Heard, PeerError> {
    match message {
        Inbound::Control(control) => {
            drive.control(control);
            return Ok(Heard::Control);
        }
        Inbound::Camera { second, request } => drive.camera(second, &request),
        Inbound::Reset => drive.reset(),
        Inbound::SetPosition { at, yaw } => {
            if !drive.set_position(at, yaw) {
                say("set_position is ignored in a judged run");
            }
        }
        Inbound::NodePosition(index) => {
            if let Some(pose) = drive.track().node(index) {
                peer.send(&outbound::node_position(index, pose))?;
            }
        }
        Inbound::ExitScene => return Ok(Heard::Leave(Left::Menu)),
        Inbound::RegenRoad { seed: Some(seed) }
            if drive.scenario().judge.is_none() && drive.track().name == "generated_road" =>
        {
            return Ok(Heard::Leave(Left::Load(catalogue::generated_road(seed))));
        }
        Inbound::LoadScene(name) if drive.scenario().judge.is_none() => {
            if let Some(track) = catalogue::track(&name) {
                return Ok(Heard::Leave(Left::Load(track)));
            }
        }
        Inbound::LoadScene(_) => peer.send(&outbound::car_loaded())?,
        other => answer(peer, &other)?,
    }
    Ok(Heard::Other)
}

/// One frame out, one control in, 50 ms on; nothing depends on the time it takes.
fn lock_step(peer: &mut Peer, plan: &Plan, drive: &mut Drive) -> Result<Left, Trouble> {
    let mut tick = drive.first()?;
    let mut lost = 0;
    loop {
        peer.send(&tick.bytes)?;
        if let Some(left) = after(drive, &tick) {
            return Ok(left);
        }
        if tick.framed {
            lost = 0;
            if let Some(left) = wait_for_control(peer, plan, drive)? {
                return Ok(left);
            }
        } else {
            // The client saw nothing and so says nothing: the last control holds.
            lost += 1;
            if lost > MAX_LOST {
                return Ok(Left::Done(Some(Reason::Time)));
            }
        }
        tick = drive.advance()?;
    }
}

fn wait_for_control(
    peer: &mut Peer,
    plan: &Plan,
    drive: &mut Drive,
) -> Result<Option<Left>, Trouble> {
    let deadline = Instant::now() + plan.reply_timeout;
    loop {
        let Some(message) = peer.next(deadline)? else {
            say(format_args!("no control came for {} s", plan.reply_timeout.as_secs_f64()));
            return Ok(Some(Left::Done(Some(Reason::Time))));
        };
        match hear(peer, drive, message)? {
            Heard::Control => return Ok(None),
            Heard::Other => {}
            Heard::Leave(left) => return Ok(Some(left)),
        }
    }
}

/// A frame every 50 ms by the clock; the last control holds.
fn real_time(peer: &mut Peer, drive: &mut Drive) -> Result<Left, Trouble> {
    let frame = Duration::from_secs_f64(FRAME_S);
    let mut tick = drive.first()?;
    let mut due = Instant::now() + frame;
    loop {
        peer.send(&tick.bytes)?;
        if let Some(left) = after(drive, &tick) {
            return Ok(left);
        }
        while let Some(message) = peer.next(due)? {
            if let Heard::Leave(left) = hear(peer, drive, message)? {
                return Ok(left);
            }
        }
        tick = drive.advance()?;
        due += frame;
        if Instant::now() > due + MAX_LAG {
            due = Instant::now();
        }
    }
}

/// Tells of laps; says whether the run is over.
fn after(drive: &Drive, tick: &crate::drive::Tick) -> Option<Left> {
    if let Some((lap, time)) = tick.lap {
        let wanted = drive.scenario().judge.map(|judge| format!(" of {}", judge.laps));
        say(format_args!("lap {lap}{}: {time:.2} s", wanted.unwrap_or_default()));
    }
    if let Some(reason) = tick.over {
        return Some(Left::Done(reason));
    }
    tick.close.then_some(Left::Done(Some(Reason::Disconnected)))
}
