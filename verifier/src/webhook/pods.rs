//! Where kinds keep their Pods, and which images a Pod names.
//!
//! Sources: the Kubernetes API, `core/v1`, `apps/v1`, `batch/v1`. Images of volumes (KEP-4639) are
//! images as well: they bring files into a container that nobody else looks at. Who owns an object
//! is read for one thing alone, and never to skip judging: see [`Images::is_copy`].
//!
//! A body of 7 MiB has room for millions of containers and for names of megabytes; what is kept of
//! it while it is read is bounded in [`bounded`].

use std::collections::HashSet;

use serde::Deserialize;

use super::review::{GroupVersionKind, Request, ReviewError};
use bounded::{List, Text};

mod bounded;

/// The list of a Pod's volumes.
const VOLUMES: &str = "volumes";
/// Most images in one object. A Pod that comes near it is a mistake or an attack.
pub const MAX_IMAGES: usize = 128;
/// Most volumes of one object, those without an image included, and most owners.
const MAX_VOLUMES: usize = 1024;
const MAX_OWNERS: usize = 128;

/// A kind that is a Pod or makes Pods.
#[derive(Debug, PartialEq, Eq)]
pub struct PodKind {
    /// API group; other groups once served the same kind with the same fields.
    pub groups: &'static [&'static str],
    /// The kind.
    pub kind: &'static str,
    /// The resource, as webhook rules name it.
    pub resource: &'static str,
    /// JSON pointer to the Pod's `spec`.
    pub spec: &'static str,
}

/// Every kind of Kubernetes itself that holds a Pod's spec. What other controllers define ends up
/// as Pods, which are judged when they are made.
pub const KINDS: [PodKind; 9] = [
    PodKind { groups: &[""], kind: "Pod", resource: "pods", spec: "/spec" },
    PodKind {
        groups: &[""],
        kind: "ReplicationController",
        resource: "replicationcontrollers",
        spec: "/spec/template/spec",
    },
    PodKind {
        groups: &[""],
        kind: "PodTemplate",
        resource: "podtemplates",
        spec: "/template/spec",
    },
    PodKind {
        groups: &["apps", "extensions"],
        kind: "Deployment",
        resource: "deployments",
        spec: "/spec/template/spec",
    },
    PodKind {
        groups: &["apps", "extensions"],
        kind: "ReplicaSet",
        resource: "replicasets",
        spec: "/spec/template/spec",
    },
    PodKind {
        groups: &["apps"],
        kind: "StatefulSet",
        resource: "statefulsets",
        spec: "/spec/template/spec",
    },
    PodKind {
        groups: &["apps", "extensions"],
        kind: "DaemonSet",
        resource: "daemonsets",
        spec: "/spec/template/spec",
    },
    PodKind { groups: &["batch"], kind: "Job", resource: "jobs", spec: "/spec/template/spec" },
    PodKind {
        groups: &["batch"],
        kind: "CronJob",
        resource: "cronjobs",
        spec: "/spec/jobTemplate/spec/template/spec",
    },
];

impl PodKind {
    /// The kind, if it holds Pods.
    pub fn of(kind: &GroupVersionKind) -> Option<&'static Self> {
        let same =
            |known: &&Self| known.kind == kind.kind && known.groups.contains(&kind.group.as_str());
        KINDS.iter().find(same)
    }
}

/// One place in a Pod that names an image.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The list: containers, initContainers, ephemeralContainers, volumes.
    list: &'static str,
    /// The name of the container or volume.
    name: String,
    /// What is written there; empty when nothing is.
    pub image: String,
}

/// A place, and the JSON pointer to its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The place.
    pub place: Place,
    /// RFC 6901.
    pub pointer: String,
    /// Whether the object had the same image in the same place before.
    pub unchanged: bool,
}

impl Found {
    /// For people: init container `setup`.
    pub fn shown(&self) -> String {
        let name: String = self.place.name.chars().take(64).collect();
        let list = match self.place.list {
            "initContainers" => "init container",
            "ephemeralContainers" => "ephemeral container",
            VOLUMES => "volume",
            _ => "container",
        };
        format!("{list} `{name}`")
    }
}

/// The images of a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Images {
    /// Each place, in order.
    pub found: Vec<Found>,
    /// Whether the object is a copy of its owner's template that the owner compares with its own.
    pub is_copy: bool,
}

/// Why the images of an object cannot be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PodError {
    /// The body is not of the kind's shape: HTTP 400.
    #[error(transparent)]
    Review(#[from] ReviewError),
    /// There is nothing to look at: denied.
    #[error("{0}")]
    Object(String),
}

/// The ways of the kinds to their Pod.
trait Holder {
    fn open(self) -> (Metadata, Option<PodSpec>);
}

#[derive(Deserialize)]
struct Pod {
    metadata: Option<Metadata>,
    spec: Option<PodSpec>,
}

#[derive(Deserialize)]
struct PodTemplate {
    metadata: Option<Metadata>,
    template: Option<Template>,
}

#[derive(Deserialize)]
struct Workload {
    metadata: Option<Metadata>,
    spec: Option<Templated>,
}

