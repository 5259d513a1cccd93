//! Documents that a run makes once: signatures are random, and a release that was interrupted
//! must not be signed twice, whoever goes on with it.

use super::{Store, StoreError, db::params};

/// Largest document (bytes): a bundle, of which cars read no more either.
const MAX_DOCUMENT: usize = 4 * 1024 * 1024;
/// Most documents of a run.
const MAX_DOCUMENTS: i64 = 256;

impl Store {
    /// A document of a run.
    pub async fn document(&self, run: &str, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let (run, name) = (run.to_owned(), name.to_owned());
        self.read(move |db| {
            let sql = "SELECT bytes FROM documents WHERE run = ?1 AND name = ?2";
            db.first(sql, params![run, name], |row| row.get(0))
        })
        .await
    }

    /// Keeps a document unless there is one of this name; gives the one that stands. Whoever
    /// comes second goes on with the first one's, so two executors never publish two.
    pub async fn keep_document(
        &self,
        run: &str,
        name: &str,
        bytes: Vec<u8>,
    ) -> Result<Vec<u8>, StoreError> {
        if bytes.len() > MAX_DOCUMENT {
            let why = format!("{name} has {} bytes, at most {MAX_DOCUMENT} are kept", bytes.len());
            return Err(StoreError::Corrupt(why));
        }
        let (run, name) = (run.to_owned(), name.to_owned());
        self.write(move |db| {
            let count = "SELECT count(*) FROM documents WHERE run = ?1";
            let kept: Option<i64> = db.first(count, params![run], |row| row.get(0))?;
            if kept.is_some_and(|kept| kept >= MAX_DOCUMENTS) {
                let why = format!("run {run} has {MAX_DOCUMENTS} documents; no more are kept");
                return Err(StoreError::Corrupt(why));
            }
            db.execute(
                "INSERT INTO documents (run, name, bytes) VALUES (?1, ?2, ?3)
                 ON CONFLICT (run, name) DO NOTHING",
                params![run, name, bytes.as_slice()],
            )?;
            let sql = "SELECT bytes FROM documents WHERE run = ?1 AND name = ?2";
            let stands = db.first(sql, params![run, name], |row| row.get(0))?;
            stands.ok_or_else(|| StoreError::Corrupt(format!("run {run}: {name} was not kept")))
        })
        .await
    }
}
