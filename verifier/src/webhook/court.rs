//! From an image to a finding: by the policies in use, through the cache, within bounds.
//!
//! Verdicts are kept by image name with digest, and by the generation of the policies: name and
//! tag say which policies speak, the digest says what of. A tag is resolved for each request anew.

use std::{sync::Arc, time::Duration};

use futures_util::future;
use pitlane_fetch::FetchError;
use pitlane_release::{Digest, ImageRef, Platform, Refusal};
use tokio::sync::Semaphore;

use super::{
    cache::{Once, Without},
    image::KubeImage,
    metrics::Metrics,
    policies::{Policies, PolicySet},
};
use pitlane_release::policy::Mode;

use crate::judge::{PolicyVerdict, now};

/// Longest that a refusal is kept: what was just signed should not wait.
const KEEP_REFUSED: Duration = Duration::from_secs(30);
/// How long it is known that a registry gave no answer, so that a crowd does not ask it at once.
const KEEP_UNDECIDED: Duration = Duration::from_secs(2);
/// Longest that judging one image may take, whoever still waits for it.
const LONGEST: Duration = Duration::from_mins(1);
/// Images judged at once; the rest waits.
const AT_ONCE: usize = 16;
/// Images that are judged or wait for it; of more nothing is begun.
const MOST_WAITING: usize = 256;

/// What happens to images that no policy speaks of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum NoMatch {
    /// They are refused.
    #[default]
    Deny,
    /// They are let in with a warning.
    Warn,
    /// They are let in.
    Allow,
}

/// How a court judges.
#[derive(Clone, Debug)]
pub struct Rules {
    /// What happens to images that no policy speaks of.
    pub no_match: NoMatch,
    /// Platforms that must be admitted; when empty, those that the image carries.
    pub platforms: Vec<Platform>,
    /// Whether an image without a digest may be judged by what its tag names now.
    pub resolve_tags: bool,
    /// Longest that an admission is kept.
    pub keep: Duration,
    /// Most verdicts kept.
    pub most_kept: usize,
}

/// What was found about one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It may run; with what to tell.
    Admitted(Vec<String>),
    /// It may not.
    Refused {
        /// The stable code.
        code: &'static str,
        /// Why, and what to do.
        why: String,
    },
    /// Nobody knows, so it may not.
    Undecided {
        /// Why not.
        why: String,
    },
}

/// Name with digest, and the generation of the policies.
type Key = (String, u64);

/// Judges images.
#[derive(Debug)]
pub struct Court {
    policies: Arc<Policies>,
    rules: Rules,
    cache: Arc<Once<Key, Finding>>,
    room: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

impl Court {
    /// A court by these policies.
    pub fn new(policies: Arc<Policies>, rules: Rules, metrics: Arc<Metrics>) -> Self {
        let cache = Once::new(rules.most_kept, MOST_WAITING);
        Self { policies, rules, cache, room: Arc::new(Semaphore::new(AT_ONCE)), metrics }
    }

    /// The policies in use now; a request goes by one set.
    pub fn set(&self) -> Arc<PolicySet> {
        self.policies.set()
    }

    /// How many verdicts are kept.
    pub fn kept(&self) -> usize {
        self.cache.len()
    }

    /// The digest of a tag; nothing is fetched for images that no policy speaks of.
    pub async fn pin(
        &self,
        set: &PolicySet,
        image: &KubeImage,
    ) -> Option<Result<Digest, FetchError>> {
        if !set.judge.covers(image.name()) {
            return None;
        }
        Some(self.resolve(set, image).await)
    }

    /// What a tag names now, in its turn: registries are asked for no more at once than images
    /// are judged.
    async fn resolve(&self, set: &PolicySet, image: &KubeImage) -> Result<Digest, FetchError> {
        // Never closed.
        let _permit = self.room.acquire().await;
        set.judge.resolve(image.name()).await
    }

    /// Judges one image.
    pub async fn judge(&self, set: &Arc<PolicySet>, image: &KubeImage) -> Finding {
        if !set.judge.covers(image.name()) {
            return no_match(self.rules.no_match, image);
        }
        let (image, mut told) = match (image.digest(), self.rules.resolve_tags) {
            (Some(_), _) => (image.clone(), None),
            (None, true) => match self.resolve(set, image).await {
                Ok(digest) => {
                    let told = format!(
                        "`{}` is not pinned: {digest} was judged, what is pulled may be another",
                        image.name()
                    );
                    (image.at(digest), Some(told))
                }
                Err(error) => return undecided(image.name(), &error),
            },
            (None, false) => return not_pinned(image),
        };
        let key = (image.name().to_string(), set.generation);
        let found = self.cache.get(key, || self.make(Arc::clone(set), image.name().clone())).await;
        let (mut finding, how) = match found {
            Ok(found) => found,
            Err(why) => return without(why, image.name()),
        };
        self.metrics.asked(how);
        if let (Finding::Admitted(warnings), Some(told)) = (&mut finding, told.take()) {
            warnings.push(told);
        }
        finding
    }

