//! The service against the world: real listeners, real pushes, real kills.

mod api;
#[path = "../../../runs/tests/it/deliveries.rs"]
mod deliveries;
mod executor;
mod hook;
mod keeping;
mod load;
mod resume;
mod webhook;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::Pin,
};

use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch};

use deliveries::{commit, delivery, queue, route};

use super::{
    listen,
    route::{Route, Routes},
    secret::Secrets,
    store::Store,
    webhook::Intake,
};
use crate::lane::{Job, Lane, Outputs, Step, StepError};

const SECRET: &str = "It's a Secret to Everybody";
const REPOSITORY: &str = "Codertocat/Hello-World";
const ZERO: &str = "0000000000000000000000000000000000000000";

fn push_body(repository: &str, tag: &str, object: &str, commit: &str) -> Value {
    json!({
        "ref": format!("refs/tags/{tag}"), "before": ZERO, "after": object,
        "created": true, "deleted": false, "forced": false,
        "head_commit": {"id": commit}, "repository": {"full_name": repository}
    })
}

fn intake(store: &Store, routes: Vec<Route>) -> Intake {
    let mut secrets = Secrets::new();
    secrets.add_lines(SECRET.as_bytes(), None, "test").unwrap();
    Intake::new(store.clone(), Routes::new(routes).unwrap(), secrets)
}

/// A listener that serves a router; stops when dropped.
struct Served {
    address: SocketAddr,
    stop: watch::Sender<bool>,
}

impl Served {
    async fn start(router: axum::Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopping) = watch::channel(false);
        tokio::spawn(listen::serve(listener, router, stopping));
        Self { address, stop }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

type Stepped = Result<Value, StepError>;

/// A lane made of one function.
struct Steps<F>(F);

impl<F> Lane for Steps<F>
where
    F: Fn(Job, Step, Outputs) -> Pin<Box<dyn Future<Output = Stepped> + Send>>
        + Send
        + Sync
        + 'static,
{
    fn run<'a>(
        &'a self,
        job: &'a Job,
        step: Step,
        done: &'a Outputs,
    ) -> Pin<Box<dyn Future<Output = Stepped> + Send + 'a>> {
        (self.0)(job.clone(), step, done.clone())
    }
}

/// The folder of shared payloads, or `None` with a word about it; a failure where CI is set.
fn shared(folder: &str) -> Option<PathBuf> {
    let root = std::env::var_os("PITLANE_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    let path = root.join(folder);
    if path.is_dir() {
        return Some(path);
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{} is missing", path.display());
    println!("SKIP: {} is not here", path.display());
    None
}
