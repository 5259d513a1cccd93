//! How a conversation with the simulator starts, as a value: messages in, messages out.
//!
//! Menu: `scene_selection_ready` → names → load → `car_loaded` → configurations. A simulator
//! whose scene is loaded already begins with `car_loaded`, a race with `need_car_config`, and
//! either may send telemetry before anything else.

use crate::protocol::{self, Incoming};

/// The scene that is asked for when the operator names none and the simulator offers it.
const USUAL_SCENE: &str = "generated_track";

/// How far the conversation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Nothing was said.
    Silent,
    /// The names of the scenes were asked for.
    Asked,
    /// A scene was asked for.
    Loading,
    /// The car stands on the road.
    Done,
}

/// The conversation.
#[derive(Debug)]
pub struct Handshake {
    step: Step,
    scene: Option<String>,
    size: (u32, u32),
}

/// Why there is nothing to drive in.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum HandshakeError {
    /// The scene that was asked for is not there.
    #[error("the simulator has no scene `{wanted}`; it offers: {offered}")]
    NoScene {
        /// What was asked for.
        wanted: String,
        /// What there is.
        offered: String,
    },
}

impl Handshake {
    /// A conversation that wants this scene, and pictures of this width and height.
    pub const fn new(scene: Option<String>, size: (u32, u32)) -> Self {
        Self { step: Step::Silent, scene, size }
    }

    /// What to answer.
    pub fn hear(&mut self, message: &Incoming) -> Result<Vec<String>, HandshakeError> {
        match (&*message.msg_type, self.step) {
            ("scene_selection_ready", Step::Silent) => Ok(self.nudge()),
            ("scene_names", Step::Silent | Step::Asked) => {
                let name = self.choose(message.scene_names.as_deref().unwrap_or_default())?;
                self.step = Step::Loading;
                Ok(vec![protocol::load_scene(&name)])
            }
            ("car_loaded" | "need_car_config" | "telemetry", step) if step != Step::Done => {
                self.step = Step::Done;
                let (width, height) = self.size;
                Ok(vec![protocol::car_config(), protocol::cam_config(width, height)])
            }
            // Pings, race events, words of other versions: nothing to say.
            _ => Ok(Vec::new()),
        }
    }

    /// What to say into a silence: the first message can get lost while a simulator starts.
    pub fn nudge(&mut self) -> Vec<String> {
        match self.step {
            Step::Silent | Step::Asked => {
                self.step = Step::Asked;
                vec![protocol::get_scene_names()]
            }
            Step::Loading | Step::Done => Vec::new(),
        }
    }

    fn choose(&self, names: &[String]) -> Result<String, HandshakeError> {
        let wanted = self.scene.as_deref().unwrap_or(USUAL_SCENE);
        let found = names.iter().find(|name| *name == wanted);
        let found = match self.scene {
            None => found.or(names.first()),
            Some(_) => found,
        };
        found.cloned().ok_or_else(|| HandshakeError::NoScene {
            wanted: wanted.into(),
            offered: names.join(", "),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn talk(scene: Option<&str>, heard: &[&str]) -> Result<Vec<String>, HandshakeError> {
        let mut talk = Handshake::new(scene.map(String::from), (160, 120));
        let mut said = Vec::new();
        for line in heard {
            for text in talk.hear(&protocol::parse(line.as_bytes()).unwrap())? {
                let value: serde_json::Value = serde_json::from_str(&text).unwrap();
                let name = value["scene_name"].as_str().map(|s| format!(" {s}"));
                said.push(format!(
                    "{}{}",
                    value["msg_type"].as_str().unwrap(),
                    name.unwrap_or_default()
                ));
            }
        }
        Ok(said)
    }

    const READY: &str = r#"{"msg_type":"scene_selection_ready","loaded":"1"}"#;
    const NAMES: &str = r#"{"msg_type":"scene_names","scene_names":["road","generated_track"]}"#;
    const LOADED: &str = r#"{"msg_type":"car_loaded"}"#;
    const FRAME: &str = r#"{"msg_type":"telemetry"}"#;

    #[test]
    fn from_the_menu_to_the_road() {
        let said =
            talk(None, &[READY, READY, NAMES, NAMES, r#"{"msg_type":"ping"}"#, LOADED, FRAME]);
        insta::assert_debug_snapshot!(said.unwrap(), @r#"
        [
            "get_scene_names",
            "load_scene generated_track",
            "car_config",
            "cam_config",
        ]
        "#);
    }

    #[test]
    fn shortcuts() {
        for first in [LOADED, FRAME, r#"{"msg_type":"need_car_config"}"#] {
            assert_eq!(
                talk(None, &[first, FRAME]).unwrap(),
                ["car_config", "cam_config"],
                "{first}"
            );
        }
    }

    #[test]
    fn scenes() {
        assert_eq!(talk(Some("road"), &[READY, NAMES]).unwrap()[1], "load_scene road");
        let only = r#"{"msg_type":"scene_names","scene_names":["x"]}"#;
        assert_eq!(talk(None, &[READY, only]).unwrap()[1], "load_scene x");
        let error = talk(Some("moon"), &[READY, NAMES]).unwrap_err().to_string();
        assert_eq!(error, "the simulator has no scene `moon`; it offers: road, generated_track");
        let none = r#"{"msg_type":"scene_names"}"#;
        assert!(talk(None, &[READY, none]).is_err());
    }
}
