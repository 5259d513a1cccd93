//! A simulator's side of the protocol, without a world: tests decide what it says, and when.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jpeg_encoder::{ColorType, Encoder};
use serde_json::Value;

/// Longest wait for a message.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a control message said, numbers out of their strings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Control {
    pub(crate) steering: f32,
    pub(crate) throttle: f32,
    pub(crate) brake: f32,
}

impl Control {
    pub(crate) const STOP: Self = Self { steering: 0.0, throttle: 0.0, brake: 1.0 };
}

trait Wire: Read + Write {}
impl Wire for TcpStream {}
impl Wire for UnixStream {}

/// Waits for cars.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    pub(crate) fn tcp() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        (Self::Tcp(listener), address)
    }

    pub(crate) fn unix(path: &Path) -> (Self, String) {
        (Self::Unix(UnixListener::bind(path).unwrap()), format!("unix:{}", path.display()))
    }

    /// One car's connection, before any word.
    pub(crate) fn accept(&self) -> Sim {
        let short = Some(Duration::from_millis(10));
        let wire: Box<dyn Wire> = match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().unwrap();
                stream.set_read_timeout(short).unwrap();
                stream.set_nodelay(true).unwrap();
                Box::new(stream)
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().unwrap();
                stream.set_read_timeout(short).unwrap();
                Box::new(stream)
            }
        };
        Sim { wire, buffer: Vec::new(), frames: 0 }
    }

    /// One car's connection, up to the point where the car stands on the road.
    pub(crate) fn greet(&self) -> Sim {
        let mut sim = self.accept();
        sim.say(r#"{"msg_type":"scene_selection_ready","loaded":"1"}"#);
        assert_eq!(
            sim.expect("get_scene_names"),
            serde_json::json!({"msg_type": "get_scene_names"})
        );
        sim.say(r#"{"scene_names":["generated_road","generated_track"],"msg_type":"scene_names"}"#);
        assert_eq!(sim.expect("load_scene")["scene_name"], "generated_track");
        sim.say(r#"{"msg_type":"car_loaded"}"#);
        sim.expect("car_config");
        let camera = sim.expect("cam_config");
        assert_eq!((&camera["img_w"], &camera["img_h"]), (&"160".into(), &"120".into()));
        sim
    }
}

/// A conversation with one car.
pub(crate) struct Sim {
    wire: Box<dyn Wire>,
    buffer: Vec<u8>,
    frames: u32,
}

impl Sim {
    pub(crate) fn say(&mut self, text: &str) {
        self.try_say(text).unwrap();
    }

    pub(crate) fn try_say(&mut self, text: &str) -> io::Result<()> {
        // In one write: half a line would be read, and answered, apart.
        self.wire.write_all(format!("{text}\n").as_bytes())
    }

    /// Sends bytes without a line end.
    pub(crate) fn flood(&mut self, text: &str) -> io::Result<()> {
        self.wire.write_all(text.as_bytes())
    }

    /// Sends a picture of one grey level, marked so that no two are alike.
    pub(crate) fn frame(&mut self, level: u8) {
        self.frames += 1;
        let text = telemetry(&picture(level, self.frames), self.frames);
        self.say(&text);
    }

    /// The next message, if there is one within `patience`.
    pub(crate) fn next(&mut self, patience: Duration) -> Option<Value> {
        let until = Instant::now() + patience;
        loop {
            // As strict as Unity: objects back to back, nothing between them.
            let mut messages = serde_json::Deserializer::from_slice(&self.buffer).into_iter();
            if let Some(Ok(message)) = messages.next() {
                let used = messages.byte_offset();
                self.buffer.drain(..used);
                assert!(
                    self.buffer.first().is_none_or(|b| *b == b'{'),
                    "delimiters between messages"
                );
                return Some(message);
            }
            if Instant::now() > until {
                return None;
            }
            let mut chunk = [0; 4096];
            match self.wire.read(&mut chunk) {
                Ok(0) => return None,
                Ok(n) => self.buffer.extend_from_slice(&chunk[..n]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return None,
            }
        }
    }

    pub(crate) fn expect(&mut self, kind: &str) -> Value {
        let message = self.next(PATIENCE).unwrap_or_else(|| panic!("no message, want {kind}"));
        assert_eq!(message["msg_type"], kind, "{message}");
        message
    }

    pub(crate) fn control(&mut self) -> Control {
        self.control_within(PATIENCE).expect("no control")
    }

    pub(crate) fn control_within(&mut self, patience: Duration) -> Option<Control> {
        let message = self.next(patience)?;
        assert_eq!(message["msg_type"], "control");
        let number = |field: &str| {
            message[field].as_str().expect("numbers are strings").parse::<f32>().unwrap()
        };
        Some(Control {
            steering: number("steering"),
            throttle: number("throttle"),
            brake: number("brake"),
        })
    }

    /// Drives `n` frames at 20 Hz of the wall clock; the last answer.
    pub(crate) fn drive(&mut self, n: u32) -> Control {
        let mut last = Control::STOP;
        for _ in 0..n {
            self.frame(255);
            last = self.control();
            std::thread::sleep(Duration::from_millis(45));
        }
        last
    }

    /// All controls until the car closes the connection.
    pub(crate) fn rest(&mut self) -> Vec<Control> {
        std::iter::from_fn(|| self.control_within(PATIENCE)).collect()
    }
}

/// A JPEG in base64: one grey level, but for a few pixels that say which frame it is.
pub(crate) fn picture(level: u8, mark: u32) -> String {
    let mut rgb = vec![level; 160 * 120 * 3];
    for bit in 0..16 {
        let value = if mark >> bit & 1 == 1 { 0 } else { 255 };
        rgb[bit * 24..bit * 24 + 24].fill(value);
    }
    let mut jpeg = Vec::new();
    Encoder::new(&mut jpeg, 90).encode(&rgb, 160, 120, ColorType::Rgb).unwrap();
    STANDARD.encode(jpeg)
}

/// A telemetry message; its time advances 50 ms a frame.
pub(crate) fn telemetry(image: &str, frame: u32) -> String {
    let time = f64::from(frame) * 0.05;
    format!(
        r#"{{"msg_type":"telemetry","image":"{image}","time":{time},"speed":1.0,"hit":"none"}}"#
    )
}
