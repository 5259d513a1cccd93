//! Pull requests: the branch, the forge (a fake one over HTTP), and people who merge, close, edit.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    extract::State,
    routing::{get, patch},
};
use pitlane_gitops::{
    Candidate, Forge, ForgeError, How, Outcome, Promotion, Proposal, PullRequest, PullState,
};
use pitlane_release::lap::Drive;

use crate::world::{World, candidate, commit_of, digest, held};

const BRANCH: &str = "pitlane/donkeycar/default";

/// What the fake forge knows.
#[derive(Default)]
struct Known {
    pulls: BTreeMap<u64, (Proposal, PullRequest)>,
    opened: usize,
    updated: usize,
}

type Shared = Arc<Mutex<Known>>;

/// A client of the fake forge, as one of a real forge would be.
struct Client {
    address: String,
    http: reqwest::Client,
    known: Shared,
}

impl Client {
    async fn start() -> Self {
        let known = Shared::default();
        let app = Router::new()
            .route("/pulls", get(list).post(open))
            .route("/pulls/{number}", patch(update))
            .with_state(known.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, http: reqwest::Client::new(), known }
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        method: reqwest::Method,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Result<T, ForgeError> {
        let fail = |why: String| ForgeError { branch: BRANCH.into(), why };
        let request = self.http.request(method, format!("{}{path}", self.address));
        let request = request.header("content-type", "application/json");
        let sent = request.body(serde_json::to_vec(body).unwrap()).send().await;
        let bytes = sent.map_err(|e| fail(e.to_string()))?.bytes().await.unwrap();
        serde_json::from_slice(&bytes).map_err(|e| fail(e.to_string()))
    }

    fn end(&self, state: PullState) {
        let mut known = self.known.lock().unwrap();
        known.pulls.values_mut().next_back().unwrap().1.state = state;
    }

    fn newest(&self) -> (Proposal, PullRequest) {
        self.known.lock().unwrap().pulls.values().next_back().unwrap().clone()
    }

    fn counts(&self) -> (usize, usize) {
        let known = self.known.lock().unwrap();
        (known.opened, known.updated)
    }
}

async fn list(State(known): State<Shared>) -> Json<Vec<(Proposal, PullRequest)>> {
    Json(known.lock().unwrap().pulls.values().cloned().collect())
}

async fn open(State(known): State<Shared>, Json(proposal): Json<Proposal>) -> Json<PullRequest> {
    let mut known = known.lock().unwrap();
    known.opened += 1;
    let number = known.pulls.len() as u64 + 1;
    let url = format!("https://forge.example/pulls/{number}");
    // Forges trim what they are given.
    let body = proposal.body.trim().to_owned();
    let pull = PullRequest { number, url, state: PullState::Open, body };
    known.pulls.insert(number, (proposal, pull.clone()));
    Json(pull)
}

async fn update(
    State(known): State<Shared>,
    axum::extract::Path(number): axum::extract::Path<u64>,
    Json(proposal): Json<Proposal>,
) -> Json<PullRequest> {
    let mut known = known.lock().unwrap();
    known.updated += 1;
    let entry = known.pulls.get_mut(&number).unwrap();
    entry.1.body.clone_from(&proposal.body);
    entry.0 = proposal;
    Json(entry.1.clone())
}

impl Forge for Client {
    async fn find(&self, branch: &str, base: &str) -> Result<Option<PullRequest>, ForgeError> {
        let all: Vec<(Proposal, PullRequest)> =
            self.ask(reqwest::Method::GET, "/pulls", &()).await?;
        let fits = |(p, _): &&(Proposal, PullRequest)| p.branch == branch && p.base == base;
        Ok(all.iter().rfind(fits).map(|(_, pull)| pull.clone()))
    }

    async fn open(&self, proposal: &Proposal) -> Result<Option<PullRequest>, ForgeError> {
        self.ask(reqwest::Method::POST, "/pulls", proposal).await.map(Some)
    }

