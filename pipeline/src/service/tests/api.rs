//! The API and its client, over a real socket.

use std::os::unix::fs::OpenOptionsExt as _;

use serde_json::json;

use super::{Served, queue, route};
use crate::{
    lane::{Step, StepError},
    service::{
        api::ApiState,
        client::{Client, ClientError},
        render::{render_run, render_runs, render_steps},
        secret::Token,
        store::{RunFilter, RunState, Store},
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
    let claim = store.claim().await.unwrap().unwrap();
    store
        .advance(&claim.lease, Step::Checkout, &json!({"commit": "abc"}), Some(Step::Model))
        .await
        .unwrap();
    let error = StepError {
        code: "opset".into(),
        message: "opset 99 is\u{1b}[2J not known".into(),
        hint: "export with opset 17".into(),
        retryable: false,
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
async fn a_client_of_nobody() {
    assert!(matches!(Client::new("127.0.0.1:1", None), Err(ClientError::Address(_))));
    let error = Client::new("http://127.0.0.1:1", None).unwrap().show("r1").await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("refused") && text.contains("pitlane serve"), "{text}");
}