#[derive(Deserialize)]
struct CronJob {
    metadata: Option<Metadata>,
    spec: Option<CronSpec>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CronSpec {
    job_template: Option<JobTemplate>,
}

#[derive(Deserialize)]
struct JobTemplate {
    spec: Option<Templated>,
}

#[derive(Deserialize)]
struct Templated {
    template: Option<Template>,
}

#[derive(Deserialize)]
struct Template {
    spec: Option<PodSpec>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    owner_references: Option<List<Owner, MAX_OWNERS>>,
}

#[derive(Deserialize)]
struct Owner {
    controller: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    containers: Option<List<Container, MAX_IMAGES>>,
    init_containers: Option<List<Container, MAX_IMAGES>>,
    ephemeral_containers: Option<List<Container, MAX_IMAGES>>,
    volumes: Option<List<Volume, MAX_VOLUMES>>,
}

#[derive(Deserialize)]
struct Container {
    name: Option<Text>,
    image: Option<Text>,
}

#[derive(Deserialize)]
struct Volume {
    name: Option<Text>,
    image: Option<VolumeImage>,
}

#[derive(Deserialize)]
struct VolumeImage {
    reference: Option<Text>,
}

impl Holder for Pod {
    fn open(self) -> (Metadata, Option<PodSpec>) {
        (self.metadata.unwrap_or_default(), self.spec)
    }
}

impl Holder for PodTemplate {
    fn open(self) -> (Metadata, Option<PodSpec>) {
        (self.metadata.unwrap_or_default(), self.template.and_then(|template| template.spec))
    }
}

impl Holder for Workload {
    fn open(self) -> (Metadata, Option<PodSpec>) {
        let template = self.spec.and_then(|spec| spec.template);
        (self.metadata.unwrap_or_default(), template.and_then(|template| template.spec))
    }
}

impl Holder for CronJob {
    fn open(self) -> (Metadata, Option<PodSpec>) {
        let job = self.spec.and_then(|spec| spec.job_template).and_then(|job| job.spec);
        let template = job.and_then(|job| job.template);
        (self.metadata.unwrap_or_default(), template.and_then(|template| template.spec))
    }
}

/// The images of an object that is made or changed.
///
/// # Errors
/// When the body is not of the kind's shape, or the object has no containers to look at.
pub fn images(kind: &'static PodKind, body: &[u8]) -> Result<Images, PodError> {
    match kind.kind {
        "Pod" => read::<Pod>(kind, body),
        "PodTemplate" => read::<PodTemplate>(kind, body),
        "CronJob" => read::<CronJob>(kind, body),
        _ => read::<Workload>(kind, body),
    }
}

fn read<O>(kind: &'static PodKind, body: &[u8]) -> Result<Images, PodError>
where
    O: Holder + for<'a> Deserialize<'a>,
{
    let objects = Request::objects::<O>(body)?;
    let missing = || PodError::Object(format!("the {} has no {}", kind.kind, kind.spec));
    let object = objects.object.ok_or_else(|| {
        PodError::Object(format!("the request names a {} and has none", kind.kind))
    })?;
    let (metadata, spec) = object.open();
    let owners = metadata.owner_references.unwrap_or_default();
    let copies = matches!(kind.kind, "ReplicaSet" | "ReplicationController");
    let is_copy = copies && owners.kept.iter().any(|owner| owner.controller == Some(true));
    let spec = spec.ok_or_else(missing)?;
    spec.counted(kind)?;
    owners.counted("/metadata/ownerReferences")?;
    if spec.containers.as_ref().is_none_or(|all| all.kept.is_empty()) {
        return Err(PodError::Object(format!("the {} has no {}/containers", kind.kind, kind.spec)));
    }
    let before: HashSet<Place> = objects
        .old_object
        .and_then(|old| old.open().1)
        .map(|old| places(old).into_iter().map(|(_, place)| place).collect())
        .unwrap_or_default();
    let found = places(spec).into_iter().map(|(number, place)| {
        let (list, field) =
            (place.list, if place.list == VOLUMES { "image/reference" } else { "image" });
        let pointer = format!("{}/{list}/{number}/{field}", kind.spec);
        let unchanged = before.contains(&place);
        Found { place, pointer, unchanged }
    });
    let found: Vec<Found> = found.collect();
    if found.len() > MAX_IMAGES {
        let why = format!("it names {} images, at most {MAX_IMAGES} are judged", found.len());
        return Err(PodError::Object(why));
    }
    Ok(Images { found, is_copy })
}

impl PodSpec {
    /// Whether every list was kept whole.
    fn counted(&self, kind: &PodKind) -> Result<(), PodError> {
        let containers = [
            ("initContainers", &self.init_containers),
            ("containers", &self.containers),
            ("ephemeralContainers", &self.ephemeral_containers),
        ];
        for (name, list) in containers {
            list.as_ref().map_or(Ok(()), |all| all.counted(&format!("{}/{name}", kind.spec)))?;
        }
        let volumes = format!("{}/{VOLUMES}", kind.spec);
        self.volumes.as_ref().map_or(Ok(()), |all| all.counted(&volumes))
    }
}

/// Every place of a Pod that names an image, with its number in its list.
fn places(spec: PodSpec) -> Vec<(usize, Place)> {
    let containers = |list: &'static str, all: Option<List<Container, MAX_IMAGES>>| {
        all.unwrap_or_default().kept.into_iter().enumerate().map(move |(number, container)| {
            let Container { name, image } = container;
            let (name, image) = (name.unwrap_or_default().0, image.unwrap_or_default().0);
            (number, Place { list, name, image })
        })
    };
    let volumes = spec.volumes.unwrap_or_default().kept.into_iter().enumerate();
    let volumes = volumes.filter_map(|(number, volume)| {
        let image = volume.image?.reference.unwrap_or_default().0;
        Some((number, Place { list: VOLUMES, name: volume.name.unwrap_or_default().0, image }))
    });
    containers("initContainers", spec.init_containers)
        .chain(containers("containers", spec.containers))
        .chain(containers("ephemeralContainers", spec.ephemeral_containers))
        .chain(volumes)
        .collect()
}

#[cfg(test)]
mod tests;
