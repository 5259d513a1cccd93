//! `Resolve`: where the keys and trusted roots come from that a policy only names.

use std::sync::Arc;

use crate::sigstore::{BundleRefusal, TrustRoot};

/// Gives what a policy names. A closure from a key's name to its PEM text is one: its trusted
/// root is the public-good instance's.
pub trait Resolve {
    /// The PEM text of the key that `secretRef` names, if it is known.
    fn key(&self, name: &str) -> Option<String>;

    /// The trusted root that `trustRootRef` names; without a name, the default one. `Ok(None)`
    /// when there is none by that name.
    fn root(&self, name: Option<&str>) -> Result<Option<Arc<TrustRoot>>, BundleRefusal> {
        match name {
            None => TrustRoot::public_good().map(|root| Some(Arc::new(root))),
            Some(_) => Ok(None),
        }
    }
}

impl<F: Fn(&str) -> Option<String>> Resolve for F {
    fn key(&self, name: &str) -> Option<String> {
        self(name)
    }
}
