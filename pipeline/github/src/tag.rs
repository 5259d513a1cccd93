//! What a tag is: its commit, its tag object, and what GitHub says of the object's signature.

use pitlane_release::{Commit, ReleaseTag, RepoName};
use serde::{Deserialize, Deserializer};

use crate::{
    budget::Purpose,
    call::Call,
    client::Client,
    error::{GithubError, tame},
    permission::Need,
};

/// Tags of tags that are followed.
const DEEPEST: usize = 8;
/// Longest signature, or text that was signed (bytes).
const LONGEST_SIGNATURE: usize = 64 * 1024;

/// A tag, followed to its commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedTag {
    /// The tag.
    pub tag: ReleaseTag,
    /// The commit that it leads to.
    pub commit: Commit,
    /// The tag object that the ref names; none for a lightweight tag.
    pub object: Option<TagObject>,
}

/// An annotated tag's object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagObject {
    /// Its name in git (SHA-1).
    pub id: Commit,
    /// The tag's name as the object has it. A signed object can be pushed under another name.
    pub name: String,
    /// What GitHub says of its signature.
    pub signature: SignatureSaid,
}

/// GitHub's word on a signature. GitHub knows the keys of its accounts, and nobody else's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureSaid {
    /// Whether it verified.
    pub verified: bool,
    /// `valid`, `unsigned`, `unknown_key`, `expired_key`, ...
    pub reason: String,
    /// The signature in armour, for who wants to verify it by keys of their own.
    pub signature: Option<String>,
    /// What was signed.
    pub payload: Option<String>,
}

/// Why a tag does not count as signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsigned {
    /// A lightweight tag is a name alone.
    #[error("the tag {0} is lightweight and cannot be signed; make it with `git tag -s`")]
    Lightweight(String),
    /// The object was signed as another tag and pushed under this name.
    #[error(
        "the tag {tag} names an object that was signed as the tag {name}; make a tag of its own"
    )]
    OtherName {
        /// The ref's name.
        tag: String,
        /// The object's.
        name: String,
    },
    /// GitHub does not vouch for the signature.
    #[error(
        "GitHub does not verify the signature of the tag {tag} ({reason}); sign it with a key that \
         the signer's account has"
    )]
    NotVerified {
        /// The ref's name.
        tag: String,
        /// GitHub's reason.
        reason: String,
    },
}

impl ResolvedTag {
    /// What the ref holds: the tag object, or the commit.
    pub fn held(&self) -> &Commit {
        self.object.as_ref().map_or(&self.commit, |object| &object.id)
    }

    /// The tag's object, if GitHub verified its signature and it was signed as this tag.
    pub fn require_signature(&self) -> Result<&TagObject, Unsigned> {
        let tag = self.tag.to_string();
        let Some(object) = &self.object else { return Err(Unsigned::Lightweight(tag)) };
        if !object.signature.verified || object.signature.reason != "valid" {
            return Err(Unsigned::NotVerified { tag, reason: object.signature.reason.clone() });
        }
        if object.name != tag {
            return Err(Unsigned::OtherName { tag, name: object.name.clone() });
        }
        Ok(object)
    }
}

/// A name in git, checked.
pub(crate) fn id<'de, D: Deserializer<'de>>(from: D) -> Result<Commit, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map_err(|_| serde::de::Error::custom("want 40 lower-case hexadecimal digits"))
}

#[derive(Deserialize)]
pub(crate) struct Target {
    #[serde(deserialize_with = "id")]
    pub(crate) sha: Commit,
    #[serde(rename = "type")]
    pub(crate) kind: String,
}

#[derive(Deserialize)]
pub(crate) struct Reference {
    #[serde(rename = "ref")]
    pub(crate) name: String,
    pub(crate) object: Target,
}

#[derive(Deserialize)]
struct Tag {
    #[serde(deserialize_with = "id")]
    sha: Commit,
    #[serde(rename = "tag")]
    name: String,
    object: Target,
    #[serde(default)]
    verification: Option<Verification>,
}

#[derive(Deserialize)]
struct Verification {
    verified: bool,
    reason: String,
    #[serde(default)]
    signature: Option<String>,
    #[serde(default)]
    payload: Option<String>,
}

impl Client {
    /// Follows a tag to its commit. `None` when the repository is there and the tag is not.
    pub async fn resolve_tag(
        &self,
        repository: &RepoName,
        tag: &ReleaseTag,
    ) -> Result<Option<ResolvedTag>, GithubError> {
        let asked = format!("resolve the tag {tag}");
        let path = format!("/repos/{repository}/git/ref/tags/{tag}");
        let call = Call::get(repository.as_str(), &asked, path, Need::ReadContents);
        let raw = match self.ask(&call).await {
            Ok(raw) => raw,
            Err(error) if error.status() == Some(404) => {
                // GitHub says the same of a repository that may not be seen.
                let path = format!("/repos/{repository}");
                self.ask(&Call { path, ..call }).await?;
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let reference: Reference = call.parse(&raw)?;
        if reference.name != format!("refs/tags/{tag}") {
            return Err(call.unreadable(format!("it is about `{}`", tame(&reference.name))));
        }
        let held = reference.object;
        if held.kind == "commit" {
            return Ok(Some(ResolvedTag { tag: tag.clone(), commit: held.sha, object: None }));
        }
        let (object, commit) = self.follow(repository, &asked, held, Purpose::Work).await?;
        Ok(Some(ResolvedTag { tag: tag.clone(), commit, object: Some(object) }))
    }

    /// Follows a tag object: gives the first object, and the commit at the end.
    pub(crate) async fn follow(
        &self,
        repository: &RepoName,
        asked: &str,
        held: Target,
        purpose: Purpose,
    ) -> Result<(TagObject, Commit), GithubError> {
        let mut first = None;
        let mut at = held;
        for _ in 0..DEEPEST {
            let path = format!("/repos/{repository}/git/tags/{}", at.sha);
            let call = Call::get(repository.as_str(), asked, path, Need::ReadContents);
            let call = Call { purpose, ..call };
            if at.kind != "tag" {
                let kind = tame(&at.kind);
                return Err(call.unreadable(format!("the tag leads to a {kind}, not to a commit")));
            }
            let tag: Tag = call.parse(&self.ask(&call).await?)?;
            if tag.sha != at.sha {
                return Err(call.unreadable(format!("it is about the object {}", tag.sha)));
            }
            let object = object(&tag).map_err(|reason| call.unreadable(reason))?;
            let object = first.get_or_insert(object).clone();
            if tag.object.kind == "commit" {
                return Ok((object, tag.object.sha));
            }
            at = tag.object;
        }
        let call = Call::get(repository.as_str(), asked, String::new(), Need::ReadContents);
        Err(call.unreadable(format!("the tag names a tag, {DEEPEST} times over")))
    }
}

fn object(tag: &Tag) -> Result<TagObject, String> {
    let said = match &tag.verification {
        Some(said) => SignatureSaid {
            verified: said.verified,
            reason: tame(&said.reason),
            signature: said.signature.clone(),
            payload: said.payload.clone(),
        },
        // Old enterprise servers say nothing, which is no word for it.
        None => SignatureSaid {
            verified: false,
            reason: "not told".to_owned(),
            signature: None,
            payload: None,
        },
    };
    let long = |text: &Option<String>| text.as_ref().is_some_and(|t| t.len() > LONGEST_SIGNATURE);
    if long(&said.signature) || long(&said.payload) {
        return Err(format!("the signature or its text is longer than {LONGEST_SIGNATURE} bytes"));
    }
    Ok(TagObject { id: tag.sha.clone(), name: tame(&tag.name), signature: said })
}
