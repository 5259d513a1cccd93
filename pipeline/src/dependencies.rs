//! What the provenance says went into images: base and runtime, or a Dockerfile, and the original of a
//! converted model. Pure.

use std::collections::BTreeMap;

use pitlane_release::{
    Digest, Platform,
    facts::ModelFacts,
    lap::Resource,
    provenance::{
        BUILD_TYPE, DOCKERFILE_BUILD_TYPE, DockerfileParameters, ImageParameters, LayerParameters,
    },
};

use crate::assemble::{Assembled, Origin, Parts, origin::FromDockerfile};

/// How images were made, in the words of the provenance.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) build_type: &'static str,
    pub(crate) dependencies: Vec<Resource>,
    pub(crate) image: Option<ImageParameters>,
    pub(crate) dockerfile: BTreeMap<Platform, DockerfileParameters>,
}

impl Made {
    /// What is said of these images.
    pub(crate) fn of(assembled: &Assembled, created: &str) -> Self {
        let mut made = Self {
            build_type: BUILD_TYPE,
            dependencies: Vec::new(),
            image: Some(ImageParameters {
                created: created.to_owned(),
                layers: LayerParameters::current(),
            }),
            dockerfile: BTreeMap::new(),
        };
        for (platform, built) in &assembled.images {
            match &built.origin {
                Origin::Parts(Parts { base, runtime, .. }) => {
                    made.name(&format!("base {platform}"), *base);
                    made.name(&format!("runtime {platform}"), *runtime);
                }
                Origin::Dockerfile { dockerfile } => made.dockerfile(*platform, dockerfile),
            }
        }
        made
    }

    fn name(&mut self, name: &str, digest: Digest) {
        self.dependencies.push(Resource::named(name, digest));
    }

    fn dockerfile(&mut self, platform: Platform, from: &FromDockerfile) {
        // An engine dates its layers: nobody gets the same ones again, so nothing says how.
        (self.build_type, self.image) = (DOCKERFILE_BUILD_TYPE, None);
        self.name(&format!("dockerfile {platform}"), from.dockerfile);
        self.name(&format!("context {platform}"), from.context);
        for (base, id) in &from.parameters.bases {
            let mut resource = image(&format!("base {platform}"), id);
            resource.uri = Some(base.clone());
            self.dependencies.push(resource);
        }
        if let Some(runtime) = from.runtime.as_ref().filter(|runtime| runtime.laid) {
            self.name(&format!("runtime {platform}"), runtime.digest);
        }
        self.dockerfile.insert(platform, from.parameters.clone());
    }
}

/// What a converted model was made from and with.
pub(crate) fn conversion(facts: &ModelFacts) -> Vec<Resource> {
    let Some(conversion) = &facts.conversion else { return Vec::new() };
    let mut all = vec![Resource::named(ORIGINAL, conversion.original)];
    let code = conversion.code.iter();
    all.extend(code.map(|(name, digest)| Resource::named(&format!("model code {name}"), *digest)));
    all.push(image("converter", &conversion.converter));
    all
}

/// The name of a converted model's original among the dependencies.
pub(crate) const ORIGINAL: &str = "model original";

/// An image of an engine, by the engine's id for it: the digest of its config.
fn image(name: &str, id: &str) -> Resource {
    let digest = id.split_once(':').map(|(algorithm, hex)| (algorithm.to_owned(), hex.to_owned()));
    Resource {
        name: Some(name.to_owned()),
        uri: None,
        digest: digest.into_iter().collect(),
        media_type: None,
    }
}