    /// Judges for the cache; also says how long to keep it.
    fn make(
        &self,
        set: Arc<PolicySet>,
        image: ImageRef,
    ) -> impl Future<Output = (Finding, Duration)> + Send + 'static {
        let (platforms, keep) = (self.rules.platforms.clone(), self.rules.keep);
        let (room, metrics) = (Arc::clone(&self.room), Arc::clone(&self.metrics));
        async move {
            let judged = async {
                // Never closed.
                let _permit = room.acquire().await;
                all_platforms(&set, &image, platforms).await
            };
            let began = std::time::Instant::now();
            let judged = tokio::time::timeout(LONGEST, judged).await;
            metrics.judged(began.elapsed());
            match judged {
                Ok(Ok(verdicts)) => combine(&image, &verdicts, keep),
                Ok(Err(error)) => (undecided(&image, &error), KEEP_UNDECIDED),
                Err(_) => {
                    let why = format!("judging `{image}` took longer than {LONGEST:?}");
                    (Finding::Undecided { why }, KEEP_UNDECIDED)
                }
            }
        }
    }
}

/// The verdicts of all policies, for every platform that counts.
async fn all_platforms(
    set: &PolicySet,
    image: &ImageRef,
    asked: Vec<Platform>,
) -> Result<Vec<PolicyVerdict>, FetchError> {
    let platforms = match (&image.digest, asked.is_empty()) {
        (Some(digest), true) => set.judge.platforms(image, digest).await?,
        _ => asked,
    };
    let judged = platforms.into_iter().map(|platform| set.judge.judge(image, platform));
    Ok(future::try_join_all(judged).await?.concat())
}

/// One finding of all verdicts, and how long it holds.
fn combine(image: &ImageRef, verdicts: &[PolicyVerdict], keep: Duration) -> (Finding, Duration) {
    if verdicts.is_empty() {
        let why = format!(
            "`{image}` is for no platform that releases are made for; \
             release it for linux/amd64 or linux/arm64"
        );
        return (Finding::Refused { code: "wrong-platform", why }, KEEP_REFUSED);
    }
    let (mut keep, mut warnings, mut refused) = (keep, Vec::new(), Vec::new());
    for verdict in verdicts {
        match (&verdict.answer, verdict.mode) {
            (Ok(None), _) => {}
            (Ok(Some(end)), _) => keep = keep.min(until(*end)),
            (Err(refusal), Mode::Warn) => {
                keep = keep.min(KEEP_REFUSED);
                warnings.push(explain(image, verdict, refusal));
            }
            (Err(refusal), Mode::Enforce) => {
                refused.push((refusal.code(), explain(image, verdict, refusal)));
            }
        }
    }
    match refused.first() {
        None => (Finding::Admitted(warnings), keep),
        Some((code, _)) => {
            let why = refused.iter().map(|(_, why)| why.as_str()).collect::<Vec<_>>().join("; ");
            (Finding::Refused { code, why }, KEEP_REFUSED)
        }
    }
}

/// How long until a release expires.
fn until(end: jiff::Timestamp) -> Duration {
    Duration::try_from(end.duration_since(now())).unwrap_or_default()
}

fn explain(image: &ImageRef, verdict: &PolicyVerdict, refusal: &Refusal) -> String {
    let (code, hint) = (refusal.code(), refusal.hint());
    let PolicyVerdict { policy, platform, .. } = verdict;
    format!(
        "`{image}` for {platform}: refused ({code}) by policy `{policy}`: {refusal}; hint: {hint}"
    )
}

fn undecided(image: &ImageRef, error: &FetchError) -> Finding {
    Finding::Undecided { why: format!("`{image}` could not be judged: {error}") }
}

fn without(verdict: Without, image: &ImageRef) -> Finding {
    let why = match verdict {
        Without::Full => format!("too many images are being judged to begin with `{image}`"),
        Without::Died => format!(
            "judging `{image}` failed by an error of the program; its log has the place: report it"
        ),
    };
    Finding::Undecided { why }
}

fn no_match(rule: NoMatch, image: &KubeImage) -> Finding {
    let name = image.name();
    match rule {
        NoMatch::Allow => Finding::Admitted(Vec::new()),
        NoMatch::Warn => Finding::Admitted(vec![format!("no policy speaks of `{name}`")]),
        NoMatch::Deny => {
            let why = format!(
                "`{name}`: refused (no-policy): no policy speaks of this image; hint: {}",
                Refusal::NoPolicy.hint()
            );
            Finding::Refused { code: Refusal::NoPolicy.code(), why }
        }
    }
}

fn not_pinned(image: &KubeImage) -> Finding {
    let why = format!(
        "`{}`: refused (not-pinned): a tag may name something else when it is pulled; hint: write \
         REPOSITORY@sha256:…, or install the mutating webhook and apply the object again \
         (for a ReplicaSet: its Deployment)",
        image.name()
    );
    Finding::Refused { code: "not-pinned", why }
}

#[cfg(test)]
mod tests;
