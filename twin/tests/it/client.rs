//! A small Donkey client and a twin to talk to. Speaks as real clients do: objects without
//! delimiters, numbers as strings.

use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

/// A running twin; killed when dropped.
pub(crate) struct Twin {
    child: Child,
    stdout: BufReader<ChildStdout>,
    pub(crate) address: String,
}

impl Twin {
    /// Starts a twin and reads where it listens.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::at("127.0.0.1:0", args)
    }

    pub(crate) fn at(listen: &str, args: &[&str]) -> Self {
        let mut twin = Self::spawn(&[&["--listen", listen][..], args].concat());
        let mut line = String::new();
        twin.stdout.read_line(&mut line).unwrap();
        let told: Value = serde_json::from_str(&line).unwrap();
        twin.address = told["listening"].as_str().unwrap().to_owned();
        twin
    }

    pub(crate) fn spawn(args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pitlane-twin"))
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout, address: String::new() }
    }

    pub(crate) fn connect(&self) -> Client {
        if let Some(path) = self.address.strip_prefix("unix:") {
            let stream = UnixStream::connect(path).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            Client::new(Box::new(stream))
        } else {
            let stream = TcpStream::connect(&self.address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.set_nodelay(true).unwrap();
            Client::new(Box::new(stream))
        }
    }

    /// Waits for the twin to end by itself.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the twin does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Twin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client of the twin.
pub(crate) struct Client {
    wire: BufReader<Box<dyn Wire>>,
}

impl Client {
    pub(crate) fn new(wire: Box<dyn Wire>) -> Self {
        Self { wire: BufReader::with_capacity(256 * 1024, wire) }
    }

    /// The next message; none when the twin closed the connection.
    pub(crate) fn next(&mut self) -> Option<Value> {
        let mut line = Vec::new();
        match self.wire.read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_slice(&line).unwrap()),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("nothing came: {error}"),
        }
    }

    /// The next message of a kind, passing over others.
    pub(crate) fn wait_for(&mut self, kind: &str) -> Option<Value> {
        loop {
            let message = self.next()?;
            if message["msg_type"] == kind {
                return Some(message);
            }
        }
    }

    pub(crate) fn say(&mut self, text: &str) {
        // The twin may be gone; the next read tells.
        let _ = self.wire.get_mut().write_all(text.as_bytes());
    }

    pub(crate) fn control(&mut self, steering: f64, throttle: f64) {
        self.say(&format!(
            r#"{{"msg_type":"control","steering":"{steering}","throttle":"{throttle}","brake":"0.0"}}"#
        ));
    }

    /// Through the menu onto a scene.
    pub(crate) fn load(&mut self, scene: &str) {
        self.wait_for("scene_selection_ready").unwrap();
        self.say(r#"{"msg_type":"get_scene_names"}"#);
        let names = self.wait_for("scene_names").unwrap();
        assert!(names["scene_names"].as_array().unwrap().len() >= 4);
        self.say(&format!(r#"{{"msg_type":"load_scene","scene_name":"{scene}"}}"#));
        self.wait_for("car_loaded").unwrap();
    }

    /// Steers along the centreline until the twin hangs up; gives the number of frames.
    pub(crate) fn drive(&mut self, throttle: f64) -> u32 {
        let (mut last, mut frames) = (None, 0_u32);
        while let Some(frame) = self.wait_for("telemetry") {
            let cte = frame["cte"].as_f64().unwrap();
            let change = cte - last.unwrap_or(cte);
            last = Some(cte);
            frames += 1;
            self.control((-0.6 * cte - 3.0 * change).clamp(-1.0, 1.0), throttle);
        }
        frames
    }
}
