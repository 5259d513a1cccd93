//! Tags that are pushed in bursts, and what becomes of their deliveries: some come twice, some
//! late or in another order, some are forged, some are lost, and of some GitHub tells nothing.

use std::{sync::Arc, time::Duration};

use pitlane_github_lab::{Lab, Mischief, Signature};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::{runtime::Runtime, task::JoinHandle};

use super::{
    chance::Chance,
    services::{SECRET, SOURCE, Services},
};
use crate::common::{lane::Lane, repository};

/// Longest that all deliveries of a burst are held up (milliseconds): other bursts overtake them.
const LATE: u64 = 2500;
/// Most tags of a push that GitHub makes events for.
const TOLD: usize = 3;

/// How often is looked whether a line of deliveries was taken, and the pause between.
const TAKEN: u32 = 50;
const LOOK: Duration = Duration::from_millis(5);

/// A tag that was pushed.
pub(super) struct Tag {
    name: String,
    /// What the ref names: the commit, or a tag object.
    object: String,
    commit: String,
}

/// What became of the deliveries, over all hooks.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Told {
    bursts: usize,
    /// Tags that no delivery tells of, because too many were pushed at once.
    silent: usize,
    lined_up: usize,
    lost: usize,
    vanished: usize,
    forged: usize,
    /// The same delivery twice.
    repeated: usize,
    /// The same news in another delivery.
    duplicated: usize,
    /// Bursts whose deliveries came last first.
    reversed: usize,
    /// Bursts that came late.
    late: usize,
    /// Tags that the service found by itself.
    pub(super) found: usize,
    /// Deliveries that it asked for again.
    pub(super) asked_for: usize,
}

pub(super) struct Storm {
    pub(super) told: Told,
    pub(super) pushed: Vec<Tag>,
    lab: Arc<Lab>,
    chance: Chance,
    runtime: Runtime,
    sending: Vec<JoinHandle<()>>,
    model: Vec<u8>,
    card: String,
    commit: Option<String>,
}

impl Storm {
    pub(super) fn new(services: &Services, chance: Chance) -> Self {
        let models = repository().join("examples/donkeycar/models");
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        Self {
            told: Told::default(),
            pushed: Vec::new(),
            lab: Arc::clone(&services.lab),
            chance,
            runtime: runtime.worker_threads(1).enable_all().build().unwrap(),
            sending: Vec::new(),
            model: std::fs::read(models.join("pilot.onnx")).unwrap(),
            card: std::fs::read_to_string(models.join("pilot.yaml")).unwrap(),
            commit: None,
        }
    }

    /// The tags so far.
    pub(super) fn names(&self) -> Vec<String> {
        self.pushed.iter().map(|tag| tag.name.clone()).collect()
    }

    /// Pushes so many tags, and sends what is told of them on its way.
    pub(super) fn burst(&mut self, count: u64) {
        self.told.bursts += 1;
        let commit = self.commit();
        let first = self.pushed.len();
        for _ in 0..count {
            let name = format!("v1.0.{}", self.pushed.len());
            // Half of the tags are objects of their own.
            let object = match self.chance.one_in(2) {
                true => self.lab.tag_object(SOURCE, &name, &commit, Signature::None).unwrap(),
                false => commit.clone(),
            };
            self.pushed.push(Tag { name, object, commit: commit.clone() });
        }
        let new = &self.pushed[first..];
        // All in one push, or in several of which GitHub tells.
        let at_once = if self.chance.one_in(2) { new.len() } else { TOLD };
        for push in new.chunks(at_once) {
            let tags = push.iter().map(|tag| (tag.name.as_str(), Some(tag.object.as_str())));
            self.lab.push_tags(SOURCE, &tags.collect::<Vec<_>>()).unwrap();
            self.told.silent += if push.len() > TOLD { push.len() } else { 0 };
        }
        self.deliver();
    }

    /// A new commit with a card of its own, or the last one again.
    fn commit(&mut self) -> String {
        if let Some(last) = &self.commit
            && self.chance.one_in(3)
        {
            return last.clone();
        }
        let card = format!("{}# burst {}\n", self.card, self.told.bursts);
        let files =
            [("models/pilot.onnx", self.model.as_slice()), ("models/pilot.yaml", card.as_bytes())];
        let made = self.lab.commit(SOURCE, &files, "Another card").unwrap();
        self.commit = Some(made.clone());
        made
    }

    /// Sends what was asked for again.
    pub(super) fn again(&mut self) {
        if !self.lab.lined_up().is_empty() {
            self.deliver();
        }
    }

    /// Sends what is lined up, beside all that is on its way already.
    fn deliver(&mut self) {
        let count = self.lab.lined_up().len();
        let mischief = self.mischief(count);
        let lab = Arc::clone(&self.lab);
        self.sending.push(self.runtime.spawn(async move { lab.deliver(&mischief).await }));
        // Numbers of mischief are places in the line: it should be taken before the next push.
        for _ in 0..TAKEN {
            if self.lab.lined_up().len() < count {
                break;
            }
            std::thread::sleep(LOOK);
        }
    }

    fn mischief(&mut self, count: usize) -> Vec<Mischief> {
        let (told, chance) = (&mut self.told, &mut self.chance);
        told.lined_up += count;
        let mut all = Vec::new();
        for number in 0..count {
            let (counted, one) = match chance.below(16) {
                0 | 1 => (&mut told.lost, Mischief::Drop(number)),
                2 => (&mut told.vanished, Mischief::Vanish(number)),
                3 => (&mut told.forged, Mischief::Forge(number)),
                4 | 5 => (&mut told.repeated, Mischief::Repeat(number)),
                6 | 7 => (&mut told.duplicated, Mischief::Duplicate(number)),
                _ => continue,
            };
            *counted += 1;
            all.push(one);
        }
        if chance.one_in(3) {
            told.reversed += 1;
            all.push(Mischief::Reverse);
        }
        if chance.one_in(3) {
            told.late += 1;
            all.push(Mischief::Delay(0, chance.up_to(LATE)));
        }
        all
    }

    /// Waits for what is on its way.
    pub(super) fn settle(&mut self) {
        for one in self.sending.drain(..) {
            self.runtime.block_on(one).unwrap();
        }
    }

    /// Tells of every tag once more, in a delivery of its own.
    pub(super) fn tell_all(&self, services: &Services) {
        for tag in self.pushed.iter().rev() {
            let answer = Self::tell(services, tag, "again");
            assert_eq!((answer.status, &answer.json()["repeat"]), (202, &Value::Bool(true)));
        }
    }

    fn tell(services: &Services, tag: &Tag, why: &str) -> crate::common::http::Answer {
        let Tag { name, object, commit } = tag;
        let body = json!({
            "ref": format!("refs/tags/{name}"), "before": "0".repeat(40), "after": object,
            "created": true, "deleted": false, "forced": false, "head_commit": { "id": commit },
            "repository": { "full_name": SOURCE },
        });
        let id = format!("{why}-{name}");
        Lane::deliver_to(&services.webhook(), &id, body.to_string().as_bytes(), SECRET)
    }
}
