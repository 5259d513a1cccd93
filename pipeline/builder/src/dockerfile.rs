//! What a Dockerfile may reach. The engine itself fetches images and addresses for it, outside of
//! every network rule, so those are looked at here, before anything is sent.
//!
//! The reading is stricter than the engine's: what could be read in two ways is refused (here-documents,
//! other front ends, unknown instructions), so that nothing is hidden from it. Source: the Dockerfile
//! reference; moby/buildkit `frontend/dockerfile/parser` for continuations and directives.

use std::collections::{BTreeMap, BTreeSet};

use crate::{BuildRequest, Engine, Network};

/// Most instructions; and most stages, since each costs a container.
const MAX_INSTRUCTIONS: usize = 2000;
/// What there is. `ONBUILD` is missing on purpose: it acts in somebody else's build.
const INSTRUCTIONS: [&str; 17] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Why a Dockerfile is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file} line {line}: {fault}")]
pub struct DockerfileFault {
    /// The file.
    pub file: String,
    /// The line where the instruction begins; 1 is the first.
    pub line: usize,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with an instruction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Not an instruction we read.
    #[error("`{0}` is no instruction that is built")]
    Instruction(String),
    /// A front end, or a directive we do not read.
    #[error("the directive `{0}` is not followed; remove it")]
    Directive(String),
    /// A line that engines join differently.
    #[error("the line {0}, which can be read in two ways; write it differently")]
    Line(String),
    /// A here-document.
    #[error("`<<` is not read; put the text into a file and COPY it")]
    HereDocument,
    /// An image that the operator did not list.
    #[error("image {0} is not among the bases; the pipeline's operator lists those")]
    Base(String),
    /// A name whose value is not known before the build.
    #[error(
        "`{0}` cannot be known before the build; write the name out, or use an ARG before the first FROM"
    )]
    Variable(String),
    /// An `ARG` with several values.
    #[error("ARG {0} stands twice before the first FROM; keep one")]
    Twice(String),
    /// `ADD` of what the engine would fetch.
    #[error(
        "ADD {0} is fetched from the network; commit the file and COPY it, or ask the operator for network"
    )]
    Fetch(String),
    /// A mount that is not given.
    #[error(
        "RUN --mount={0}; only bind, tmpfs, secret, and cache where the cache is on, are given"
    )]
    Mount(String),
    /// More rights than a build has.
    #[error("`{0}` asks for more than a build has")]
    Rights(String),
    /// Another platform than is built.
    #[error("--platform={0} is not the platform that is built")]
    Platform(String),
    /// Nothing to build.
    #[error("no FROM")]
    Empty,
    /// Too long.
    #[error("more than {MAX_INSTRUCTIONS} instructions")]
    TooMany,
    /// The target does not exist.
    #[error("no stage is called `{0}`")]
    Target(String),
}

/// One instruction: its line, its word in upper case, the rest.
struct Instruction {
    line: usize,
    word: String,
    rest: String,
}

/// Checks a Dockerfile and gives the images that it needs on the host.
pub(crate) fn check(
    text: &str,
    request: &BuildRequest,
) -> Result<BTreeSet<String>, DockerfileFault> {
    let at = |line, fault| DockerfileFault { file: request.dockerfile.clone(), line, fault };
    let instructions = split(text).map_err(|(line, fault)| at(line, fault))?;
    let mut seen = Seen {
        request,
        arguments: BTreeMap::new(),
        stages: 0,
        names: BTreeSet::new(),
        bases: BTreeSet::new(),
    };
    for instruction in &instructions {
        seen.look(instruction).map_err(|fault| at(instruction.line, fault))?;
    }
    if seen.stages == 0 {
        return Err(at(1, Fault::Empty));
    }
    let known = |target: &str| {
        seen.names.contains(&target.to_lowercase())
            || target.parse::<usize>().is_ok_and(|number| number < seen.stages)
    };
    if let Some(target) = request.target.as_ref().filter(|target| !known(target)) {
        return Err(at(1, Fault::Target(target.clone())));
    }
    Ok(seen.bases)
}

struct Seen<'a> {
    request: &'a BuildRequest,
    /// `ARG`s before the first FROM, with the value that holds.
    arguments: BTreeMap<String, Option<String>>,
    stages: usize,
    names: BTreeSet<String>,
    bases: BTreeSet<String>,
}