    async fn update(&self, pull: &PullRequest, to: &Proposal) -> Result<PullRequest, ForgeError> {
        self.ask(reqwest::Method::PATCH, &format!("/pulls/{}", pull.number), to).await
    }
}

fn world() -> World {
    let mut world = World::new();
    world.config.how = How::PullRequest;
    world
}

fn branch(world: &World) -> String {
    world.git(&["rev-parse", BRANCH])
}

async fn propose(world: &World, forge: &Client, counter: u64) -> Promotion {
    world.promote_by(forge, &candidate(counter)).await.unwrap()
}

#[tokio::test]
async fn a_plain_server_gets_the_branch() {
    let world = world();
    let head = world.head();
    let first = world.promote(1).await;
    assert_eq!(world.head(), head, "the branch itself is people's");
    assert_eq!(commit_of(&first), branch(&world));
    assert_eq!(world.git(&["rev-parse", &format!("{BRANCH}^")]), head);
    assert_eq!(commit_of(&world.promote(1).await), branch(&world), "again is the same");
    // A newer release takes its place: still one commit.
    let second = world.promote(2).await;
    assert_ne!(commit_of(&second), commit_of(&first));
    assert_eq!(world.git(&["rev-list", "--count", &format!("main..{BRANCH}")]), "1");
    assert_eq!(held(&world.promote(1).await), "older");
    // People merged something else: it is rebuilt on top of that.
    world.pull();
    world.write(
        "car/kustomization.yaml",
        &format!("# new\n{}", world.read("car/kustomization.yaml")),
    );
    world.push("Comment");
    world.promote(2).await;
    assert_eq!(world.git(&["rev-parse", &format!("{BRANCH}^")]), world.head());
    // Merged: it landed.
    world.pull();
    world.person(&["merge", "--quiet", "--no-ff", "-m", "Merge", &format!("origin/{BRANCH}")]);
    world.person(&["push", "--quiet", "origin", "HEAD:main"]);
    let landed = world.promote(2).await;
    assert!(matches!(landed.outcome, Outcome::Committed { .. }), "{landed:?}");
    assert_eq!(commit_of(&landed), branch(&world));
}

#[tokio::test]
async fn opened_updated_and_left_alone() {
    let (world, forge) = (world(), Client::start().await);
    let first = propose(&world, &forge, 1).await;
    let Outcome::Proposed { branch: name, url, .. } = &first.outcome else { panic!("{first:?}") };
    assert_eq!((name.as_str(), url.as_deref()), (BRANCH, Some("https://forge.example/pulls/1")));
    propose(&world, &forge, 1).await;
    assert_eq!(forge.counts(), (1, 0), "nothing to update");
    // What people write into it is theirs, until another release takes its place.
    forge.known.lock().unwrap().pulls.get_mut(&1).unwrap().1.body.insert_str(0, "- [x] seen\n");
    propose(&world, &forge, 1).await;
    assert_eq!(forge.counts(), (1, 0), "nor overwritten");
    let second = propose(&world, &forge, 2).await;
    assert_eq!(forge.counts(), (1, 1), "in place");
    let (proposal, pull) = forge.newest();
    assert_eq!(proposal.commit, commit_of(&second));
    assert_eq!(proposal.title, "donkeycar: release v2.0.0");
    for said in
        ["v2.0.0", "Counter | 2", &digest(2).to_string(), "pitlane-verifier check", "Before"]
    {
        assert!(pull.body.contains(said), "{said}: {}", pull.body);
    }
    // A person adds a commit: it is not overwritten.
    world.pull();
    world.person(&["checkout", "--quiet", "-B", "review", &format!("origin/{BRANCH}")]);
    world.write("note", "x");
    world.person(&["add", "--all"]);
    world.person(&["commit", "--quiet", "-m", "Note"]);
    world.person(&["push", "--quiet", "origin", &format!("HEAD:{BRANCH}")]);
    let theirs = branch(&world);
    assert_eq!(held(&propose(&world, &forge, 3).await), "edited");
    assert_eq!(branch(&world), theirs);
    // Amending ours, message and all, is an edit too.
    world.person(&["reset", "--quiet", "--hard", "HEAD^"]);
    world.write("note", "x");
    world.person(&["add", "--all"]);
    world.person(&["commit", "--quiet", "--amend", "--no-edit"]);
    world.person(&["push", "--quiet", "--force", "origin", &format!("HEAD:{BRANCH}")]);
    let theirs = branch(&world);
    assert_eq!(held(&propose(&world, &forge, 3).await), "edited");
    assert_eq!(branch(&world), theirs);
}

#[tokio::test]
async fn closing_is_an_answer() {
    let (world, forge) = (world(), Client::start().await);
    propose(&world, &forge, 1).await;
    forge.end(PullState::Closed);
    let again = propose(&world, &forge, 1).await;
    assert_eq!(held(&again), "closed");
    world.git(&["branch", "-D", BRANCH]);
    assert_eq!(held(&propose(&world, &forge, 1).await), "closed", "without the branch as well");
    propose(&world, &forge, 2).await;
    assert_eq!(forge.counts(), (2, 0), "a newer one opens another");
    // Squashed with a message of people's, then set back: not proposed again.
    forge.end(PullState::Merged);
    assert_eq!(held(&propose(&world, &forge, 2).await), "closed");
    propose(&world, &forge, 3).await;
    assert_eq!(forge.counts(), (3, 0));
}

#[tokio::test]
async fn a_squash_keeps_the_memory() {
    let (world, forge) = (world(), Client::start().await);
    propose(&world, &forge, 1).await;
    let message = world.git(&["log", "-1", "--format=%B", BRANCH]);
    world.pull();
    world.person(&["merge", "--quiet", "--squash", &format!("origin/{BRANCH}")]);
    world.push(&message);
    forge.end(PullState::Merged);
    let landed = propose(&world, &forge, 1).await;
    assert_eq!(commit_of(&landed), world.head());
    world.pull();
    world.person(&["revert", "--no-edit", "HEAD"]);
    world.push("Back");
    assert_eq!(held(&propose(&world, &forge, 1).await), "rolled-away");
}

/// Killed between the push and the opening: the next try opens it, with the same commit.
#[tokio::test]
async fn a_branch_without_a_pull_request_gets_one() {
    let (world, forge) = (world(), Client::start().await);
    let pushed = world.promote(1).await;
    let opened = propose(&world, &forge, 1).await;
    assert_eq!(commit_of(&opened), commit_of(&pushed));
    assert_eq!(forge.counts(), (1, 0));
}

#[tokio::test]
async fn a_forge_that_is_away_is_an_error_and_then_catches_up() {
    let (world, mut forge) = (world(), Client::start().await);
    let address = std::mem::replace(&mut forge.address, "http://127.0.0.1:1".into());
    let error = world.promote_by(&forge, &candidate(1)).await.unwrap_err();
    assert_eq!(error.code(), "gitops-forge");
    forge.address = address;
    propose(&world, &forge, 1).await;
    assert_eq!(forge.counts(), (1, 0));
}

/// Names from outside stay text; a table cannot be broken out of.
#[tokio::test]
async fn the_body_shows_laps_and_takes_no_markup() {
    let (world, forge) = (world(), Client::start().await);
    let drive = Drive {
        track: "a`|<b>\n# x".into(),
        track_digest: digest(1),
        seed: 7,
        light: "day".into(),
        start: 0.0,
        lock_step: true,
        laps_wanted: 3,
        laps: 3,
        lap_times_s: vec![21.5, 20.25, 22.0],
        frames: 1000,
        sim_seconds: 64.0,
        off_road: false,
        hits: 0,
        mean_abs_cte_m: 0.1234,
        max_abs_cte_m: 0.4,
        road_half_width_m: 1.0,
        passed: true,
    };
    let candidate = Candidate { drives: vec![drive; 20], ..candidate(1) };
    world.promote_by(&forge, &candidate).await.unwrap();
    let body = forge.newest().1.body;
    let row = "| `a???b??# x` | 7 | 3 of 3 | 20.25 | 0.123 | no | yes |";
    assert_eq!(body.matches(row).count(), 12, "{body}");
    assert!(body.contains("8 more in the attestation"), "{body}");
}
