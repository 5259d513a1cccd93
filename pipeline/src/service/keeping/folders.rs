//! Which runs' folders go.

use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt as _, path::Path};

use super::Keep;

/// A run's folder.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    /// The run.
    pub(super) run: String,
    /// Its pipeline.
    pub(super) pipeline: String,
    /// Whether it has ended.
    pub(super) over: bool,
    /// When it changed last (milliseconds since 1970).
    pub(super) updated: i64,
    /// What it takes on the disk.
    pub(super) bytes: u64,
}

/// The runs whose folders go: those that changed before `cut`, and the oldest of too many or too
/// large ones. What is under way counts and stays.
pub(super) fn leaving(mut folders: Vec<Folder>, keep: &Keep, cut: i64) -> Vec<String> {
    folders.sort_by_key(|folder| (folder.over, std::cmp::Reverse(folder.updated)));
    let most = u64::from(keep.gib) << 30;
    let (mut of, mut bytes) = (BTreeMap::<String, u32>::new(), 0_u64);
    let mut goes = |folder: &Folder| {
        bytes = bytes.saturating_add(folder.bytes);
        if !folder.over {
            return false;
        }
        let count = of.entry(folder.pipeline.clone()).or_default();
        *count += 1;
        *count > keep.runs || folder.updated < cut || bytes > most
    };
    folders.into_iter().filter(|folder| goes(folder)).map(|folder| folder.run).collect()
}

/// What a folder takes on the disk; what cannot be read counts as nothing. Links are not followed.
pub(super) fn size(folder: &Path) -> u64 {
    let mut waiting = vec![folder.to_owned()];
    let mut bytes = 0_u64;
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            bytes = bytes.saturating_add(meta.blocks().saturating_mul(512));
            if meta.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_and_what_is_under_way_stays() {
        const GIB: u64 = 1 << 30;
        let folder = |run: &str, pipeline: &str, over, updated, bytes| Folder {
            run: run.into(),
            pipeline: pipeline.into(),
            over,
            updated,
            bytes,
        };
        let all = [
            folder("old", "a", true, 10, 1),
            folder("older", "a", true, 5, 1),
            folder("new", "a", true, 30, 1),
            folder("runs", "a", false, 1, GIB / 2),
            folder("other", "b", true, 20, 1),
            folder("lost", "", true, 3, 1),
        ];
        let keep = |days, runs, gib| Keep { days, runs, gib };
        let wide = keep(1, 100, 1);
        let cases: [(&str, Keep, i64, u64, &[&str]); 5] = [
            ("within all limits", wide.clone(), 0, 1, &[]),
            ("by age", wide.clone(), 10, 1, &["older", "lost"]),
            ("by number in each pipeline", keep(1, 1, 1), 0, 1, &["old", "older"]),
            ("by size, with what is under way", wide, 0, GIB / 4, &["old", "older", "lost"]),
            (
                "by size, nothing fits",
                keep(1, 9, 1),
                0,
                GIB,
                &["new", "other", "old", "older", "lost"],
            ),
        ];
        for (name, keep, cut, each, want) in cases {
            let sized = all.iter().cloned().map(|folder| match folder.over {
                true => Folder { bytes: each, ..folder },
                false => folder,
            });
            assert_eq!(leaving(sized.collect(), &keep, cut), want, "{name}");
        }
    }
}