impl Seen<'_> {
    fn look(&mut self, Instruction { word, rest, .. }: &Instruction) -> Result<(), Fault> {
        match word.as_str() {
            "FROM" => self.from(rest),
            "ARG" if self.stages == 0 => self.argument(rest),
            "ADD" => self.add(rest),
            "COPY" => self.copies(rest),
            "RUN" => self.run(rest),
            _ => Ok(()),
        }
    }

    fn argument(&mut self, rest: &str) -> Result<(), Fault> {
        for word in rest.split_whitespace() {
            let (name, default) = match word.split_once('=') {
                Some((name, value)) => (name, Some(unquoted(value)?)),
                None => (word, None),
            };
            let default = default.map(|value| self.expand(&value)).transpose()?;
            let given = self.request.args.get(name).cloned().or(default);
            if self.arguments.insert(name.to_owned(), given).is_some() {
                return Err(Fault::Twice(short(name)));
            }
        }
        Ok(())
    }

    fn from(&mut self, rest: &str) -> Result<(), Fault> {
        let (flags, words) = flags(rest);
        for flag in flags {
            let platform =
                flag.strip_prefix("--platform=").ok_or_else(|| Fault::Rights(short(flag)))?;
            let named = ["$TARGETPLATFORM", "${TARGETPLATFORM}"].contains(&platform);
            if !named && platform.parse().ok() != Some(self.request.platform) {
                return Err(Fault::Platform(short(platform)));
            }
        }
        let name = self.expand(&unquoted(words.first().ok_or(Fault::Empty)?)?)?;
        self.image(&name)?;
        self.stages += 1;
        match words[..] {
            [_] => {}
            [_, r#as, stage] if r#as.eq_ignore_ascii_case("as") => {
                self.names.insert(stage.to_lowercase());
            }
            _ => return Err(Fault::Instruction(short(&format!("FROM {rest}")))),
        }
        Ok(())
    }

    /// An image by name: an earlier stage, nothing, or one of the bases.
    fn image(&mut self, name: &str) -> Result<(), Fault> {
        if name == "scratch" || self.names.contains(&name.to_lowercase()) {
            return Ok(());
        }
        if !self.request.bases.contains(name) {
            return Err(Fault::Base(short(name)));
        }
        self.bases.insert(name.to_owned());
        Ok(())
    }

    /// `--from` of COPY and of mounts: a stage by name or number, or an image.
    fn source(&mut self, name: &str) -> Result<(), Fault> {
        if name.contains('$') {
            return Err(Fault::Variable(short(name)));
        }
        if name.parse::<usize>().is_ok_and(|number| number < self.stages) {
            return Ok(());
        }
        self.image(name)
    }

    fn copies(&mut self, rest: &str) -> Result<(), Fault> {
        let from = flags(rest).0.into_iter().find_map(|flag| flag.strip_prefix("--from="));
        from.map_or(Ok(()), |from| self.source(&unquoted(from)?))
    }

    fn add(&self, rest: &str) -> Result<(), Fault> {
        // What is fetched is told by its looks after variables are put in, so those are refused, too.
        let fetched = |word: &str| {
            word.contains("://") || word.contains("git@") || word.contains(['$', '\\'])
        };
        match flags(rest).1.into_iter().find(|word| fetched(word)) {
            Some(word) if self.request.network == Network::None => Err(Fault::Fetch(short(word))),
            _ => Ok(()),
        }
    }

    fn run(&mut self, rest: &str) -> Result<(), Fault> {
        for flag in flags(rest).0 {
            let Some(mount) = flag.strip_prefix("--mount=") else {
                let network = flag.strip_prefix("--network=");
                if network.is_some_and(|network| ["default", "none"].contains(&network)) {
                    continue;
                }
                return Err(Fault::Rights(short(flag)));
            };
            // Written without quotes, as everybody does; others could be read in two ways.
            let fields: BTreeMap<&str, &str> = mount
                .split(',')
                .map(|field| field.split_once('=').unwrap_or((field, "")))
                .collect();
            let given = match fields.get("type").copied().unwrap_or("bind") {
                "bind" | "tmpfs" | "secret" => true,
                // Shared by all builds of a host: one repository could feed another's.
                "cache" => self.request.cache,
                _ => false,
            };
            if !given || mount.contains(['"', '\'', '$', '\\']) {
                return Err(Fault::Mount(short(mount)));
            }
            if let Some(from) = fields.get("from") {
                self.source(from)?;
            }
        }
        Ok(())
    }

    /// Puts the values of `ARG`s in.
    fn expand(&self, text: &str) -> Result<String, Fault> {
        let unknown = || Fault::Variable(short(text));
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            let (name, default, tail) = if let Some(braced) = after.strip_prefix('{') {
                let (inner, tail) = braced.split_once('}').ok_or_else(unknown)?;
                match inner.split_once(":-") {
                    Some((name, default)) => (name, Some(default), tail),
                    None => (inner, None, tail),
                }
            } else {
                let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let end = after.find(|c| !word(c)).unwrap_or(after.len());
                (&after[..end], None, &after[end..])
            };
            let value = self.arguments.get(name).ok_or_else(unknown)?.as_deref();
            let value = value.filter(|value| !value.is_empty()).or(default).ok_or_else(unknown)?;
            if value.contains(['$', '\\']) {
                return Err(unknown());
            }
            out.push_str(value);
            rest = tail;
        }
        if rest.contains('\\') {
            return Err(unknown());
        }
        out.push_str(rest);
        Ok(out)
    }
}

