//! What somebody with the registry's token, or its disk, can do to what lies in it.

use std::{fs, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pitlane_pipeline::{assemble::Blob, config::Registry, push::Pusher, sign::Signer};
use pitlane_release::{
    oci::{Descriptor, LAYER_GZIP},
    statement::RELEASE,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{http, lane::Lane, run, until};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// The digest of bytes.
pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// An image with nothing but layers, and its manifest's bytes.
#[derive(Debug)]
pub(crate) struct PlainImage {
    /// Its config, then its layers.
    blobs: Vec<Blob>,
    manifest: Vec<u8>,
}

impl PlainImage {
    /// Of layers as tar with gzip, the lowest first.
    pub(crate) fn new(layers: &[Vec<u8>]) -> Self {
        let config = Blob::inline("application/vnd.oci.image.config.v1+json", b"{}");
        let layers = layers.iter().map(|layer| Blob::inline(LAYER_GZIP, layer));
        let blobs: Vec<Blob> = std::iter::once(config).chain(layers).collect();
        let all: Vec<&Descriptor> = blobs.iter().map(|blob| &blob.descriptor).collect();
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": all[0],
            "layers": all[1..] });
        Self { blobs, manifest: manifest.to_string().into_bytes() }
    }

    /// Digest of its manifest.
    pub(crate) fn digest(&self) -> String {
        digest(&self.manifest)
    }

    /// Digest of a layer.
    pub(crate) fn layer(&self, number: usize) -> String {
        self.blobs[number + 1].descriptor.digest.to_string()
    }
}

impl Lane {
    fn fetch(&self, path: &str) -> http::Answer {
        let accept = format!("{INDEX}, {MANIFEST}");
        let path = format!("/v2/team/donkeycar/{path}");
        let answer = http::send("GET", &self.registry, &path, &[("Accept", &accept)], b"").unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
        answer
    }

    /// A manifest by tag or digest.
    pub(crate) fn manifest(&self, reference: &str) -> Value {
        self.fetch(&format!("manifests/{reference}")).json()
    }

    /// A blob.
    pub(crate) fn blob(&self, digest: &str) -> Vec<u8> {
        self.fetch(&format!("blobs/{digest}")).body
    }

    /// The platform manifest of an index.
    pub(crate) fn platform(&self, image: &str, architecture: &str) -> String {
        let index = self.manifest(image.split('@').nth(1).unwrap());
        let manifests = index["manifests"].as_array().unwrap();
        let found = manifests.iter().find(|m| m["platform"]["architecture"] == architecture);
        found.unwrap()["digest"].as_str().unwrap().to_owned()
    }

    /// Pushes an index as it is; gives the image by digest.
    pub(crate) fn put_index(&self, index: &Value) -> String {
        let bytes = index.to_string().into_bytes();
        let digest = digest(&bytes);
        let token = fs::read_to_string(self.path("state/registry-token")).unwrap();
        let login = format!("Basic {}", STANDARD.encode(format!("insider:{}", token.trim())));
        let path = format!("/v2/team/donkeycar/manifests/{digest}");
        let headers = [("Authorization", login.as_str()), ("Content-Type", INDEX)];
        let answer = http::send("PUT", &self.registry, &path, &headers, &bytes).unwrap();
        assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
        format!("{}@{digest}", self.images())
    }

    /// The tag of an image's release statement.
    pub(crate) fn statement_tag(image: &str) -> String {
        // Cars in the field look for this name: it may not change unnoticed.
        format!("_release-{}", image.split("@sha256:").nth(1).unwrap())
    }

    /// The release statement of an image, as anybody can read it.
    pub(crate) fn statement(&self, image: &str) -> Value {
        let manifest = self.manifest(&Self::statement_tag(image));
        let bundle = super::json(self.blob(manifest["layers"][0]["digest"].as_str().unwrap()));
        let payload = bundle["dsseEnvelope"]["payload"].as_str().unwrap();
        super::json(STANDARD.decode(payload).unwrap())
    }

    /// Signs a statement with the lane's own key and puts it where cars look for it: what an
    /// insider could do, or a bug.
    pub(crate) fn lend(&self, image: &str, statement: &Value) {
        // `pitlane attest` attaches no statement to an image that it does not speak of.
        let (key, password) =
            (self.path("state/keys/release.key"), self.path("state/keys/password"));
        let bundle = Signer::open(&key, Some(&password)).unwrap().seal(statement).unwrap();
        let digest = image.split('@').nth(1).unwrap();
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        self.pushing(async |pusher| {
            let manifest = pusher.source.manifest(pusher.repository(), digest).await.unwrap();
            let subject = Descriptor::of(INDEX, &manifest);
            let tag = Self::statement_tag(image);
            pusher.attach(&bundle, RELEASE, &subject, now, &[&tag]).await.unwrap();
        });
    }

    /// Pushes an image of one platform that is no car's: these layers, the lowest first.
    pub(crate) fn put_image(&self, image: &PlainImage) {
        self.pushing(async |pusher| {
            for blob in &image.blobs {
                pusher.blob(blob).await.unwrap();
            }
            pusher.manifest(&image.manifest, MANIFEST, None).await.unwrap();
        });
    }

    /// Writes to the registry with its token.
    fn pushing(&self, work: impl AsyncFnOnce(Pusher)) {
        let registry = Registry {
            repository: self.images().parse().unwrap(),
            plain_http: false,
            user: None,
            password_file: Some(self.path("state/registry-token")),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { work(Pusher::new(&registry).await.unwrap()).await });
    }

    /// `pitlane attest` with the lane's key.
    pub(crate) fn attest(&self, image: &str, args: &[&str]) {
        let mut command = self.pitlane();
        command.args(["attest", image]).args(args);
        command.arg("--key").arg(self.path("state/keys/release.key"));
        command.arg("--password-file").arg(self.path("state/keys/password"));
        command.arg("--registry-password-file").arg(self.path("state/registry-token"));
        run(&mut command).ok();
    }

    /// Where a blob lies on the registry's disk, once it does.
    pub(crate) fn blob_file(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        let file = self.path("state/registry/blobs/sha256").join(hex);
        until(20, &format!("{digest} is on the disk"), || file.exists().then_some(()));
        file
    }

    /// Changes a blob on the registry's disk, looks, and changes it back.
    pub(crate) fn altered<T>(
        &self,
        digest: &str,
        change: impl Fn(&mut Vec<u8>),
        look: impl FnOnce() -> T,
    ) -> T {
        let file = self.blob_file(digest);
        let good = fs::read(&file).unwrap();
        let mut bad = good.clone();
        change(&mut bad);
        assert_ne!(good, bad, "nothing was changed in {digest}");
        fs::write(&file, bad).unwrap();
        let seen = look();
        fs::write(&file, good).unwrap();
        seen
    }
}
