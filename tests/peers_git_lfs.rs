//! Models that git-lfs itself tracked and pushed: released without that program, by the pointer in the
//! commit and the object beside the repository.

use std::fs;

use serde_json::Value;

use crate::common::{
    json as parse,
    lane::{Lane, lapless, quick},
    peer, repository, store,
};

#[test]
fn a_model_that_git_lfs_pushed_is_released_by_its_digest() {
    if peer("git-lfs").is_none() {
        return;
    }
    let mut lane = Lane::new(quick, lapless);
    lane.start();
    let (tree, bare) = (lane.tree("donkeycar"), lane.bare("donkeycar"));
    let model = fs::read(repository().join("examples/donkeycar/models/pilot.onnx")).unwrap();
    lane.git(&tree, &["lfs", "install", "--local", "--skip-repo"]);
    lane.git(&tree, &["lfs", "track", "*.onnx"]);
    lane.git(&tree, &["add", ".gitattributes"]);
    lane.git(&tree, &["rm", "--quiet", "--cached", "models/pilot.onnx"]);
    lane.git(&tree, &["add", "models/pilot.onnx"]);
    lane.git(&tree, &["commit", "--quiet", "-m", "The model in Git LFS"]);
    let kept = lane.git(&tree, &["show", "HEAD:models/pilot.onnx"]);
    assert!(kept.starts_with("version https://git-lfs.github.com/spec/v1"), "{kept}");

    // Its hook would push objects, too, and knows no plain paths.
    fs::remove_file(tree.join(".git/hooks/pre-push")).unwrap();

    // The pointer is pushed, its object is not: the error names both.
    lane.push_tag("v1.0.0");
    let failed = lane.wait("v1.0.0", "failed");
    let error = &failed["error"];
    assert_eq!(error["code"], "lfs-object", "{error:#}");
    let said = error["message"].as_str().unwrap();
    assert!(said.contains("models/pilot.onnx") && said.contains(&store::digest(&model)), "{said}");
    assert!(error["hint"].as_str().unwrap().contains("git lfs push"), "{error:#}");

    let url = format!("file://{}", bare.display());
    lane.git(&tree, &["lfs", "push", "--all", &url]);
    let image = lane.release("v1.0.1");
    let release = lane.statement(&image);
    assert_eq!(release["predicate"]["model"]["digest"], Value::from(store::digest(&model)));
    // By hand, from the work tree, whose objects are in .git.
    let side = lane.side_pipeline("side", quick);
    let made = parse(lane.one_shot("v1.0.1", &side, &["--dry-run"]).ok());
    assert_eq!(made["commit"], release["predicate"]["source"]["commit"]);
}
