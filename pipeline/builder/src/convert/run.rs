//! A conversion from request to file.

use std::{
    collections::BTreeMap,
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::Duration,
};

use bollard::{
    container::LogOutput,
    query_parameters::{AttachContainerOptions, CreateContainerOptions},
};
use futures_util::StreamExt as _;
use pitlane_release::Digest;
use tokio::{io::AsyncWriteExt as _, time::timeout};

use super::{
    Answer, Request, RequestFault,
    answer::{self, Said},
    container::{self, Container, body},
    request::{MAX_REQUEST, is_name},
};
use crate::{BuildError, Builder, event::message};

/// Most files of code, and bytes of one.
const MAX_CODE_FILES: usize = 100;
const MAX_CODE: u64 = 1024 * 1024;
/// How much of what the converter prints is kept, from its end.
const MAX_WORDS: usize = 16 * 1024;
/// Room for the archive's own blocks.
const FRAME: u64 = 16 * 1024;

/// A model to convert.
#[derive(Clone, Debug)]
pub struct Conversion {
    /// What is wanted.
    pub request: Request,
    /// The model file. It is read as bytes, never loaded.
    pub model: PathBuf,
    /// Python modules that it needs: name without `.py` → file.
    pub code: BTreeMap<String, PathBuf>,
    /// The converter image, on the host already (`pitlane-converter:sklearn`).
    pub image: String,
    /// Bounds.
    pub limits: ConvertLimits,
    /// What the container is called: one of this name that an earlier, killed conversion left is
    /// removed first. The engine's choice without it. Letters, digits and dashes.
    pub name: Option<String>,
}

/// Bounds of a conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvertLimits {
    /// Seconds until it is stopped.
    pub seconds: u64,
    /// Bytes of memory, scratch space included; there is no swap.
    pub memory: u64,
    /// Bytes of scratch space.
    pub scratch: u64,
    /// Thousandths of a processor.
    pub milli_cpus: u32,
    /// Processes and threads.
    pub processes: u32,
    /// Bytes of the model that goes in, and of the one that comes out.
    pub model_bytes: u64,
}

impl Default for ConvertLimits {
    /// Ten minutes, 3 GiB of memory, models of 128 MiB.
    fn default() -> Self {
        Self {
            seconds: 600,
            memory: 3 << 30,
            scratch: 512 << 20,
            milli_cpus: 2000,
            processes: 256,
            model_bytes: 128 << 20,
        }
    }
}

/// A converted model.
#[derive(Clone, Debug, PartialEq)]
pub struct Converted {
    /// The ONNX file, of a stranger: inspect it like any other.
    pub onnx: Vec<u8>,
    /// Its digest.
    pub digest: Digest,
    /// Digest of the original.
    pub original: Digest,
    /// What the converter says of it.
    pub answer: Answer,
    /// The id of the converter image, for provenance.
    pub image: String,
}

/// A conversion that gave no file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// The request is wrong; nothing was started.
    #[error("the conversion request is not usable: {0}")]
    Request(#[from] RequestFault),
    /// A file is too large, or no file.
    #[error("{}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The image is not on the host.
    #[error("converter image {name} is not on {host}; make it with scripts/converters.sh")]
    ImageMissing {
        /// The image.
        name: String,
        /// The engine.
        host: String,
    },
    /// The converter says no.
    #[error("the model cannot be converted ({code}): {message}")]
    Refused {
        /// A code that stays (docs/builders.md).
        code: String,
        /// Its words, shortened and without control characters.
        message: String,
    },
    /// Time ran out.
    #[error("the conversion was stopped after {seconds} s; raise limits.seconds if it needs more")]
    TimedOut {
        /// The limit.
        seconds: u64,
    },
    /// It used more memory than it has.
    #[error("the conversion needed more than {memory} bytes of memory; raise limits.memory")]
    OutOfMemory {
        /// The limit.
        memory: u64,
    },
    /// It wrote more than a model can have.
    #[error("the conversion wrote more than {max} bytes and was stopped")]
    TooMuchOutput {
        /// The limit.
        max: u64,
    },
    /// It ended without an answer.
    #[error(
        "the conversion ended with code {code} and no usable answer ({why}); it printed: {printed}"
    )]
    NoAnswer {
        /// Its exit code.
        code: i64,
        /// What is wrong with what it wrote.
        why: String,
        /// The end of what it printed, shortened and without control characters.
        printed: String,
    },
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] BuildError),
}

