//! What of the past is still needed, and what is let go with time. Runs, tags and counters stay:
//! they are what keeps a tag from being released twice.

use std::collections::HashSet;

use pitlane_release::Digest;

use super::{Store, StoreError, db::params};

/// Runs whose journals are read at once.
const PAGE: i64 = 100;

impl Store {
    /// Lets go of what runs that were done before `before` (milliseconds since 1970) sealed, which
    /// their registries have, and of their attempts that came to nothing. How many rows went.
    ///
    /// What other runs have sealed stays: they can be retried, and nothing is signed twice.
    pub async fn forget(&self, before: i64) -> Result<usize, StoreError> {
        self.write(move |db| {
            let documents = "DELETE FROM documents WHERE run IN
                (SELECT id FROM runs WHERE state = 'done' AND updated < ?1)";
            let attempts = "DELETE FROM steps WHERE outcome IN ('failed', 'interrupted')
                AND run IN (SELECT id FROM runs WHERE state = 'done' AND updated < ?1)";
            Ok(db.execute(documents, params![before])? + db.execute(attempts, params![before])?)
        })
        .await
    }

    /// Digests that somebody may still ask a registry for: of images that cars drive or confirmed,
    /// or that people let into an environment, and all that the journals name of runs that are not
    /// over, or changed since `since` (milliseconds since 1970).
    pub async fn needed(&self, since: i64) -> Result<HashSet<Digest>, StoreError> {
        let mut needed = HashSet::new();
        for car in self.cars(None).await? {
            needed.extend(digests(&car.status.image));
        }
        let said: Vec<String> = self
            .read(|db| {
                let both = "SELECT digest FROM confirmed UNION SELECT digest FROM approvals";
                db.all(both, params![], |row| row.get(0))
            })
            .await?;
        needed.extend(said.iter().flat_map(|text| digests(text)));
        let mut last = 0;
        loop {
            let (end, found) = self.named_after(last, since).await?;
            needed.extend(found);
            match end {
                Some(seq) => last = seq,
                None => return Ok(needed),
            }
        }
    }

    /// The digests of the next runs after this one, and the last of these runs.
    async fn named_after(
        &self,
        last: i64,
        since: i64,
    ) -> Result<(Option<i64>, HashSet<Digest>), StoreError> {
        self.read(move |db| {
            let runs: Vec<(i64, String)> = db.all(
                "SELECT seq, id FROM runs WHERE seq > ?1
                   AND (state IN ('queued', 'running') OR updated >= ?2)
                 ORDER BY seq LIMIT ?3",
                params![last, since, PAGE],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )?;
            let mut found = HashSet::new();
            for (_, run) in &runs {
                let outputs = "SELECT output FROM steps WHERE run = ?1 AND output IS NOT NULL";
                let texts: Vec<String> = db.all(outputs, params![run], |row| row.get(0))?;
                found.extend(texts.iter().flat_map(|text| digests(text)));
            }
            Ok((runs.last().map(|(seq, _)| *seq), found))
        })
        .await
    }
}

/// Every digest in a text.
fn digests(text: &str) -> impl Iterator<Item = Digest> {
    const PREFIX: &str = "sha256:";
    text.match_indices(PREFIX)
        .filter_map(|(at, _)| text.get(at..at + PREFIX.len() + 64)?.parse().ok())
}
