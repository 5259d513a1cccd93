//! `Judge`: what all policies that speak of an image say about it, for one platform.
//!
//! policy-controller's meaning: every policy that matches must pass, inside one any authority
//! suffices. For each it is the same gathering and the same admission as on the car and at a desk;
//! a cluster knows no floor per car, so the order of releases is `minimumCounter` alone.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use pitlane_fetch::{FetchError, Source, gather};
use pitlane_release::{
    Digest, Floor, ImageRef, Platform, Policy, Question, Refusal, admit, oci, policy::Mode,
    statement::Release,
};

/// What one policy says about an image for one platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyVerdict {
    /// `metadata.name` of the policy.
    pub policy: String,
    /// What its refusal does.
    pub mode: Mode,
    /// The platform judged.
    pub platform: Platform,
    /// When the permission ends by itself (the release expires, or is older than the policy lets
    /// it become), or the refusal.
    pub answer: Result<Option<Timestamp>, Refusal>,
}

/// Where images are read from: anonymously, but for one registry with credentials.
///
/// Images are named by whoever may make a Pod. Credentials for every registry would be sent to
/// any host that such a name contains.
#[derive(Debug)]
pub struct Places {
    /// For all registries.
    pub open: Source,
    /// `HOST[:PORT]`, and the source that logs in there.
    pub login: Option<(String, Source)>,
}

impl Places {
    fn of(&self, image: &ImageRef) -> &Source {
        match &self.login {
            Some((registry, source)) if registry == image.repository.registry() => source,
            _ => &self.open,
        }
    }
}

/// Judges images by a set of policies.
#[derive(Clone, Debug)]
pub struct Judge {
    policies: Arc<[Policy]>,
    places: Arc<Places>,
}

impl Judge {
    /// A judge by these policies.
    pub fn new(policies: Vec<Policy>, places: Arc<Places>) -> Self {
        Self { policies: policies.into(), places }
    }

    /// How many policies there are.
    pub fn len(&self) -> usize {
        self.policies.len()
    }

    /// Whether there is no policy.
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }

    /// Whether any policy speaks of the image; of all others nothing is fetched.
    pub fn covers(&self, image: &ImageRef) -> bool {
        let names = names(image);
        self.policies.iter().any(|policy| names.iter().any(|name| policy.covers(name)))
    }

    /// The digest that a tag has now.
    ///
    /// # Errors
    /// When the registry does not say.
    pub async fn resolve(&self, image: &ImageRef) -> Result<Digest, FetchError> {
        let tag = image.tag.as_deref().unwrap_or("latest");
        let source = self.places.of(image);
        Ok(Digest::of(source.manifest(&image.repository, tag).await?))
    }

    /// The platforms of a pinned image for which releases are made.
    ///
    /// # Errors
    /// When it cannot be fetched, or what comes is not what the digest names: the list decides
    /// what is judged, so a shorter one from a liar would let the rest in.
    pub async fn platforms(
        &self,
        image: &ImageRef,
        digest: &Digest,
    ) -> Result<Vec<Platform>, FetchError> {
        let (source, repository) = (self.places.of(image), &image.repository);
        let top = source.manifest(repository, &digest.to_string()).await?;
        let found = Digest::of(&top);
        if found != *digest {
            let what = format!("manifest {repository}@{digest}");
            return Err(FetchError::Mismatch { what, found });
        }
        if let Ok(index) = oci::parse_index(&top) {
            let carried = |platform: &Platform| index.child(*platform).is_some();
            return Ok(Platform::ALL.into_iter().filter(carried).collect());
        }
        let manifest = oci::parse_manifest(&top)?;
        let config = source.blob(repository, &manifest.config.digest, oci::MAX_CONFIG).await?;
        // A config that is altered is refused by the admission core, which hashes it.
        let config = oci::parse_config(&config)?;
        Ok(format!("{}/{}", config.os, config.architecture).parse().into_iter().collect())
    }

    /// What every policy that speaks of the image says. None speaks of it: an empty list.
    ///
    /// # Errors
    /// When evidence cannot be fetched: no answer, and therefore no permission.
    pub async fn judge(
        &self,
        image: &ImageRef,
        platform: Platform,
    ) -> Result<Vec<PolicyVerdict>, FetchError> {
        let names = names(image);
        let mut verdicts = Vec::new();
        for policy in &*self.policies {
            let Some(name) = names.iter().find(|name| policy.covers(name)) else { continue };
            let evidence = gather(self.places.of(image), policy, image, platform).await?;
            let question = Question { image: name, platform, floor: Floor(0), now: now() };
            let verdict = admit(policy, &question, &evidence);
            // A policy that only warns still denies what is not even the bytes that were named.
            let mode = if verdict.allowed() { policy.mode } else { Mode::Enforce };
            let answer = verdict.answer;
            let answer = answer.map(|verified| verified.release().and_then(|r| ends(policy, r)));
            let policy = policy.name.clone();
            verdicts.push(PolicyVerdict { policy, mode, platform, answer });
        }
        Ok(verdicts)
    }
}

/// The names by which policies may speak of an image. What was pinned by us has a tag and a
/// digest; patterns written for either alone still mean it.
fn names(image: &ImageRef) -> Vec<ImageRef> {
    let mut names = vec![image.clone()];
    if image.tag.is_some() && image.digest.is_some() {
        names.push(ImageRef { digest: None, ..image.clone() });
        names.push(ImageRef { tag: None, ..image.clone() });
    }
    names
}