impl Builder {
    /// Converts a model. Dropping the future takes the container away.
    pub async fn convert(&self, conversion: &Conversion) -> Result<Converted, ConvertError> {
        let seconds = conversion.limits.seconds;
        timeout(Duration::from_secs(seconds), self.run_conversion(conversion))
            .await
            .unwrap_or(Err(ConvertError::TimedOut { seconds }))
    }

    async fn run_conversion(&self, conversion: &Conversion) -> Result<Converted, ConvertError> {
        conversion.request.check()?;
        let (archive, original) = pack(conversion)?;
        let image = self.converter(&conversion.image).await?;
        let fail = |doing| move |error| ConvertError::Engine(self.engine(doing, error));
        let named = conversion.name.as_ref().map(|name| format!("pitlane-convert-{name}"));
        if let Some(name) = &named {
            container::remove(&self.docker, name).await;
        }
        let options =
            named.map(|name| CreateContainerOptions { name: Some(name), ..Default::default() });
        let created = self.docker.create_container(options, body(&image, &conversion.limits)).await;
        let created = created.map_err(fail("making the container"))?;
        let container = Container::new(&self.docker, created.id);
        let options = AttachContainerOptions {
            stream: true,
            stdin: true,
            stdout: true,
            stderr: true,
            ..AttachContainerOptions::default()
        };
        let attached = self.docker.attach_container(&container.id, Some(options)).await;
        let attached = attached.map_err(fail("attaching to the container"))?;
        let started = self.docker.start_container(&container.id, None).await;
        started.map_err(fail("starting the container"))?;

        let max = conversion.limits.model_bytes + answer::MAX_ANSWER + FRAME;
        let mut input = attached.input;
        // It need not read to the end; then writing fails, and what it says counts.
        let send = async move {
            if input.write_all(&archive).await.is_ok() {
                let _ = input.shutdown().await;
            }
            // Held open: closing it whole would end the other direction, too.
            Ok(input)
        };
        // Too much output ends the sending, too: it need not read to the end.
        let Heard { out, words } = match tokio::try_join!(send, hear(attached.output, max)) {
            Ok((_input, heard)) => heard,
            Err(None) => return Err(ConvertError::TooMuchOutput { max }),
            Err(Some(error)) => return Err(fail("reading from the container")(error)),
        };
        let (code, out_of_memory) = self.ended(&container.id).await?;
        container.remove().await;
        match answer::read(&out, &conversion.request, conversion.limits.model_bytes) {
            Said::Converted { onnx, answer } if code == 0 => {
                Ok(Converted { digest: Digest::of(&onnx), onnx, original, answer, image })
            }
            _ if out_of_memory => {
                Err(ConvertError::OutOfMemory { memory: conversion.limits.memory })
            }
            Said::Refused { code, message } => Err(ConvertError::Refused { code, message }),
            Said::Converted { .. } => Err(no_answer(code, "it failed after its answer", &words)),
            Said::Bad(why) => Err(no_answer(code, &why, &words)),
        }
    }

    /// The id of a converter image.
    async fn converter(&self, name: &str) -> Result<String, ConvertError> {
        let missing =
            || ConvertError::ImageMissing { name: name.to_owned(), host: self.host().to_owned() };
        match self.docker.inspect_image(name).await {
            Ok(image) => image.id.ok_or_else(missing),
            Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => {
                Err(missing())
            }
            Err(error) => Err(self.engine("looking for the converter", error).into()),
        }
    }

