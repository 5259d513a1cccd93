//! The example for ROS 2, file by file as it lies in `pipelines/`, on a stand-in for its base: what is
//! shown is the shape; no colcon runs.

use std::fs;

use crate::common::{
    copy, cut,
    docker::Daemon,
    engine::{Engine, one_platform, runtime},
    lane::{Lane, lapless, lenient, quick},
    repository, swap,
};

#[test]
fn the_example_for_ros_2_builds_drives_and_is_admitted() {
    let Some(engine) = Engine::start() else { return };
    let Some(base) = engine.base("amd64") else { return };
    let lane = {
        let mut lane = Lane::new(quick, lapless);
        lane.start();
        lane
    };
    // The repository as the example wants it.
    let tree = lane.tree("donkeycar");
    fs::create_dir_all(tree.join("car")).unwrap();
    copy(&repository().join("pipelines/containers/ros2"), &tree.join("car"));
    lane.context(&[(".dockerignore", "*.pyc\n")]);

    let text = fs::read_to_string(repository().join("pipelines/containers/ros2.yaml")).unwrap();
    let policy = fs::read_to_string(repository().join("policies/ros2car.yaml")).unwrap();
    let policy = lenient(&policy).replace("team/ros2car", "team/donkeycar");
    fs::write(lane.path("config/ros2-policy.yaml"), policy).unwrap();
    let mut text = one_platform(&text);
    text = cut(&text, "    platforms:\n      linux/arm64:", "    # Only for the laps");
    text = cut(&text, "    runtime:\n", "    onnxRuntime:");
    text = cut(&text, "      - { track: generated_road", "  registry:");
    for (old, new) in [
        (
            "    onnxRuntime:",
            format!("{}    engine: {{ host: '{}' }}\n    onnxRuntime:", runtime(), Daemon::host()),
        ),
        ("localhost/ros2-base:humble", base),
        ("laps: 3", "laps: 1".into()),
        ("../../pitlane-state/git/team/ros2car.git", lane.bare("donkeycar").display().to_string()),
        ("../../pitlane-state", lane.path("state").display().to_string()),
        ("../../policies/ros2car.yaml", lane.path("config/ros2-policy.yaml").display().to_string()),
        ("repository: team/ros2car", "repository: team/donkeycar".into()),
        (
            "repository: 127.0.0.1:5000/team/ros2car\n",
            format!(
                "repository: {}\n    passwordFile: {}\n",
                lane.images(),
                lane.path("state/registry-token").display()
            ),
        ),
    ] {
        text = swap(&text, old, &new);
    }
    let file = lane.path("config/ros2.yaml");
    fs::write(&file, text).unwrap();
    let made = crate::common::json(lane.one_shot("v1.0.0", &file, &[]).ok());
    let image = made["image"].as_str().unwrap();
    let start = lane.file_in(image, "amd64", "opt/car/start.sh").unwrap();
    assert!(String::from_utf8(start).unwrap().contains("ros2 run car pilot"));
    let manifest = lane.manifest(&lane.platform(image, "amd64"));
    let config = crate::common::json(lane.blob(manifest["config"]["digest"].as_str().unwrap()));
    assert_eq!(config["config"]["Entrypoint"][0], "/opt/car/start.sh", "the Containerfile's own");
    assert_eq!(config["config"]["User"], "65532:65532");
    let lap = &lane.evidence(image, "https://pitlane.dev/lap/v1")["predicate"];
    assert_eq!(lap["result"], "PASSED");
    let verdict =
        lane.check_by(&lane.path("config/ros2-policy.yaml"), "release", image, &["--layers"]);
    assert_eq!(crate::common::json(verdict.ok())["admitted"], true);
}
