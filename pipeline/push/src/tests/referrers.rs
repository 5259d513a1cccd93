//! Lists of referrers: by the registry, and in tags that several programs change at once.

use super::*;
use crate::PushError;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_lists_needs_no_tag() {
    let own = Own::start().await;
    let client = own.client("cars/donkey");
    let subject = push(&client, b"layer", Some("v1")).await;
    let (manifest, entry) = referrer(&subject, "one");
    client.refer(&manifest, &entry, &subject, &["lap"]).await.unwrap();
    assert!(client.get("lap").await.unwrap().is_some());
    assert!(client.get(&format!("sha256-{}", subject.hex())).await.unwrap().is_none());
}

/// Programs that know nothing of each other: clients without a common lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_of_one_list_do_not_lose_each_other() {
    let Some(docker) = DockerRegistry::start().await else { return };
    let client = docker.client("team/car");
    let subject = push(&client, b"layer", Some("v1")).await;
    // Somebody else's entry, with a field that nobody here knows.
    let foreign = json!({
        "schemaVersion": 2, "mediaType": INDEX, "annotations": { "theirs": "yes" },
        "manifests": [{
            "mediaType": MANIFEST, "digest": subject, "size": image(b"layer", &json!({})).1.len(),
            "data": "e30=", "x-unknown": { "kept": true },
        }],
    });
    let tag = format!("sha256-{}", subject.hex());
    client.manifest(foreign.to_string().as_bytes(), INDEX, Some(&tag)).await.unwrap();

    // The same registry under two names: other repositories as far as the lock can tell.
    let port = docker.address.rsplit_once(':').unwrap().1;
    let names = [format!("127.0.0.1:{port}"), format!("localhost:{port}")];
    let writers = (0..6).map(|writer| {
        let repository = repository(&names[writer % 2], "team/car");
        tokio::spawn(async move {
            let client = Client::new(repository, options(PASSWORD)).unwrap();
            let mut mine = Vec::new();
            for turn in 0..3 {
                let (manifest, entry) = referrer(&subject, &format!("{writer}-{turn}"));
                client.refer(&manifest, &entry, &subject, &[]).await.unwrap();
                mine.push(entry.digest.to_string());
            }
            // As before a release is tagged.
            client.settle().await.unwrap();
            mine
        })
    });
    let mut all = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        all.extend(writer.await.unwrap());
    }
    let list = client.get(&tag).await.unwrap().unwrap();
    let found = listed(&list);
    let missing: Vec<_> = all.iter().filter(|digest| !found.contains(digest)).collect();
    assert!(missing.is_empty(), "{} of {} lost", missing.len(), all.len());
    assert_eq!(found.len(), 1 + 18, "each once");
    let list: Value = serde_json::from_slice(&list).unwrap();
    assert_eq!(list["annotations"], foreign["annotations"]);
    assert_eq!(list["manifests"][0], foreign["manifests"][0]);
    // Once more changes nothing.
    let (manifest, entry) = referrer(&subject, "0-0");
    let again = docker.client("team/car");
    again.refer(&manifest, &entry, &subject, &[]).await.unwrap();
    assert_eq!(listed(&client.get(&tag).await.unwrap().unwrap()).len(), 19);
}

/// What was written over after it was found is found missing before a tag is written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_is_lost_later_is_written_again() {
    let Some(docker) = DockerRegistry::start().await else { return };
    let client = docker.client("team/car");
    let subject = push(&client, b"layer", None).await;
    let (manifest, entry) = referrer(&subject, "mine");
    client.refer(&manifest, &entry, &subject, &[]).await.unwrap();
    let tag = format!("sha256-{}", subject.hex());
    assert_eq!(listed(&client.get(&tag).await.unwrap().unwrap()), [entry.digest.to_string()]);
    // Another program read the list before, and writes it now.
    let other = docker.client("team/car");
    let (theirs, their_entry) = referrer(&subject, "theirs");
    other.put(&theirs, MANIFEST).await.unwrap();
    let stale = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [their_entry] });
    other.manifest(stale.to_string().as_bytes(), INDEX, Some(&tag)).await.unwrap();
    push(&client, b"another", Some("v2")).await;
    let mut found = listed(&client.get(&tag).await.unwrap().unwrap());
    let mut want = [entry.digest.to_string(), their_entry.digest.to_string()];
    found.sort();
    want.sort();
    assert_eq!(found, want);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_that_is_no_list_is_left_alone() {
    let Some(docker) = DockerRegistry::start().await else { return };
    let client = docker.client("team/car");
    let subject = push(&client, b"layer", None).await;
    let tag = format!("sha256-{}", subject.hex());
    let image = push(&client, b"an image under this tag", Some(&tag)).await;
    let (manifest, entry) = referrer(&subject, "mine");
    let error = client.refer(&manifest, &entry, &subject, &[]).await.unwrap_err();
    assert!(matches!(error, PushError::Answer { .. }), "{error}");
    assert!(client.get(&tag).await.unwrap().is_some_and(|bytes| Digest::of(&bytes) == image));
}
