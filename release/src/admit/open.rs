//! Opening signed documents: a payload comes out only when an authority signed it.

use serde::Deserialize;

use crate::{
    Digest,
    bundle::{Bundle, Signed},
    policy::{Authority, AuthorityRule},
    refusal::{Refusal, Unproven},
    sigstore::{BundleRefusal, Content, Expect, Subject, Workflow, verify_parsed},
    statement::Subject as Named,
};

/// A document that an authority signed.
#[derive(Debug)]
pub(super) struct Opened<'a> {
    /// Who, of the policy.
    pub(super) authority: &'a Authority,
    /// The statement's bytes.
    pub(super) payload: Vec<u8>,
    /// The run that signed, when its certificate speaks of one.
    pub(super) workflow: Option<Workflow>,
}

/// Why a document was not opened, from the least to the most telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Miss {
    /// No document of a kind that is judged here.
    Junk,
    /// Signed by nobody asked for; by whom, where that is known.
    WrongSigner(Option<BundleRefusal>),
    /// What must vouch for the signature does not; whose it is may not be known then.
    NotProven(BundleRefusal),
    /// It names an authority's key, and its signature does not fit.
    Altered(String),
}

impl Miss {
    const fn rank(&self) -> u8 {
        match self {
            Self::Junk => 0,
            Self::WrongSigner(_) => 1,
            Self::NotProven(_) => 2,
            Self::Altered(_) => 3,
        }
    }

    /// The more telling one.
    pub(super) fn max(self, other: Self) -> Self {
        // Of two strangers, the one that is known by name.
        let unnamed = matches!(self, Self::WrongSigner(None));
        if other.rank() > self.rank() || (unnamed && other.rank() == self.rank()) {
            other
        } else {
            self
        }
    }

    /// The refusal, where nothing more telling was found; none for junk.
    pub(super) fn refusal(self) -> Option<Refusal> {
        match self {
            Self::Junk => None,
            Self::WrongSigner(None) => Some(Refusal::WrongSigner),
            Self::WrongSigner(Some(why)) => Some(Refusal::NotProven(Unproven {
                code: Refusal::WrongSigner.code(),
                why: why.to_string(),
                hint: why.hint(),
            })),
            Self::NotProven(why) => Some(Refusal::NotProven(why.into())),
            Self::Altered(why) => Some(Refusal::AlteredStatement(why)),
        }
    }

    /// What a failed verification tells.
    pub(super) fn of(refusal: BundleRefusal) -> Self {
        use BundleRefusal as Refused;
        match refusal {
            Refused::Malformed(_) => Self::Junk,
            Refused::OtherMaterial { .. } => Self::WrongSigner(None),
            Refused::WrongIdentity { .. } | Refused::WrongIssuer { .. } => {
                Self::WrongSigner(Some(refusal))
            }
            other => Self::NotProven(other),
        }
    }
}

/// Opens a bundle with the first of the authorities that signed it.
pub(super) fn open<'a>(
    authorities: impl IntoIterator<Item = &'a Authority>,
    bytes: &[u8],
) -> Result<Opened<'a>, Miss> {
    let bundle = Bundle::parse(bytes).map_err(|_| Miss::Junk)?;
    let mut miss = Miss::WrongSigner(None);
    for authority in authorities {
        match by(authority, &bundle) {
            Ok((payload, workflow)) => return Ok(Opened { authority, payload, workflow }),
            Err(why) => miss = miss.max(why),
        }
    }
    Err(miss)
}

/// The statement in a bundle that one of the authorities signed, for those who look at a release
/// without judging whether it may drive.
pub fn signed_payload(authorities: &[Authority], bytes: &[u8]) -> Result<Vec<u8>, Refusal> {
    let junk = || Refusal::AlteredStatement("not a signed statement".into());
    open(authorities, bytes)
        .map(|opened| opened.payload)
        .map_err(|miss| miss.refusal().unwrap_or_else(junk))
}

/// The payload and the run behind it, if this authority signed the bundle.
pub(super) fn by(
    authority: &Authority,
    bundle: &Bundle,
) -> Result<(Vec<u8>, Option<Workflow>), Miss> {
    let (expect, root) = match &authority.rule {
        AuthorityRule::Static { .. } => return Err(Miss::WrongSigner(None)),
        AuthorityRule::Key(rule) => {
            let payload = match bundle.verify([&rule.key]) {
                Signed::By(_, payload) => payload,
                Signed::Altered => {
                    return Err(Miss::Altered("the signature does not fit".into()));
                }
                Signed::ByNobodyKnown => return Err(Miss::WrongSigner(None)),
            };
            match &rule.witness {
                None => return Ok((payload.to_vec(), None)),
                Some((witness, root)) => {
                    (&Expect::Key { key: rule.key.clone(), witness: *witness }, root)
                }
            }
        }
        AuthorityRule::Keyless(rule) => (&rule.expect, &rule.root),
    };
    // Which artifact the statement is about is for the caller to judge, by the statement that was
    // verified: any of its subjects serves to have it verified.
    let subject = first_subject(bundle.untrusted_payload()).ok_or(Miss::Junk)?;
    let answer = verify_parsed(bundle.parsed(), Subject::Digest(subject), expect, root);
    let verified = answer.map_err(Miss::of)?;
    match verified.content() {
        Content::Statement { payload, .. } => Ok((payload.clone(), verified.workflow().cloned())),
        Content::Message => Err(Miss::Junk),
    }
}

/// The first subject that has a SHA-256.
fn first_subject(payload: &[u8]) -> Option<Digest> {
    #[derive(Deserialize)]
    struct Subjects {
        subject: Vec<Named>,
    }
    let subjects: Subjects = serde_json::from_slice(payload).ok()?;
    subjects.subject.iter().find_map(Named::sha256)
}
