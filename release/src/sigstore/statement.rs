//! The in-toto statement in a DSSE envelope, as far as the bundle's verification needs it.

use sigstore_types::{DsseEnvelope, Statement};

use super::{json, refusal::BundleRefusal};
use crate::statement::PAYLOAD_TYPE;

/// Statement types that are read. v0.1 differs from v1 in nothing that is used here.
const TYPES: [&str; 2] = ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"];

/// Reads the statement. Whose it is, and of what, is for others to find out.
pub(super) fn read(envelope: &DsseEnvelope) -> Result<Statement, BundleRefusal> {
    if envelope.payload_type != PAYLOAD_TYPE {
        let shown: String = envelope.payload_type.chars().take(80).collect();
        return Err(BundleRefusal::Unsupported(format!("a payload of type `{shown}`")));
    }
    let fail = |error: serde_json::Error| BundleRefusal::Malformed(format!("statement: {error}"));
    let payload = envelope.payload.as_bytes();
    json::check(payload).map_err(fail)?;
    let statement: Statement = serde_json::from_slice(payload).map_err(fail)?;
    if !TYPES.contains(&statement.type_.as_str()) {
        let shown: String = statement.type_.chars().take(80).collect();
        return Err(BundleRefusal::Unsupported(format!("a statement of type `{shown}`")));
    }
    Ok(statement)
}
