//! The API and its client, over a real socket.

use std::{os::unix::fs::OpenOptionsExt as _, time::Duration};

use serde_json::json;

use super::{Served, delivery, queue, route};
use crate::{
    lane::{Step, StepError},
    service::{
        api::ApiState,
        client::{Client, ClientError},
        local::{LocalModels, ReleaseRequest},
        render::{render_run, render_runs, render_steps},
        secret::Token,
        store::{Receipt, RunFilter, RunState, Store},
    },
};

#[tokio::test]
async fn what_the_operator_sees_and_changes() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("s.db")).unwrap();
    let token = dir.path().join("token");
    let state = ApiState::new(store.clone(), Token::from_file_or_new(&token).unwrap());
    let served = Served::start(state.router()).await;
    let client = Client::new(&served.url("/"), Some(Token::from_file(&token).unwrap())).unwrap();
    let anybody = Client::new(&served.url(""), None).unwrap();
    let wrong = dir.path().join("wrong");
    std::io::Write::write_all(
        &mut std::fs::File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&wrong)
            .unwrap(),
        b"wrong",
    )
    .unwrap();
    let stranger = Client::new(&served.url(""), Some(Token::from_file(&wrong).unwrap())).unwrap();

    let run = queue(&store, &route("octo/car", "car"), "v1").await;
    queue(&store, &route("octo/truck", "truck"), "v1").await;
    let claim = store.claim("test").await.unwrap().unwrap();
    store
        .advance(&claim.lease, Step::Checkout, &json!({"commit": "abc"}), Some(Step::Model))
        .await
        .unwrap();
    let error = StepError {
        code: "opset".into(),
        message: "opset 99 is\u{1b}[2J not known".into(),
        hint: "export with opset 17".into(),
        retryable: false,
        refused: false,
    };
    store.fail(&claim.lease, Step::Model, &error, false).await.unwrap();

    assert_eq!(anybody.list(&RunFilter::default()).await.unwrap().len(), 2);
    let failed = RunFilter { state: Some(RunState::Failed), ..RunFilter::default() };
    assert_eq!(anybody.list(&failed).await.unwrap()[0].id, run);
    let named =
        RunFilter { repository: Some("OCTO/truck".into()), limit: Some(1), ..RunFilter::default() };
    assert_eq!(anybody.list(&named).await.unwrap()[0].repository, "octo/truck");
    let shown = anybody.show(&run).await.unwrap();
    assert_eq!(shown.error.as_ref().unwrap().code, "opset");
    let steps = anybody.steps(&run).await.unwrap();
    let (list, one, log) =
        (render_runs(std::slice::from_ref(&shown)), render_run(&shown), render_steps(&steps));
    assert!(
        list.contains(&run) && list.contains("failed") && list.contains("model: opset 99"),
        "{list}"
    );
    assert!(one.contains("hint") && one.contains(&format!("pitlane runs retry {run}")), "{one}");
    assert!(log.contains("checkout  #1  done") && log.contains(r#"{"commit":"abc"}"#), "{log}");
    assert!(!format!("{list}{one}{log}").contains('\u{1b}'), "a message cannot move the cursor");

    for nobody in [&anybody, &stranger] {
        for outcome in [nobody.retry(&run).await, nobody.rollback("octo/car", "v1").await] {
            assert!(
                matches!(outcome, Err(ClientError::Refused { status: 401, .. })),
                "{outcome:?}"
            );
        }
    }
    assert_eq!(store.run(&run).await.unwrap().state, RunState::Failed);
    assert_eq!(client.retry(&run).await.unwrap().state, RunState::Queued);
    let code = |outcome: Result<_, ClientError>| match outcome {
        Err(ClientError::Refused { status, told }) => (status, told.code),
        other => panic!("{other:?}"),
    };
    assert_eq!(code(client.retry(&run).await), (409, "not-failed".into()));
    assert_eq!(code(client.rollback("octo/car", "v1").await), (409, "not-released".into()));
    assert_eq!(code(client.retry("../../rollback").await), (404, "unknown".into()));
    assert_eq!(code(client.show("r9-00000000").await), (404, "unknown".into()));
    assert!(client.alerts().await.unwrap().is_empty());

    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for (path, want) in
        [("/runs?state=maybe", 400), ("/nothing", 404), ("/webhook", 404), ("/healthz", 200)]
    {
        assert_eq!(http.get(served.url(path)).send().await.unwrap().status(), want, "{path}");
    }
    let big = http
        .post(served.url("/rollback"))
        .header("authorization", Token::from_file(&token).unwrap().header().as_str());
    let big = big.header("content-type", "application/json").body(vec![b' '; 100_000]);
    assert_eq!(big.send().await.unwrap().status(), 413);
}

#[tokio::test]
async fn a_release_of_files_on_this_machine() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("s.db")).unwrap();
    let token = dir.path().join("token");
    let model = dir.path().join("m.onnx");
    std::fs::write(&model, b"model").unwrap();
    std::fs::write(dir.path().join("m.yaml"), b"card").unwrap();
    let commit = super::commit(1);
    let request = ReleaseRequest {
        pipeline: "car".into(),
        tag: "v1".into(),
        model: model.clone(),
        card: None,
        commit: Some(commit.clone()),
    };
    let routes = [route("octo/car", "car")];
    let state = || ApiState::new(store.clone(), Token::from_file_or_new(&token).unwrap());
    let off = Served::start(state().router()).await;
    let on = Served::start(state().with_local_models(LocalModels::of(&routes)).router()).await;
    let known = || Some(Token::from_file(&token).unwrap());
    let client = Client::new(&on.url(""), known()).unwrap();
    let code = |outcome: Result<_, ClientError>| match outcome {
        Err(ClientError::Refused { status, told }) => (status, told.code),
        other => panic!("{other:?}"),
    };

    let without = Client::new(&off.url(""), known()).unwrap();
    assert_eq!(code(without.release(&request).await), (403, "local-models-off".into()));
    let stranger = Client::new(&on.url(""), None).unwrap();
    assert_eq!(code(stranger.release(&request).await), (401, "token".into()));
    type Change = fn(&mut ReleaseRequest);
    let wrong: [(&str, Change); 6] = [
        ("pipeline", |r| r.pipeline = "truck".into()),
        ("tag", |r| r.tag = "../v1".into()),
        ("commit", |r| r.commit = Some("HEAD".into())),
        ("file", |r| r.model = "m.onnx".into()),
        ("file", |r| r.model = "/".into()),
        ("file", |r| r.card = Some("/nonexistent/card".into())),
    ];
    for (want, change) in wrong {
        let mut request = request.clone();
        change(&mut request);
        assert_eq!(code(client.release(&request).await), (400, want.into()), "{request:?}");
    }
    assert!(client.list(&RunFilter::default()).await.unwrap().is_empty(), "nothing was queued");

    let run = client.release(&request).await.unwrap();
    let files = run.local.clone().unwrap();
    assert_eq!(files.card, Some(dir.path().join("m.yaml")));
    assert_eq!((run.job().local, run.job().commit), (Some(files), Some(commit)));
    assert_eq!(code(client.release(&request).await), (409, "tag-taken".into()));
    // A push of the same tag at another commit is a moved tag.
    let moved = delivery("d", &routes[0], "v1", &super::commit(2));
    assert!(matches!(store.deliver(moved).await.unwrap(), Receipt::Moved { .. }));

    // Who waits hears of the end, and not before.
    let claim = store.claim("test").await.unwrap().unwrap();
    let soon = Duration::from_millis(50);
    assert_eq!(store.ended(&run.id, soon).await.unwrap().state, RunState::Running);
    let waiting = tokio::spawn({
        let (client, id) = (Client::new(&on.url(""), None).unwrap(), run.id.clone());
        async move { client.end(&id).await }
    });
    tokio::time::sleep(soon).await;
    assert!(!waiting.is_finished());
    let error = StepError::new("opset", "opset 99 is not known", "export with opset 17");
    store.fail(&claim.lease, Step::Checkout, &error, false).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(5), waiting).await.unwrap();
    assert_eq!(ended.unwrap().unwrap().state, RunState::Failed);
    // A failed run leaves its tag free.
    assert_eq!(client.release(&request).await.unwrap().state, RunState::Queued);
}

