//! A whole request: which of its images are looked at, and what is answered.
//!
//! Every Pod is judged when it is made, whoever makes it. Templates are judged as well, so that
//! whoever applies a Deployment hears it at once and not its controller later; the wall is the
//! Pod.
//!
//! On UPDATE an image that stands where it stood before is not judged again. That lets nothing in:
//! the object holds that image whether or not the change is taken, and Pods that come of it are
//! judged when they are made. Refusing would stop finalizers, labels, and the scaling down of what
//! an update replaces, and so keep just that running.

use std::{collections::HashMap, sync::Arc};

use futures_util::future;

use super::{
    court::{Court, Finding},
    image::KubeImage,
    pods::{self, Found, Images, PodError, PodKind},
    policies::PolicySet,
    review::{Denial, Operation, Outcome, Replace, Request, ReviewError},
};

/// The images to look at; none for what has no Pods or is going away.
///
/// # Errors
/// When the body is not of its kind's shape (HTTP 400).
pub fn images(
    request: &Request,
    body: &[u8],
) -> Result<Result<Option<Images>, Denial>, ReviewError> {
    // What is removed runs no more; what is connected to (exec, attach) already runs.
    if matches!(request.operation, Operation::Delete | Operation::Connect) {
        return Ok(Ok(None));
    }
    let Some(kind) = PodKind::of(&request.kind) else { return Ok(Ok(None)) };
    match pods::images(kind, body) {
        Ok(images) => Ok(Ok(Some(images))),
        Err(PodError::Review(error)) => Err(error),
        Err(PodError::Object(why)) => Ok(Err(refused("unusable-object", why))),
    }
}

/// `/validate`: whether all images that are new in the object may run.
pub async fn validate(court: &Court, images: &Images) -> Outcome {
    let set = court.set();
    let mut warnings = Vec::new();
    let (mut places, mut wanted) = (Vec::new(), Vec::new());
    for found in &images.found {
        match read(found) {
            _ if found.unchanged => warnings.extend(unjudged(found)),
            Err(why) => places.push((found, Err(why))),
            Ok(image) => {
                if !wanted.contains(&image) {
                    wanted.push(image.clone());
                }
                places.push((found, Ok(image)));
            }
        }
    }
    // The court bounds what is done at once.
    let judging = wanted.into_iter().map(|image| {
        let set = Arc::clone(&set);
        async move { (image.name().to_string(), court.judge(&set, &image).await) }
    });
    let findings: HashMap<String, Finding> = future::join_all(judging).await.into_iter().collect();
    let mut denials = Vec::new();
    for (found, image) in places {
        let finding = match image {
            Err(why) => Finding::Refused { code: "unusable-name", why },
            Ok(image) => findings.get(&image.name().to_string()).cloned().unwrap_or_else(|| {
                Finding::Undecided { why: format!("`{}` was not judged", image.name()) }
            }),
        };
        match finding {
            Finding::Admitted(told) => {
                warnings.extend(told.iter().map(|text| format!("{}: {text}", found.shown())));
            }
            Finding::Refused { code, why } => {
                denials.push(refused(code, format!("{}: {why}", found.shown())));
            }
            Finding::Undecided { why } => {
                denials.push(unknown(format!("{}: {why}", found.shown())));
            }
        }
    }
    Outcome { denial: join(denials), warnings, patch: Vec::new() }
}

/// `/mutate`: puts digests where tags are. It lets nothing in: what it wrote is judged by
/// `/validate`, and what it could not resolve is denied here.
pub async fn mutate(court: &Court, kind: &PodKind, images: &Images, keep_tag: bool) -> Outcome {
    let set = court.set();
    // An owner that compares its template with this copy would take the copy for a stranger's,
    // and make another, without end. Its own template is what must be pinned.
    if images.is_copy {
        return Outcome::default();
    }
    let pinning = images.found.iter().cloned().map(|found| {
        let set = Arc::clone(&set);
        async move { pin(court, &set, kind, &found, keep_tag).await }
    });
    let steps = future::join_all(pinning).await;
    let (mut outcome, mut denials) = (Outcome::default(), Vec::new());
    for step in steps {
        match step {
            Pin::Stays => {}
            Pin::Warn(told) => outcome.warnings.push(told),
            Pin::Put(change) => outcome.patch.push(change),
            Pin::Deny(denial) => denials.push(denial),
        }
    }
    outcome.denial = join(denials);
    outcome
}

enum Pin {
    Stays,
    Warn(String),
    Put(Replace),
    Deny(Denial),
}

async fn pin(court: &Court, set: &PolicySet, kind: &PodKind, found: &Found, keep_tag: bool) -> Pin {
    // A running container is restarted by a change of its image: a Pod's label is no reason. A
    // Job's template cannot change at all: the API server would answer 422 to whoever suspends
    // the Job, or takes off the finalizer that holds its removal. Its Pods are pinned when made.
    if found.unchanged && matches!(kind.kind, "Pod" | "Job") {
        return Pin::Stays;
    }
    let image = match read(found) {
        Ok(image) => image,
        Err(_) if found.unchanged => return Pin::Stays,
        Err(why) => {
            return Pin::Deny(refused("unusable-name", format!("{}: {why}", found.shown())));
        }
    };
    if image.digest().is_some() {
        return Pin::Stays;
    }
    match court.pin(set, &image).await {
        // What no policy speaks of is `--no-match`'s, in `/validate`.
        None => Pin::Stays,
        Some(Ok(digest)) => {
            Pin::Put(Replace::new(found.pointer.clone(), image.at(digest).pulled(keep_tag)))
        }
        Some(Err(error)) => {
            let why = format!("{}: `{}` could not be pinned: {error}", found.shown(), image.name());
            if found.unchanged { Pin::Warn(why) } else { Pin::Deny(unknown(why)) }
        }
    }
}

fn read(found: &Found) -> Result<KubeImage, String> {
    if found.place.image.is_empty() {
        return Err("refused (unusable-name): it names no image".into());
    }
    KubeImage::parse(&found.place.image)
        .map_err(|error| format!("refused (unusable-name): {error}"))
}

/// What to tell of an image that was there before.
fn unjudged(found: &Found) -> Option<String> {
    let pinned = read(found).is_ok_and(|image| image.digest().is_some());
    let image: String = found.place.image.chars().take(160).collect();
    (!pinned).then(|| format!("{}: `{image}` is not pinned; it was here before", found.shown()))
}

const fn refused(code: &'static str, message: String) -> Denial {
    Denial { status: 403, code, message }
}

fn unknown(message: String) -> Denial {
    Denial { status: 503, code: "undecided", message }
}

/// One denial of all: a refusal is more than not knowing, and each is told.
fn join(denials: Vec<Denial>) -> Option<Denial> {
    let leading = denials.iter().find(|denial| denial.status == 403).or(denials.first())?;
    let (status, code) = (leading.status, leading.code);
    let messages: Vec<String> = denials.into_iter().map(|denial| denial.message).collect();
    Some(Denial { status, code, message: messages.join("; ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_leads_and_all_is_told() {
        assert_eq!(join(Vec::new()), None);
        let denials = vec![
            unknown("a cannot be reached".into()),
            refused("unsigned", "b".into()),
            refused("no-lap", "c".into()),
        ];
        let denial = join(denials).unwrap();
        assert_eq!((denial.status, denial.code), (403, "unsigned"));
        assert_eq!(denial.message, "a cannot be reached; b; c");
        let denial = join(vec![unknown("a".into())]).unwrap();
        assert_eq!((denial.status, denial.code), (503, "undecided"));
    }
}
