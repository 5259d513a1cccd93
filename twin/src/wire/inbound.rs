//! What clients say, parsed once into types.
//!
//! Clients write numbers as strings ("0.25"); some write numbers. Both are taken, if finite.

use crate::view::camera::CameraRequest;
use crate::view::encode::Encoding;
use crate::wire::outbound::UNITS_PER_METRE;
use crate::world::car::Control;
use crate::world::geometry::Vec2;
use serde_json::Value;

/// A message from a client.
#[derive(Clone, Debug, PartialEq)]
pub enum Inbound {
    /// Which protocol version do you speak?
    ProtocolVersion,
    /// Which scenes are there?
    SceneNames,
    /// Drive on this scene.
    LoadScene(String),
    /// Steer.
    Control(Control),
    /// Change a camera.
    Camera {
        /// The second camera.
        second: bool,
        /// What to change.
        request: CameraRequest,
    },
    /// Make another generated road.
    RegenRoad {
        /// Its seed; none keeps the road.
        seed: Option<u64>,
    },
    /// Put the car somewhere.
    SetPosition {
        /// Where, in metres.
        at: Vec2,
        /// Heading in radians; none keeps the road's.
        yaw: Option<f64>,
    },
    /// Where is this node of the centreline?
    NodePosition(usize),
    /// Back to the start.
    Reset,
    /// Leave the scene.
    ExitScene,
    /// Known, and of no consequence here: looks, names, lidar, quitting the simulator.
    Noted(&'static str),
    /// Not known.
    Unknown(String),
}

/// A piece of the stream that is no message.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InboundError {
    /// Not a JSON object with a `msg_type`.
    #[error("not a JSON object with a msg_type")]
    NotAMessage,
    /// A field is missing or is not a number.
    #[error("{message}: {field} is missing or is not a finite number")]
    Field {
        /// The message's type.
        message: &'static str,
        /// The field.
        field: &'static str,
    },
}

/// Reads one message.
pub fn parse(bytes: &[u8]) -> Result<Inbound, InboundError> {
    let value: Value = serde_json::from_slice(bytes).map_err(|_| InboundError::NotAMessage)?;
    let kind = value.get("msg_type").and_then(Value::as_str).ok_or(InboundError::NotAMessage)?;
    let need = |message, field| number(&value, field).ok_or(InboundError::Field { message, field });
    Ok(match kind {
        "get_protocol_version" => Inbound::ProtocolVersion,
        "get_scene_names" => Inbound::SceneNames,
        "load_scene" => {
            let name = value.get("scene_name").and_then(Value::as_str).unwrap_or_default();
            Inbound::LoadScene(name.chars().take(64).collect())
        }
        "control" => Inbound::Control(
            Control {
                steering: need("control", "steering")?,
                throttle: need("control", "throttle")?,
                // Old clients send no brake.
                brake: number(&value, "brake").unwrap_or(0.0),
            }
            .clamped(),
        ),
        "cam_config" => Inbound::Camera { second: false, request: camera(&value) },
        "cam_config_b" => Inbound::Camera { second: true, request: camera(&value) },
        "regen_road" => Inbound::RegenRoad {
            seed: number(&value, "rand_seed").map(|seed| seed.abs().min(1e15) as u64),
        },
        "set_position" => {
            let at = Vec2::new(need("set_position", "pos_x")?, need("set_position", "pos_z")?);
            let limit = |value: f64| (value / UNITS_PER_METRE).clamp(-1e3, 1e3);
            Inbound::SetPosition { at: Vec2::new(limit(at.x), limit(at.z)), yaw: heading(&value) }
        }
        "node_position" => {
            let index = need("node_position", "index")?;
            Inbound::NodePosition(if index >= 0.0 { index.min(1e9) as usize } else { usize::MAX })
        }
        "reset_car" => Inbound::Reset,
        "exit_scene" => Inbound::ExitScene,
        "car_config" => Inbound::Noted("car_config"),
        "racer_info" => Inbound::Noted("racer_info"),
        "lidar_config" => Inbound::Noted("lidar_config"),
        "step_mode" | "settings" => Inbound::Noted("step_mode"),
        "quit_app" => Inbound::Noted("quit_app"),
        other => Inbound::Unknown(other.chars().take(64).collect()),
    })
}