#[tokio::test]
async fn a_client_of_nobody() {
    assert!(matches!(Client::new("127.0.0.1:1", None), Err(ClientError::Address(_))));
    let error = Client::new("http://127.0.0.1:1", None).unwrap().show("r1").await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("refused") && text.contains("pitlane serve"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_followed_until_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("s.db")).unwrap();
    let token = dir.path().join("token");
    let state = ApiState::new(store.clone(), Token::from_file_or_new(&token).unwrap());
    let served = Served::start(state.router()).await;
    let client = Client::new(&served.url(""), Some(Token::from_file(&token).unwrap())).unwrap();
    let run = queue(&store, &route("octo/car", "car"), "v1").await;
    assert!(matches!(
        client.follow("r0-none", |_, _| ()).await,
        Err(ClientError::Refused { status: 404, .. })
    ));

    let (listener, id) = (Client::new(&served.url(""), None).unwrap(), run.clone());
    let told = tokio::spawn(async move {
        let mut told = Vec::new();
        let each = |name: &str, data: &str| told.push((name.to_owned(), data.to_owned()));
        listener.follow(&id, each).await.unwrap();
        told
    });
    let claim = store.claim("test").await.unwrap().unwrap();
    store.advance(&claim.lease, Step::Checkout, &json!(1), Some(Step::Model)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(600)).await;
    // Asked for by a client with the token, heard of by who has the run.
    let nobody = Client::new(&served.url(""), None).unwrap();
    assert!(matches!(nobody.cancel(&run).await, Err(ClientError::Refused { status: 401, .. })));
    assert_eq!(client.cancel(&run).await.unwrap().state, RunState::Running);
    assert!(store.renew(&claim.lease).await.unwrap());
    store.cancelled(&claim.lease).await.unwrap();
    let told = told.await.unwrap();
    let names: Vec<&str> = told.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names.last(), Some(&"end"), "{names:?}");
    let text: String =
        told.iter().map(|(name, data)| crate::service::render::render_event(name, data)).collect();
    for line in ["checkout  #1  done", "model     #1  running", "interrupted", "is cancelled"] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}
