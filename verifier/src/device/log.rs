//! What a container prints: a bounded file, and the last lines in memory for reports.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

/// Bytes of output kept in memory.
const TAIL: usize = 16 * 1024;

/// Reads a pipe to its end on a thread of its own, so that a program never blocks on its output.
#[derive(Debug)]
pub(super) struct Log {
    tail: Arc<Mutex<VecDeque<u8>>>,
    thread: Option<JoinHandle<()>>,
}

impl Log {
    /// Writes to `path`, at most `cap` bytes before it becomes `path.old`, twice that in all.
    /// What an earlier start wrote becomes `path.old` first: it may say why it ended.
    pub(super) fn start(mut from: io::PipeReader, path: PathBuf, cap: u64) -> io::Result<Self> {
        let _ = fs::rename(&path, old(&path));
        let mut file = create(&path)?;
        let tail = Arc::new(Mutex::new(VecDeque::with_capacity(TAIL)));
        let shared = Arc::clone(&tail);
        let pump = move || {
            let (mut buffer, mut written) = (vec![0; 8 * 1024], 0_u64);
            while let Ok(n) = from.read(&mut buffer) {
                if n == 0 {
                    break;
                }
                let bytes = &buffer[..n];
                {
                    let mut tail = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    let over = (tail.len() + n).saturating_sub(TAIL).min(tail.len());
                    tail.drain(..over);
                    tail.extend(bytes);
                }
                // A full disk must not stop the car: output is then only in memory.
                if written + n as u64 > cap
                    && fs::rename(&path, old(&path)).is_ok()
                    && let Ok(next) = create(&path)
                {
                    (file, written) = (next, 0);
                }
                if written + n as u64 <= cap && file.write_all(bytes).is_ok() {
                    written += n as u64;
                }
            }
        };
        let thread = thread::Builder::new().name("container-log".into()).spawn(pump)?;
        Ok(Self { tail, thread: Some(thread) })
    }

    /// The last output, safe to print: control characters but line feeds are escaped.
    pub(super) fn tail(&self) -> String {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = tail.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let mut safe = String::with_capacity(text.len());
        for c in text.chars() {
            match c {
                '\n' | '\t' => safe.push(c),
                c if c.is_control() => safe.extend(c.escape_default()),
                c => safe.push(c),
            }
        }
        safe
    }

    /// Waits until all output is in; only after the last writer of the pipe ended.
    pub(super) fn finish(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn old(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".old");
    name.into()
}

fn create(path: &Path) -> io::Result<File> {
    let flags = nix::fcntl::OFlag::O_NOFOLLOW.bits();
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(flags)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_bounded_on_disk_and_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let (reader, mut writer) = io::pipe().unwrap();
        let mut log = Log::start(reader, path.clone(), 10_000).unwrap();
        for n in 0..5000 {
            writeln!(writer, "line {n}").unwrap();
        }
        writer.write_all(b"\x1b[2Jend").unwrap();
        drop(writer);
        log.finish();
        for file in [path.clone(), old(&path)] {
            let length = fs::metadata(file).unwrap().len();
            assert!(length > 0 && length <= 10_000, "{length}");
        }
        let tail = log.tail();
        assert!(tail.len() <= TAIL + 16 && tail.ends_with("line 4999\n\\u{1b}[2Jend"), "{tail}");
    }
}
