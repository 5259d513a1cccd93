//! The words of the Donkey simulator's protocol, as far as a car uses them.
//!
//! The simulator sends one JSON object a line. It takes flat JSON objects without any delimiter,
//! and numbers as strings with a point: Unity's parser drops everything else without a word.

use std::borrow::Cow;
use std::io::Write;

use serde::Deserialize;
use serde_json::json;

use crate::gate::Command;

/// What the simulator says, in the fields that a car reads.
#[derive(Debug, Deserialize)]
pub struct Incoming<'a> {
    /// The kind of message.
    #[serde(borrow)]
    pub msg_type: Cow<'a, str>,
    /// Telemetry: the camera's JPEG in base64.
    #[serde(borrow, default)]
    pub image: Option<Text<'a>>,
    /// Telemetry: the simulator's time (s).
    #[serde(default)]
    pub time: Option<f64>,
    /// Telemetry: the car's speed (m/s).
    #[serde(default)]
    pub speed: Option<f32>,
    /// The scenes that can be loaded.
    #[serde(default)]
    pub scene_names: Option<Vec<String>>,
}

/// Text that is not copied where it has no escapes. (Inside an `Option`, serde would copy a bare
/// `Cow`.)
#[derive(Debug, Deserialize)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

impl Incoming<'_> {
    /// The camera's JPEG in base64; empty when there is none.
    pub fn picture(&self) -> &str {
        self.image.as_ref().map_or("", |text| &text.0)
    }
}

/// Reads one line.
pub fn parse(line: &[u8]) -> Result<Incoming<'_>, serde_json::Error> {
    serde_json::from_slice(line)
}

/// A line with the decimal commas of a simulator under a German or French locale turned into
/// points; worth a try after [`parse`] failed. Only a comma between two digits, in a value that
/// starts right after a colon, is changed; strings start with a quote and stay as they are.
pub fn repair(line: &[u8]) -> Vec<u8> {
    let mut out = line.to_vec();
    let mut in_number = false;
    for i in 1..out.len().saturating_sub(1) {
        in_number = match out[i] {
            b'0'..=b'9' | b'-' | b'+' | b'e' | b'E' => in_number || out[i - 1] == b':',
            b',' if in_number && out[i + 1].is_ascii_digit() => {
                out[i] = b'.';
                true
            }
            _ => false,
        };
    }
    out
}

/// Writes the one message of every frame into `out`, which is emptied first.
pub fn control(out: &mut Vec<u8>, command: Command) {
    out.clear();
    let Command { steering, throttle, brake } = command;
    // Writing to a vector cannot fail.
    let _ = write!(
        out,
        "{{\"msg_type\":\"control\",\"steering\":\"{steering:.6}\",\
         \"throttle\":\"{throttle:.6}\",\"brake\":\"{brake:.1}\"}}"
    );
}

/// Asks for the scenes.
pub fn get_scene_names() -> String {
    json!({"msg_type": "get_scene_names"}).to_string()
}

/// Asks for a scene. A name with a brace would break the simulator's parser: it is cut there.
pub fn load_scene(name: &str) -> String {
    let name: String = name.chars().take_while(|c| !matches!(c, '{' | '}')).collect();
    json!({"msg_type": "load_scene", "scene_name": name}).to_string()
}

/// How the car looks to others.
pub fn car_config() -> String {
    json!({
        "msg_type": "car_config", "body_style": "donkey",
        "body_r": "0", "body_g": "90", "body_b": "160",
        "car_name": "Pitlane", "font_size": "50",
    })
    .to_string()
}

/// Asks for pictures of `width` by `height`; "0" keeps what the simulator has.
pub fn cam_config(width: u32, height: u32) -> String {
    json!({
        "msg_type": "cam_config", "fov": "0", "fish_eye_x": "0", "fish_eye_y": "0",
        "img_w": width.to_string(), "img_h": height.to_string(), "img_d": "3",
        "img_enc": "JPG", "offset_x": "0", "offset_y": "0", "offset_z": "0",
        "rot_x": "0", "rot_y": "0", "rot_z": "0",
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Unity's parser demands: flat, closed by the brace, strings for numbers.
    fn check_flat(text: &str) {
        assert!(text.starts_with('{') && text.ends_with('}'), "{text}");
        assert_eq!(text.matches(['{', '}']).count(), 2, "{text}");
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        assert!(value.as_object().unwrap().values().all(serde_json::Value::is_string), "{text}");
    }

    #[test]
    fn everything_sent_is_flat_and_made_of_strings() {
        let mut out = b"rest of the last one".to_vec();
        control(&mut out, Command { steering: -1e-7, throttle: 0.25, brake: 0.0 });
        let text = String::from_utf8(out).unwrap();
        insta::assert_snapshot!(text, @r#"{"msg_type":"control","steering":"-0.000000","throttle":"0.250000","brake":"0.0"}"#);
        check_flat(&text);
        for text in [get_scene_names(), load_scene("a{b}"), car_config(), cam_config(160, 120)] {
            check_flat(&text);
        }
    }

    #[test]
    fn telemetry_is_read_and_other_fields_are_not_minded() {
        let line = br#"{"msg_type":"telemetry","image":"AAA=","time":1.5,"speed":2,"lidar":[{"d":1}],"hit":"none"}"#;
        let got = parse(line).unwrap();
        assert_eq!((&*got.msg_type, got.picture()), ("telemetry", "AAA="));
        assert_eq!((got.time, got.speed), (Some(1.5), Some(2.0)));
        assert!(matches!(got.image, Some(Text(Cow::Borrowed(_)))), "the picture is not copied");
        for bad in ["", "{", "[]", r#"{"image":"x"}"#, r#"{"msg_type":7}"#] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn decimal_commas_are_repaired() {
        let line = br#"{"msg_type":"telemetry","time":1,25,"speed":-0,5,"image":"1,2","a":1,"b":1,5E-05,"c":[1,2]}"#;
        assert!(parse(line).is_err());
        let fixed = repair(line);
        let got = parse(&fixed).unwrap();
        assert_eq!((got.time, got.speed), (Some(1.25), Some(-0.5)));
        assert_eq!(got.picture(), "1,2");
        let plain = br#"{"msg_type":"x","a":1,"b":[1,2],"c":"d:1,2"}"#;
        assert!(parse(&repair(plain)).is_ok(), "what is right stays right");
    }
}