/// A field as a finite number, whether written as a string or as a number.
fn number(value: &Value, field: &str) -> Option<f64> {
    let number = match value.get(field)? {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    number.is_finite().then_some(number)
}

/// The heading from a quaternion about the upright axis.
fn heading(value: &Value) -> Option<f64> {
    let (y, w) = (number(value, "Qy")?, number(value, "Qw")?);
    (y != 0.0 || w != 0.0).then(|| 2.0 * y.atan2(w))
}

/// A camera's fields; zero means "as it is".
fn camera(value: &Value) -> CameraRequest {
    let set = |field| number(value, field).filter(|number| *number != 0.0);
    let offsets = ["offset_x", "offset_y", "offset_z"].map(|field| number(value, field));
    let moved = offsets.iter().flatten().any(|offset| *offset != 0.0);
    CameraRequest {
        fov: set("fov"),
        size: set("img_w").zip(set("img_h")),
        depth: set("img_d"),
        encoding: match value.get("img_enc").and_then(Value::as_str) {
            Some("JPG" | "JPEG") => Some(Encoding::Jpeg),
            Some("PNG") => Some(Encoding::Png),
            Some("TGA") => Some(Encoding::Tga),
            _ => None,
        },
        offset: moved.then(|| offsets.map(|offset| offset.unwrap_or(0.0) / UNITS_PER_METRE)),
        tilt: set("rot_x"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Inbound, InboundError> {
        parse(text.as_bytes())
    }

    #[test]
    fn numbers_may_be_strings_or_numbers() {
        let wanted = Inbound::Control(Control { steering: -0.25, throttle: 0.5, brake: 0.0 });
        for text in [
            r#"{"msg_type":"control","steering":"-0.25","throttle":"0.5","brake":"0.0"}"#,
            r#"{"msg_type":"control","steering":-0.25,"throttle":0.5}"#,
        ] {
            assert_eq!(read(text).as_ref(), Ok(&wanted));
        }
    }

    #[test]
    fn nonsense_in_control_is_refused_and_excess_is_clamped() {
        for steering in [r#""NaN""#, r#""inf""#, r#""left""#, "null", "[1]"] {
            let text = format!(r#"{{"msg_type":"control","steering":{steering},"throttle":"0"}}"#);
            let refused = InboundError::Field { message: "control", field: "steering" };
            assert_eq!(read(&text), Err(refused), "{text}");
        }
        let wild = read(r#"{"msg_type":"control","steering":"1e300","throttle":"-7","brake":"3"}"#);
        let limits = Control { steering: 1.0, throttle: -1.0, brake: 1.0 };
        assert_eq!(wild, Ok(Inbound::Control(limits)));
    }

    #[test]
    fn a_camera_takes_what_is_set() {
        let text = r#"{"msg_type":"cam_config","fov":"0","img_w":"320","img_h":"240","img_d":"1",
            "img_enc":"PNG","offset_x":"0","offset_y":"0.8","offset_z":"0","rot_x":"5"}"#;
        let Ok(Inbound::Camera { second: false, request }) = read(text) else { panic!("camera") };
        assert_eq!(request.fov, None);
        assert_eq!(request.size, Some((320.0, 240.0)));
        assert_eq!(request.encoding, Some(Encoding::Png));
        assert_eq!(request.offset, Some([0.0, 0.1, 0.0]));
        let half = read(r#"{"msg_type":"cam_config","img_w":"320","img_h":"0"}"#);
        let Ok(Inbound::Camera { request, .. }) = half else { panic!("camera") };
        assert_eq!(request.size, None);
    }

    #[test]
    fn every_other_message_is_known() {
        let table = [
            (r#"{"msg_type":"get_protocol_version"}"#, Inbound::ProtocolVersion),
            (r#"{"msg_type":"get_scene_names"}"#, Inbound::SceneNames),
            (r#"{"msg_type":"load_scene","scene_name":"x"}"#, Inbound::LoadScene("x".into())),
            (r#"{"msg_type":"reset_car"}"#, Inbound::Reset),
            (r#"{"msg_type":"exit_scene"}"#, Inbound::ExitScene),
            (r#"{"msg_type":"quit_app"}"#, Inbound::Noted("quit_app")),
            (r#"{"msg_type":"node_position","index":"3"}"#, Inbound::NodePosition(3)),
            (r#"{"msg_type":"node_position","index":"-1"}"#, Inbound::NodePosition(usize::MAX)),
            (r#"{"msg_type":"regen_road","rand_seed":"9"}"#, Inbound::RegenRoad { seed: Some(9) }),
            (r#"{"msg_type":"fly"}"#, Inbound::Unknown("fly".into())),
        ];
        for (text, wanted) in table {
            assert_eq!(read(text), Ok(wanted), "{text}");
        }
        for text in ["{}", "[]", r#"{"msg_type":3}"#, "{\"msg_type\":\"\u{0}", "{,}"] {
            assert_eq!(read(text), Err(InboundError::NotAMessage), "{text}");
        }
    }

    #[test]
    fn a_position_is_read_in_units_and_turned() {
        let half = std::f64::consts::FRAC_1_SQRT_2;
        let text = format!(
            r#"{{"msg_type":"set_position","pos_x":"8","pos_y":"0","pos_z":"-16","Qx":"0","Qy":"{half}","Qz":"0","Qw":"{half}"}}"#
        );
        let Ok(Inbound::SetPosition { at, yaw: Some(yaw) }) = read(&text) else { panic!("pose") };
        assert_eq!(at, Vec2::new(1.0, -2.0));
        assert!((yaw - std::f64::consts::FRAC_PI_2).abs() < 1e-9);
    }
}
