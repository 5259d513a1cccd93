//! The registry within the service.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::registry::{self, Limits, Registry, RegistryConfig};

/// Rights and limits of the embedded registry (`docs/registry.md`). Its push token is made by the
/// service and has every right.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(in crate::cli) struct Embedded {
    /// A file of further tokens and their rights; others must not be able to write it.
    pub(in crate::cli) tokens: Option<PathBuf>,
    /// Whether reading needs a token as well.
    private: bool,
    /// Whether who has that right may delete manifests, tags and blobs.
    allow_delete: bool,
    /// GiB of all blobs, at most.
    #[schemars(range(min = 1, max = 1_048_576))]
    quota_gib: u32,
    /// GiB of one repository, at most; as many as all when absent.
    #[schemars(range(min = 1, max = 1_048_576))]
    repository_quota_gib: Option<u32>,
}

impl Default for Embedded {
    fn default() -> Self {
        Self {
            tokens: None,
            private: false,
            allow_delete: false,
            quota_gib: 256,
            repository_quota_gib: None,
        }
    }
}

impl Embedded {
    /// Refuses figures that make no sense.
    pub(in crate::cli) fn check(&self) -> Result<(), String> {
        let quotas =
            [("quotaGib", Some(self.quota_gib)), ("repositoryQuotaGib", self.repository_quota_gib)];
        for (name, value) in quotas {
            if let Some(value) = value.filter(|value| !(1..=1 << 20).contains(value)) {
                return Err(format!("field `registry.{name}`: {value}; want 1 to {}", 1 << 20));
            }
        }
        Ok(())
    }

    /// Opens it below `state`.
    pub(super) async fn open(
        &self,
        state: &Path,
        push_token: &Path,
    ) -> anyhow::Result<Arc<Registry>> {
        let access = self.tokens.as_deref().map(registry::cli::read_access).transpose()?;
        let gib = |gib: u32| u64::from(gib) << 30;
        let config = RegistryConfig {
            limits: Limits {
                quota_bytes: gib(self.quota_gib),
                repository_bytes: self.repository_quota_gib.map_or(u64::MAX, gib),
                ..Limits::default()
            },
            push_token: Some(registry::cli::read_token(push_token)?),
            access: access.unwrap_or_default(),
            allow_delete: self.allow_delete,
            anonymous_pull: !self.private,
            ..RegistryConfig::new(state.join("registry"))
        };
        Ok(Arc::new(tokio::task::spawn_blocking(|| Registry::open(config)).await??))
    }
}
