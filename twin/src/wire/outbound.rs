//! What the simulator says. The one place where metres become the wire's units.
//!
//! A message is one line of compact JSON that ends in `}` and a newline: clients split on exactly
//! these two bytes.

use crate::world::geometry::Pose;
use base64::Engine as _;
use serde::Serialize;
use serde_json::json;

/// The simulator's world is eight times larger than the one it depicts. Positions and speeds are
/// sent in metres; the cross-track error and node positions are sent in these units.
pub const UNITS_PER_METRE: f64 = 8.0;
/// The version we answer with: the newest that clients know.
const PROTOCOL_VERSION: &str = "2";

/// One telemetry frame, in metres, seconds and radians.
#[derive(Clone, Debug)]
pub struct Telemetry<'a> {
    /// Requested steering, -1 to 1.
    pub steering: f64,
    /// Requested throttle, -1 to 1.
    pub throttle: f64,
    /// The encoded picture.
    pub image: &'a [u8],
    /// The second camera's encoded picture.
    pub second: Option<&'a [u8]>,
    /// What was hit since the last frame.
    pub hit: &'a str,
    /// Simulated seconds since the scene was loaded.
    pub time: f64,
    /// Position and heading.
    pub pose: Pose,
    /// Speed in m/s.
    pub speed: f64,
    /// Velocity over the ground in m/s, along x and z.
    pub velocity: [f64; 2],
    /// Longitudinal acceleration in m/s^2.
    pub accel: f64,
    /// Turning rate in rad/s.
    pub yaw_rate: f64,
    /// Cross-track error in metres.
    pub cte: f64,
    /// The nearest node and how many there are.
    pub node: (usize, usize),
}

#[derive(Serialize)]
struct TelemetryWire<'a> {
    msg_type: &'static str,
    steering_angle: f64,
    throttle: f64,
    speed: f64,
    image: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    imageb: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_b: Option<String>,
    hit: &'a str,
    time: f64,
    accel_x: f64,
    accel_y: f64,
    accel_z: f64,
    gyro_x: f64,
    gyro_y: f64,
    gyro_z: f64,
    pitch: f64,
    yaw: f64,
    roll: f64,
    #[serde(rename = "activeNode")]
    active_node: usize,
    #[serde(rename = "totalNodes")]
    total_nodes: usize,
    pos_x: f64,
    pos_y: f64,
    pos_z: f64,
    vel_x: f64,
    vel_y: f64,
    vel_z: f64,
    cte: f64,
}

/// A value as one line of the wire.
fn line(value: &impl Serialize) -> Vec<u8> {
    // Only maps with keys that are not text can fail, and there are none.
    let mut bytes = serde_json::to_vec(value).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

impl Telemetry<'_> {
    /// The frame as a line.
    pub fn line(&self) -> Vec<u8> {
        let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
        let second = self.second.map(encode);
        line(&TelemetryWire {
            msg_type: "telemetry",
            steering_angle: self.steering,
            throttle: self.throttle,
            speed: self.speed,
            image: encode(self.image),
            // The simulator writes one name and its client reads the other: send both.
            imageb: second.clone(),
            image_b: second,
            hit: self.hit,
            time: self.time,
            // In the car's own frame. All three of each kind: clients read them in threes.
            accel_x: self.speed * self.yaw_rate,
            accel_y: 0.0,
            accel_z: self.accel,
            gyro_x: 0.0,
            gyro_y: self.yaw_rate,
            gyro_z: 0.0,
            pitch: 0.0,
            yaw: self.pose.yaw.to_degrees().rem_euclid(360.0),
            roll: 0.0,
            active_node: self.node.0,
            total_nodes: self.node.1,
            pos_x: self.pose.at.x,
            pos_y: 0.0,
            pos_z: self.pose.at.z,
            // Over the ground, not in the car's frame: clients project it on the heading themselves.
            vel_x: self.velocity[0],
            vel_y: 0.0,
            vel_z: self.velocity[1],
            cte: self.cte * UNITS_PER_METRE,
        })
    }
}

/// The menu is shown; a scene can be chosen.
pub fn scene_selection_ready() -> Vec<u8> {
    line(&json!({"msg_type": "scene_selection_ready", "loaded": "1"}))
}

/// The scenes there are.
pub fn scene_names(names: &[&str]) -> Vec<u8> {
    line(&json!({"msg_type": "scene_names", "scene_names": names}))
}

/// The protocol version.
pub fn protocol_version() -> Vec<u8> {
    line(&json!({"msg_type": "protocol_version", "version": PROTOCOL_VERSION}))
}

/// The car stands on the track.
pub fn car_loaded() -> Vec<u8> {
    line(&json!({"msg_type": "car_loaded"}))
}

/// The car crossed the line it started from. Clients time laps by these; `time` must not be zero.
pub fn crossed_line(time: f64) -> Vec<u8> {
    line(&json!({
        "msg_type": "collision_with_starting_line",
        "starting_line_index": 0,
        "timeStamp": time,
        "realtimeSinceStartup": time,
    }))
}

/// Where a node of the centreline is.
pub fn node_position(index: usize, pose: Pose) -> Vec<u8> {
    line(&json!({
        "msg_type": "node_position",
        "index": index,
        "pos_x": pose.at.x * UNITS_PER_METRE,
        "pos_y": 0.0,
        "pos_z": pose.at.z * UNITS_PER_METRE,
        "Qx": 0.0,
        "Qy": (pose.yaw / 2.0).sin(),
        "Qz": 0.0,
        "Qw": (pose.yaw / 2.0).cos(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::geometry::Vec2;

    #[test]
    fn every_line_ends_as_clients_split_them() {
        let pose = Pose { at: Vec2::new(1.0, 2.0), yaw: -0.5 };
        let telemetry = Telemetry {
            steering: 0.1,
            throttle: 0.2,
            image: &[1, 2, 3],
            second: Some(&[4]),
            hit: "none",
            time: 1.25,
            pose,
            speed: 0.9,
            velocity: [0.1, 0.2],
            accel: 0.0,
            yaw_rate: 0.3,
            cte: 0.05,
            node: (3, 90),
        };
        let lines = [
            scene_selection_ready(),
            scene_names(&["a", "b"]),
            protocol_version(),
            car_loaded(),
            crossed_line(0.05),
            node_position(2, pose),
            telemetry.line(),
        ];
        for line in lines {
            assert!(line.ends_with(b"}\n"));
            assert!(!line[..line.len() - 1].contains(&b'\n'), "one line");
            assert!(!line[..line.len() - 1].contains(&b' '), "compact");
        }
        let frame: serde_json::Value = serde_json::from_slice(&telemetry.line()).unwrap();
        assert_eq!(frame["cte"], 0.4);
        assert_eq!(frame["pos_x"], 1.0);
        assert_eq!(frame["image_b"], frame["imageb"]);
        assert!((frame["yaw"].as_f64().unwrap() - 331.352).abs() < 1e-3);
    }
}
