//! Free driving: what a client may ask for, several at a time, and what is survived.

use super::client::Twin;
use serde_json::Value;
use std::time::{Duration, Instant};

fn picture_size(frame: &Value) -> (usize, usize) {
    use base64::Engine as _;
    let text = frame["image"].as_str().unwrap();
    let jpeg = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
    let mut decoder =
        zune_jpeg::JpegDecoder::new(zune_jpeg::zune_core::bytestream::ZCursor::new(jpeg));
    decoder.decode().unwrap();
    decoder.dimensions().unwrap()
}

#[test]
fn the_menu_is_announced_until_somebody_answers() {
    let twin = Twin::start(&[]);
    let mut client = twin.connect();
    for _ in 0..3 {
        assert_eq!(client.next().unwrap()["msg_type"], "scene_selection_ready");
    }
    client.say(r#"{"msg_type":"get_protocol_version"}"#);
    assert_eq!(client.wait_for("protocol_version").unwrap()["version"], "2");
    client.say(r#"{"msg_type":"load_scene","scene_name":"nowhere"}"#);
    client.load_quietly("warehouse");
    assert_eq!(client.wait_for("telemetry").unwrap()["totalNodes"].as_u64().unwrap() / 10, 14);
}

impl super::client::Client {
    fn load_quietly(&mut self, scene: &str) {
        self.say(&format!(r#"{{"msg_type":"load_scene","scene_name":"{scene}"}}"#));
        self.wait_for("car_loaded").unwrap();
    }
}

#[test]
fn every_request_is_answered_over_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let address = format!("unix:{}", folder.path().join("twin.sock").display());
    let twin = Twin::at(&address, &["--lock-step"]);
    let mut client = twin.connect();
    client.load("generated_road");
    let first = client.wait_for("telemetry").unwrap();
    assert_eq!(picture_size(&first), (160, 120));

    // Everything at once and nothing between: as the wire really looks.
    client.say(concat!(
        r#"{"msg_type":"cam_config","img_w":"99999","img_h":"64","img_d":"3","img_enc":"JPG"}"#,
        r#"{"msg_type":"cam_config_b","img_w":"32","img_h":"32"}"#,
        r#"{"msg_type":"car_config","body_style":"f1"}{"msg_type":"quit_app"}{"msg_type":"fly"}"#,
        r#"{"msg_type":"racer_info"}{"msg_type":"lidar_config"}{broken}{"msg_type":"step_mode"}"#,
        r#"{"msg_type":"node_position","index":"3"}{"msg_type":"node_position","index":"-1"}"#,
        r#"{"msg_type":"get_protocol_version"}"#,
    ));
    let node = client.wait_for("node_position").unwrap();
    client.wait_for("protocol_version").unwrap();
    client.control(0.0, 0.0);
    let frame = client.wait_for("telemetry").unwrap();
    assert_eq!(picture_size(&frame), (640, 64));
    assert!(frame["imageb"].is_string() && frame["imageb"] == frame["image_b"]);

    // Carried to node 3: nodes are told and taken in the simulator's units.
    let put = format!(
        r#"{{"msg_type":"set_position","pos_x":"{}","pos_y":"0","pos_z":"{}"}}"#,
        node["pos_x"], node["pos_z"]
    );
    client.say(&put);
    client.control(0.0, 0.0);
    let frame = client.wait_for("telemetry").unwrap();
    assert_eq!(frame["activeNode"], 3);
    let metres = node["pos_x"].as_f64().unwrap() / 8.0;
    assert!((frame["pos_x"].as_f64().unwrap() - metres).abs() < 1e-6);

    client.say(r#"{"msg_type":"reset_car"}"#);
    client.control(0.0, 0.0);
    assert_eq!(client.wait_for("telemetry").unwrap()["activeNode"], 0);

    let before = first["totalNodes"].clone();
    client.say(r#"{"msg_type":"regen_road","rand_seed":"11","road_style":"0"}"#);
    client.wait_for("car_loaded").unwrap();
    assert_ne!(client.wait_for("telemetry").unwrap()["totalNodes"], before);

    client.say(r#"{"msg_type":"exit_scene"}"#);
    client.load("warehouse");
    client.wait_for("telemetry").unwrap();
}

#[test]
fn real_time_runs_at_twenty_frames_and_two_cars_do_not_meet() {
    let twin = Twin::start(&["--max-clients", "2"]);
    let (mut one, mut two) = (twin.connect(), twin.connect());
    one.load("generated_track");
    two.load("warehouse");
    // Those that piled up while the second client was let in.
    for _ in 0..30 {
        one.wait_for("telemetry").unwrap();
    }
    one.control(0.0, 0.4);
    let began = Instant::now();
    let mut last = Value::Null;
    for _ in 0..20 {
        last = one.wait_for("telemetry").unwrap();
    }
    let took = began.elapsed();
    assert!(took > Duration::from_millis(850) && took < Duration::from_secs(3), "{took:?}");
    assert!(last["speed"].as_f64().unwrap() > 0.2);
    for _ in 0..20 {
        last = two.wait_for("telemetry").unwrap();
    }
    assert!(last["speed"].as_f64().unwrap().abs() < 1e-9);
    assert_eq!(twin.connect().next(), None, "a third is turned away");
}

#[test]
fn a_start_is_a_crossing_and_so_is_each_lap() {
    let twin = Twin::start(&["--lock-step"]);
    let mut client = twin.connect();
    client.load("generated_road");
    let (mut crossings, mut last) = (Vec::new(), 0.0);
    while crossings.len() < 2 {
        let message = client.next().unwrap();
        if message["msg_type"] == "collision_with_starting_line" {
            crossings.push(message["timeStamp"].as_f64().unwrap());
        } else if let Some(cte) = message["cte"].as_f64() {
            client.control(-0.6 * cte - 3.0 * (cte - last), 0.3);
            last = cte;
        }
    }
    assert!(crossings[0] > 0.0 && crossings[1] - crossings[0] > 15.0, "{crossings:?}");
}

#[test]
fn another_protocol_is_hung_up_on() {
    let twin = Twin::start(&[]);
    let mut client = twin.connect();
    client.say(&"GET / HTTP/1.1\r\nHost: example\r\n\r\n".repeat(400));
    assert_eq!(client.wait_for("telemetry"), None);
    let mut client = twin.connect();
    client.say(&"{\"a\":".repeat(8000));
    assert_eq!(client.wait_for("telemetry"), None);
    // And the twin is still there.
    twin.connect().load("generated_track");
}