/// The flags before the first other word, and the words after them.
fn flags(rest: &str) -> (Vec<&str>, Vec<&str>) {
    let words: Vec<&str> = rest.split_whitespace().collect();
    let first = words.iter().position(|word| !word.starts_with("--")).unwrap_or(words.len());
    (words[..first].to_vec(), words[first..].to_vec())
}

/// A word without the quotes around it; quotes within are refused.
fn unquoted(word: &str) -> Result<String, Fault> {
    let inner = ['"', '\''].iter().find_map(|q| word.strip_prefix(*q)?.strip_suffix(*q));
    let inner = inner.unwrap_or(word);
    if inner.contains(['"', '\'', '`']) {
        return Err(Fault::Variable(short(word)));
    }
    Ok(inner.to_owned())
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}

/// Instructions as the engine joins them: lines that end in the escape character go on, comments and
/// empty lines within are left out. Where engines of different age join differently (two escape
/// characters at the end, a comment that is indented), no reading may hide an instruction.
fn split(text: &str) -> Result<Vec<Instruction>, (usize, Fault)> {
    let text = text.trim_start_matches('\u{feff}');
    let mut escape = '\\';
    let mut directives = true;
    let mut out: Vec<Instruction> = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, line) in text.split('\n').enumerate() {
        let number = number + 1;
        let line = line.strip_suffix('\r').unwrap_or(line).trim_end_matches([' ', '\t']);
        if let Some(comment) = line.trim_start().strip_prefix('#') {
            if out.is_empty() && open.is_none() {
                directives &= directive(comment, directives, &mut escape)
                    .map_err(|()| (number, Fault::Directive(short(comment.trim()))))?;
            }
            continue;
        }
        directives = false;
        if line.trim().is_empty() {
            continue;
        }
        let continued = line.strip_suffix(escape);
        if continued.is_some_and(|before| before.ends_with(escape)) {
            return Err((number, Fault::Line("ends in two escape characters".into())));
        }
        if open.is_some() {
            let word = line.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
            if word == "ONBUILD" || INSTRUCTIONS.contains(&word.as_str()) {
                return Err((number, Fault::Line(format!("goes on, and begins with {word}"))));
            }
        }
        let (start, mut whole) = open.take().unwrap_or((number, String::new()));
        whole.push_str(continued.unwrap_or(line));
        if continued.is_some() {
            open = Some((start, whole));
        } else {
            push(&mut out, start, &whole)?;
        }
    }
    if let Some((start, whole)) = open {
        push(&mut out, start, &whole)?;
    }
    Ok(out)
}

/// A comment above the first instruction: whether it was a directive, or an error for one that is
/// not followed, or that some engines would not take for one here.
fn directive(comment: &str, allowed: bool, escape: &mut char) -> Result<bool, ()> {
    let Some((name, value)) = comment.split_once('=') else { return Ok(false) };
    match (name.trim().to_ascii_lowercase().as_str(), value.trim()) {
        ("escape", value @ ("`" | "\\")) if allowed => {
            *escape = if value == "`" { '`' } else { '\\' };
            Ok(true)
        }
        ("check", _) => Ok(true),
        ("syntax" | "escape", _) => Err(()),
        _ => Ok(false),
    }
}

fn push(out: &mut Vec<Instruction>, line: usize, whole: &str) -> Result<(), (usize, Fault)> {
    let whole = whole.trim();
    let (word, rest) = whole.split_once(char::is_whitespace).unwrap_or((whole, ""));
    let word = word.to_ascii_uppercase();
    if !INSTRUCTIONS.contains(&word.as_str()) {
        return Err((line, Fault::Instruction(short(&word))));
    }
    if ["RUN", "COPY", "ADD"].contains(&word.as_str()) && rest.contains("<<") {
        return Err((line, Fault::HereDocument));
    }
    if out.len() == MAX_INSTRUCTIONS {
        return Err((line, Fault::TooMany));
    }
    out.push(Instruction { line, word, rest: rest.trim().to_owned() });
    Ok(())
}

/// Whether a Dockerfile needs the second builder, which alone knows flags of `RUN`.
pub(crate) fn wants_buildkit(text: &str, engine: &Engine) -> bool {
    matches!(engine, Engine::Classic { .. })
        && split(text)
            .is_ok_and(|all| all.iter().any(|i| i.word == "RUN" && !flags(&i.rest).0.is_empty()))
}

#[cfg(test)]
mod tests;
