//! Cars that tell how a release stands on them: who they are, by tokens, and what they may say.
//!
//! A car says it of itself alone: its token stands for one name in one environment of one
//! pipeline. Tokens are kept as digests; the file holds nothing that a reader could use.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, bail};
use pitlane_release::{CarKind, Digest, PinnedImage};

use serde_json::Value;

use super::store::{Car, CarStatus, Store, StoreError, now_ms, output};
use crate::lane::Step;

/// Largest file of tokens (bytes).
const MAX_FILE: u64 = 4 * 1024 * 1024;
/// Releases among which a car's is looked for.
const CANDIDATES: u32 = 64;
/// Longest code and message that are kept (characters).
const MAX_CODE: usize = 64;
const MAX_MESSAGE: usize = 1000;

/// A car that a token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pipeline: String,
    environment: String,
    car: String,
}

/// Who is who among cars; nobody by default.
#[derive(Clone, Debug, Default)]
pub struct CarTokens {
    /// SHA-256 of the token → the car. Found by the digest of what was sent, so how long that
    /// takes tells nothing of a token.
    by_digest: BTreeMap<[u8; 32], Known>,
}

impl CarTokens {
    /// Reads a file: lines of `PIPELINE ENVIRONMENT CAR sha256:DIGEST`, `#` for remarks.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        use std::io::Read as _;
        let shown = path.display();
        let file = std::fs::File::open(path).with_context(|| format!("{shown}: cannot be read"))?;
        let mut text = String::new();
        file.take(MAX_FILE).read_to_string(&mut text).with_context(|| shown.to_string())?;
        Self::parse(&text).with_context(|| format!("{shown}: not a file of car tokens"))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let mut tokens = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or("").trim();
            if line.is_empty() {
                continue;
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            let [pipeline, environment, car, digest] = words[..] else {
                bail!("line {number}: want `PIPELINE ENVIRONMENT CAR sha256:DIGEST`");
            };
            let name = |what: &str, text: &str| {
                let name = text.parse::<CarKind>();
                name.map(|name| name.to_string())
                    .map_err(|error| anyhow::anyhow!("line {number}: {what}: {error}"))
            };
            let digest: Digest =
                digest.parse().map_err(|error| anyhow::anyhow!("line {number}: {error}"))?;
            let known = Known {
                pipeline: name("pipeline", pipeline)?,
                environment: name("environment", environment)?,
                car: name("car", car)?,
            };
            if tokens.by_digest.insert(*digest.as_bytes(), known).is_some() {
                bail!("line {number}: two cars have the same token");
            }
        }
        Ok(tokens)
    }

    /// The car of an `Authorization` header.
    pub(super) fn car(&self, authorization: &str) -> Option<&Known> {
        let token = authorization.strip_prefix("Bearer ")?;
        self.by_digest.get(Digest::of(token).as_bytes())
    }
}

impl Known {
    /// What the car said, as it is kept; or why it is not.
    pub(super) fn says(&self, status: CarStatus) -> Result<Car, String> {
        let image: PinnedImage = status.image.parse().map_err(|e| format!("`image`: {e}"))?;
        let cut = |text: Option<String>, most| {
            text.map(|text| text.chars().filter(|c| !c.is_control()).take(most).collect())
        };
        let status = CarStatus {
            image: image.to_string(),
            code: cut(status.code, MAX_CODE),
            message: cut(status.message, MAX_MESSAGE),
            ..status
        };
        let Self { pipeline, environment, car } = self.clone();
        Ok(Car { pipeline, car, environment, status, time: now_ms() })
    }
}

/// Cars speak of the platform's image that they drive, GitOps repositories of the index: names the
/// index, where the release is known by its counter.
pub(super) async fn by_index(store: &Store, mut car: Car) -> Result<Car, StoreError> {
    let Some(counter) = car.status.counter else { return Ok(car) };
    let done = store.newest_done(&car.pipeline, CANDIDATES).await?;
    let Some(run) = done.iter().find(|run| run.counter == counter) else { return Ok(car) };
    let steps = store.steps(&run.id).await?;
    let release = output(&steps, Step::Sign).map(|signed| &signed["release"]);
    let Some((repository, digest)) = car.status.image.split_once('@') else { return Ok(car) };
    let Some(release) = release else { return Ok(car) };
    let of_platform = |digests: &serde_json::Map<String, Value>| {
        digests.values().any(|one| one.as_str() == Some(digest))
    };
    if release["platforms"].as_object().is_some_and(of_platform)
        && let Some(index) = release["index"].as_str()
    {
        car.status.image = format!("{repository}@{index}");
    }
    Ok(car)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_stands_for_one_car() {
        let digest = Digest::of("geheim");
        let other = Digest::of("other");
        let text = format!("# cars\ncar sim s1 {digest}\n\ncar rc r1 {other} # blue one\n");
        let tokens = CarTokens::parse(&text).unwrap();
        assert_eq!(tokens.car("Bearer geheim").unwrap().car, "s1");
        assert_eq!(tokens.car("Bearer other").unwrap().environment, "rc");
        for bad in
            ["Bearer geheim ", "bearer geheim", "geheim", "Bearer ", &format!("Bearer {digest}")]
        {
            assert!(tokens.car(bad).is_none(), "{bad}");
        }
        for bad in ["car sim s1", "car sim s1 geheim", "car sim S1 x", "a b c d e"] {
            assert!(CarTokens::parse(bad).is_err(), "{bad}");
        }
        let twice = format!("car sim s1 {digest}\ncar sim s2 {digest}\n");
        assert!(CarTokens::parse(&twice).is_err());
    }
}