/// When the permission for a release ends: with the release, or at the policy's `maxAgeDays`.
fn ends(policy: &Policy, release: &Release) -> Option<Timestamp> {
    let days = policy.drive.as_ref().and_then(|rules| rules.max_age_days);
    let age = days.map(|days| SignedDuration::from_hours(i64::from(days) * 24));
    let old = age.map(|age| release.issued_at.checked_add(age).unwrap_or(Timestamp::MAX));
    release.expires_at.into_iter().chain(old).min()
}

/// The clock, in one place.
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitlane_fetch::Layout;

    const DIGEST: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

    fn judge(globs: &[&str]) -> Judge {
        let policy = |glob: &&str| {
            let text = format!(
                "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\n\
                 metadata: {{ name: p }}\nspec:\n  images: [{{ glob: \"{glob}\" }}]\n  \
                 authorities: [{{ static: {{ action: pass }} }}]\n"
            );
            Policy::parse(&text, &|_: &str| None).unwrap()
        };
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        std::fs::write(dir.path().join("index.json"), r#"{"schemaVersion":2,"manifests":[]}"#)
            .unwrap();
        let open = Source::Layout(Layout::open(dir.path()).unwrap());
        Judge::new(globs.iter().map(policy).collect(), Arc::new(Places { open, login: None }))
    }

    /// A pattern for a tag means the pinned image as well: else pinning would take an image out
    /// of a policy.
    #[test]
    fn pinning_takes_no_image_out_of_a_policy() {
        let tag = "r.example/car:v1";
        for (glob, image, want) in [
            (tag, tag.to_owned(), true),
            (tag, format!("{tag}@{DIGEST}"), true),
            (tag, format!("r.example/car@{DIGEST}"), false),
            (tag, "r.example/car:v2".into(), false),
            ("r.example/car", format!("{tag}@{DIGEST}"), true),
            ("r.example/car@sha256:*", format!("{tag}@{DIGEST}"), true),
            ("r.example/*", format!("{tag}@{DIGEST}"), true),
            ("*", "index.docker.io/library/nginx:1".into(), true),
            ("*", tag.into(), false),
        ] {
            assert_eq!(judge(&[glob]).covers(&image.parse().unwrap()), want, "{glob} {image}");
        }
        assert!(judge(&["a.example/*", "r.example/**"]).covers(&tag.parse().unwrap()));
    }

    #[test]
    fn a_permission_ends_by_expiry_or_age_whichever_is_first() {
        let key = rcgen::KeyPair::generate().unwrap().public_key_pem();
        let policy = |drive: &str| {
            let text = format!(
                "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\n\
                 metadata: {{ name: p }}\nspec:\n  images: [{{ glob: \"**\" }}]\n  \
                 authorities: [{{ name: k, key: {{ secretRef: {{ name: k }} }} }}]\n{drive}"
            );
            Policy::parse(&text, &|_: &str| Some(key.clone())).unwrap()
        };
        let rules = "drive:\n  sources: [{ repository: team/car, carKinds: [donkeycar] }]\n";
        let release = |expires: Option<&str>| {
            let source = serde_json::json!({ "repository": "team/car", "tag": "v1.0.0",
                "commit": "1".repeat(40) });
            let mut value = serde_json::json!({ "carKind": "donkeycar", "source": source,
                "counter": 7, "pipeline": DIGEST, "model": { "digest": DIGEST, "layer": DIGEST },
                "index": DIGEST, "platforms": { "linux/arm64": DIGEST }, "evidence": [],
                "issuedAt": "2026-01-02T00:00:00Z" });
            if let Some(expires) = expires {
                value["expiresAt"] = expires.into();
            }
            serde_json::from_value::<Release>(value).unwrap()
        };
        let aged = format!("{rules}  maxAgeDays: 7\n");
        let ageless = format!("{rules}  maxAgeDays: 4294967295\n");
        let (soon, late) = ("2026-01-03T00:00:00Z", "2026-03-01T00:00:00Z");
        for (drive, expires, want) in [
            ("", None, None),
            (rules, None, None),
            (rules, Some(late), Some(late)),
            (&aged, None, Some("2026-01-09T00:00:00Z")),
            (&aged, Some(late), Some("2026-01-09T00:00:00Z")),
            (&aged, Some(soon), Some(soon)),
            (&ageless, Some(late), Some(late)),
        ] {
            let want = want.map(|text| text.parse().unwrap());
            assert_eq!(ends(&policy(drive), &release(expires)), want, "{drive} {expires:?}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_fetched_is_no_answer() {
        let image: ImageRef = format!("r.example/car@{DIGEST}").parse().unwrap();
        let judge = judge(&["**"]);
        let error = judge.judge(&image, Platform::LinuxArm64).await.unwrap_err();
        assert!(matches!(error, FetchError::NotFound { .. }), "{error}");
        let digest = image.digest.unwrap();
        assert!(judge.platforms(&image, &digest).await.is_err());
        assert!(judge.resolve(&"r.example/car:v1".parse().unwrap()).await.is_err());
    }

    #[test]
    fn credentials_stay_with_their_registry() {
        let judge = judge(&["**"]);
        let Places { open, .. } = Arc::into_inner(judge.places).unwrap();
        let options = pitlane_fetch::RegistryOptions::default();
        let private = Source::Registry(pitlane_fetch::Registry::new(options).unwrap());
        let places = Places { open, login: Some(("r.example:5000".into(), private)) };
        for (image, login) in [
            ("r.example:5000/car:v1", true),
            ("r.example/car:v1", false),
            ("evil.example/r.example:v1", false),
        ] {
            let source = places.of(&image.parse().unwrap());
            assert_eq!(matches!(source, Source::Registry(_)), login, "{image}");
        }
    }
}
