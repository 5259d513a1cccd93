//! Pushing by HTTP, for scripts that run the lab as a program.
//!
//! `POST /_lab/push` with `{"repository", "files": {PATH: BASE64}, "message", "tags": {NAME:
//! "lightweight" | "annotated" | "signed" | null}}`: commits the files to `main`, if there are any,
//! and makes the tags of its head in one push; `null` deletes one.

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{git::Signature, push, world::World};

/// Where this is.
pub(crate) const PATH: &str = "/_lab/push";

pub(crate) fn push(world: &mut World, body: &Value) -> anyhow::Result<Value> {
    let name = body["repository"].as_str().context("want `repository`")?;
    let main = "refs/heads/main".to_owned();
    if let Some(files) = body["files"].as_object() {
        let mut read = Vec::new();
        for (path, text) in files {
            read.push((path.as_str(), STANDARD.decode(text.as_str().context("want base64")?)?));
        }
        let files: Vec<(&str, &[u8])> =
            read.iter().map(|(path, bytes)| (*path, bytes.as_slice())).collect();
        let git = &mut world.repository(name)?.git;
        let parent = git.refs.get(&main).cloned();
        let message = body["message"].as_str().unwrap_or("a commit");
        let id = git.commit(&files, message, parent.as_deref())?;
        push::push(world, name, &[(main.clone(), Some(id))])?;
    }
    let git = &mut world.repository(name)?.git;
    let head = git.refs.get(&main).cloned().context("there is no commit yet")?;
    let mut changes = Vec::new();
    for (tag, kind) in body["tags"].as_object().into_iter().flatten() {
        let signature = match kind.as_str() {
            Some("annotated") => Some(Signature::None),
            Some("signed") => Some(Signature::Says(true, "valid")),
            _ => None,
        };
        let named = match signature {
            Some(signature) => git.tag(tag, &head, "a release", signature)?,
            None => head.clone(),
        };
        changes.push((format!("refs/tags/{tag}"), (!kind.is_null()).then_some(named)));
    }
    push::push(world, name, &changes)?;
    Ok(json!({ "commit": head, "refs": changes.into_iter().collect::<Vec<_>>() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_tags_are_pushed() {
        let folder = tempfile::tempdir().unwrap();
        let mut world = World::new("http://127.0.0.1:1".to_owned(), folder.path().to_owned());
        world.add("octo/car", false).unwrap();
        let tags = json!({ "v1": "lightweight", "v2": "signed" });
        let early = json!({ "repository": "octo/car", "tags": tags });
        assert!(push(&mut world, &early).is_err(), "nothing to tag yet");
        let body =
            json!({ "repository": "octo/car", "files": { "a/b": "b25ueA==" }, "tags": tags });
        let commit = push(&mut world, &body).unwrap()["commit"].as_str().unwrap().to_owned();
        let git = &world.repository("octo/car").unwrap().git;
        assert_eq!(git.refs["refs/tags/v1"], commit);
        let signed = &git.tags[&git.refs["refs/tags/v2"]];
        assert_eq!((signed.verified, &signed.target), (true, &commit));
        push(&mut world, &json!({ "repository": "octo/car", "tags": { "v1": null } })).unwrap();
        let git = &world.repository("octo/car").unwrap().git;
        assert!(!git.refs.contains_key("refs/tags/v1") && git.refs.contains_key("refs/tags/v2"));
        for bad in [
            json!({}),
            json!({ "repository": "octo/else" }),
            json!({ "repository": "octo/car", "files": { "a": "?" } }),
        ] {
            assert!(push(&mut world, &bad).is_err(), "{bad}");
        }
    }
}
