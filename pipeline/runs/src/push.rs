//! `TagPush`: a tag that now names a commit, by the word of a sender that was believed.

/// A tag that now names a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagPush {
    /// `owner/name` as the sender wrote it.
    pub repository: String,
    /// Short name of the tag.
    pub tag: String,
    /// What the ref holds: the commit of a lightweight tag, the tag object of an annotated one.
    pub object: String,
    /// The commit, where the payload tells (`head_commit.id`); checkout peels and compares.
    pub commit: Option<String>,
    /// Whether the sender says that the tag existed before and was moved.
    pub forced: bool,
}

impl TagPush {
    /// The tag object of an annotated tag.
    pub fn tag_object(&self) -> Option<&str> {
        let commit = self.commit.as_deref()?;
        (commit != self.object).then_some(self.object.as_str())
    }
}
