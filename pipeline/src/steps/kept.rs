//! Documents that a run makes once and finds again when a step is run again: signatures are random,
//! and a release that was interrupted should not be signed twice.

use std::{io::ErrorKind, path::Path};

use anyhow::Context as _;
use pitlane_release::Digest;

use crate::{assemble::layer::write_atomically, service::Store, sign::Signer};

/// Hexadecimal digits of a digest in a name.
const DIGITS: usize = 12;

/// The name of a document's file. Another pipeline file and another key make another document:
/// after such a change and a retry, what was sealed before it is not found again.
pub(super) fn name(pipeline: &Digest, signer: &Signer, document: &str) -> String {
    let by = match signer.public() {
        Some(key) => key.id().hex()[..DIGITS].to_owned(),
        None => signer.kind().to_owned(),
    };
    format!("{}-{by}-{document}", &pipeline.hex()[..DIGITS])
}

/// Where documents are kept.
#[derive(Clone, Debug)]
pub enum Keeper {
    /// In the run's own folder: for a release without a service.
    Files,
    /// In the store, so that another machine finds them when it goes on with the run.
    Store(Store),
}

impl Keeper {
    /// The document of this name, made now if there is none.
    pub(super) async fn once(
        &self,
        run: &str,
        dir: &Path,
        name: &str,
        make: impl FnOnce() -> anyhow::Result<Vec<u8>>,
    ) -> anyhow::Result<Vec<u8>> {
        let file = dir.join(name);
        let store = match self {
            Self::Files => return once(&file, make),
            Self::Store(store) => store,
        };
        if let Some(bytes) = store.document(run, name).await? {
            return Ok(bytes);
        }
        // A run that was begun by a program that knew only files.
        let bytes = match file.try_exists()? {
            true => std::fs::read(&file).with_context(|| file.display().to_string())?,
            false => make()?,
        };
        Ok(store.keep_document(run, name, bytes).await?)
    }
}

/// The document in this file, made now if there is none.
///
/// # Errors
/// When it is there and cannot be read: it may be in the registry already, and a second one would
/// contradict it.
pub(super) fn once(
    path: &Path,
    make: impl FnOnce() -> anyhow::Result<Vec<u8>>,
) -> anyhow::Result<Vec<u8>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let bytes = make()?;
            write_atomically(path, &bytes)
                .with_context(|| format!("{}: cannot be kept", path.display()))?;
            Ok(bytes)
        }
        Err(error) => Err(error).with_context(|| {
            format!(
                "{}: this run made it before, and it cannot be read now; make it readable and retry",
                path.display()
            )
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::keyfile;

    #[test]
    fn what_was_made_is_found_again_and_never_made_twice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("release.json");
        assert_eq!(once(&path, || Ok(b"one".to_vec())).unwrap(), b"one");
        assert_eq!(once(&path, || panic!("it is there")).unwrap(), b"one");
        let failed = dir.path().join("failed.json");
        once(&failed, || anyhow::bail!("no signer")).unwrap_err();
        assert!(!failed.exists(), "nothing is kept of a failure");
        // There, and not to be read: a folder is so for root, too.
        let blocked = dir.path().join("blocked.json");
        std::fs::create_dir(&blocked).unwrap();
        let error = once(&blocked, || panic!("a second one is made")).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains("blocked.json") && error.contains("made it before"), "{error}");
    }

    #[test]
    fn another_key_or_pipeline_file_has_other_documents() {
        let der = |made: &keyfile::NewKey| keyfile::decrypt(&made.private_pem, "p").unwrap();
        let (one, two) = (keyfile::generate("p").unwrap(), keyfile::generate("p").unwrap());
        let open = |made| Signer::from_pkcs8(&der(made)).unwrap();
        let pipeline = Digest::of("pipeline");
        let first = name(&pipeline, &open(&one), "release.json");
        // The program starts anew and opens the same key.
        assert_eq!(name(&pipeline, &open(&one), "release.json"), first);
        assert_ne!(name(&pipeline, &open(&two), "release.json"), first);
        assert_ne!(name(&Digest::of("edited"), &open(&one), "release.json"), first);
        assert_ne!(name(&pipeline, &open(&one), "lap.json"), first);
    }
}
