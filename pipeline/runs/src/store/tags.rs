//! What is known of a repository's tags, for who compares it with a list of them.

use super::{Db, Store, StoreError, db::params, now_ms};
use crate::push::TagPush;

/// A tag as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTag {
    /// Short name.
    pub tag: String,
    /// Its commit, where it was told.
    pub commit: Option<String>,
    /// What its ref held: the commit, or the tag object.
    pub object: String,
    /// Whether it was deleted since.
    pub deleted: bool,
}

impl Store {
    /// The tags of a repository; none where its list was never looked at, whatever deliveries told.
    pub async fn tags(&self, repository: &str) -> Result<Option<Vec<StoredTag>>, StoreError> {
        let repository = repository.to_owned();
        self.read(move |db| {
            let sql = "SELECT first FROM looks WHERE repository = ?1";
            let looked: Option<i64> = db.first(sql, params![repository], |row| row.get(0))?;
            if looked.is_none() {
                return Ok(None);
            }
            db.all(
                "SELECT tag, commit_id, object, coalesce(deleted, 0) FROM tags
                 WHERE repository = ?1 ORDER BY tag",
                params![repository],
                |row| {
                    Ok(StoredTag {
                        tag: row.get(0)?,
                        commit: row.get(1)?,
                        object: row.get(2)?,
                        deleted: row.get(3)?,
                    })
                },
            )
            .map(Some)
        })
        .await
    }

    /// Records the tags that were there when a repository's list was looked at for the first
    /// time. They start nothing: what is old is not released again by itself.
    pub async fn first_look(&self, repository: &str, tags: Vec<TagPush>) -> Result<(), StoreError> {
        let repository = repository.to_owned();
        self.write(move |db| {
            tags.iter().try_for_each(|push| seen(db, &repository, push))?;
            db.execute(
                "INSERT INTO looks (repository, first) VALUES (?1, ?2)
                 ON CONFLICT (repository) DO NOTHING",
                params![repository, now_ms()],
            )
        })
        .await
        .map(drop)
    }
}

fn seen(db: &Db<'_>, repository: &str, push: &TagPush) -> Result<(), StoreError> {
    db.execute(
        "INSERT INTO tags (repository, tag, commit_id, object, first_seen)
         VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (repository, tag) DO NOTHING",
        params![repository, push.tag, push.commit, push.object, now_ms()],
    )
    .map(drop)
}