    /// How it ended: exit code, and whether for memory.
    async fn ended(&self, id: &str) -> Result<(i64, bool), ConvertError> {
        // Its streams are closed; what it left running is not waited for.
        loop {
            let found = self.docker.inspect_container(id, None).await;
            let found = found.map_err(|error| self.engine("looking at the container", error))?;
            let state = found.state.unwrap_or_default();
            if state.running != Some(true) {
                let code = state.exit_code.unwrap_or(-1);
                return Ok((code, state.oom_killed == Some(true)));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn no_answer(code: i64, why: &str, words: &[u8]) -> ConvertError {
    let words = String::from_utf8_lossy(words);
    // The end of an error says most.
    let last: Vec<&str> = words.lines().rev().take(5).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    ConvertError::NoAnswer { code, why: message(why), printed: message(&last.join(" / ")) }
}

/// What a container wrote.
struct Heard {
    out: Vec<u8>,
    words: Vec<u8>,
}

/// Listens to the end, at most `max` bytes of output; none as the error when there were more.
async fn hear(
    mut output: impl futures_util::Stream<Item = Result<LogOutput, bollard::errors::Error>> + Unpin,
    max: u64,
) -> Result<Heard, Option<bollard::errors::Error>> {
    let mut heard = Heard { out: Vec::new(), words: Vec::new() };
    let mut printed = 0_u64;
    while let Some(piece) = output.next().await {
        match piece.map_err(Some)? {
            LogOutput::StdOut { message } => {
                heard.out.extend_from_slice(&message);
                if heard.out.len() as u64 > max {
                    return Err(None);
                }
            }
            LogOutput::StdErr { message } | LogOutput::Console { message } => {
                printed += message.len() as u64;
                if printed > max {
                    return Err(None);
                }
                heard.words.extend_from_slice(&message);
                let over = heard.words.len().saturating_sub(MAX_WORDS);
                heard.words.drain(..over);
            }
            LogOutput::StdIn { .. } => {}
        }
    }
    Ok(heard)
}

/// The archive that goes in, and the digest of the original.
fn pack(conversion: &Conversion) -> Result<(Vec<u8>, Digest), ConvertError> {
    let fault = |field, why: &str| ConvertError::Request(RequestFault { field, why: why.into() });
    let document = serde_json::to_vec(&conversion.request)
        .map_err(|error| fault("arguments", &error.to_string()))?;
    if document.len() > MAX_REQUEST {
        return Err(fault("arguments", "the request has more than 64 KiB"));
    }
    if conversion.code.len() > MAX_CODE_FILES || !conversion.code.keys().all(|name| is_name(name)) {
        return Err(fault("code", "at most 100 modules, named by letters, digits and _"));
    }
    let model = read(&conversion.model, conversion.limits.model_bytes)?;
    let original = Digest::of(&model);
    let mut files = vec![("request.json".to_owned(), document)];
    for (name, path) in &conversion.code {
        files.push((format!("code/{name}.py"), read(path, MAX_CODE)?));
    }
    files.push(("model".to_owned(), model));
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in &files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        let done = tar.append_data(&mut header, name, &bytes[..]);
        done.map_err(|error| fault("code", &error.to_string()))?;
    }
    Ok((tar.into_inner().map_err(|error| fault("code", &error.to_string()))?, original))
}

/// A regular file, not through a link.
fn read(path: &Path, max: u64) -> Result<Vec<u8>, ConvertError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let fail = |why: String| ConvertError::File { path: path.to_owned(), why };
    let flags = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK;
    let open = || -> io::Result<Vec<u8>> {
        let file = std::fs::File::options().read(true).custom_flags(flags.bits()).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("not a file"));
        }
        let mut bytes = Vec::new();
        file.take(max + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = open().map_err(|error| fail(error.to_string()))?;
    if bytes.len() as u64 > max {
        return Err(fail(format!("more than {max} bytes")));
    }
    Ok(bytes)
}
