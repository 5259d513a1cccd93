//! Versions of the tables, forward and back. A new version is one entry `{ up, down }` at the end of
//! its backend's list (`schema/`).
//!
//! Services go forward by themselves when they start. Back is a command, for who must run an older
//! program again: only while no run is open, since what the older program does not know could be
//! needed to finish it.

use std::path::Path;

use super::{PostgresUrl, StoreError, postgres::Pg, schema, sqlite, writer};
use crate::Told;

/// How many runs are not over.
pub(super) const OPEN_RUNS: &str = "SELECT count(*) FROM runs WHERE state IN ('queued','running')";

/// One version: how it is made of the one before it, and how that one is made of it.
#[derive(Clone, Copy)]
pub(super) struct Migration {
    /// From the version before.
    pub(super) up: &'static str,
    /// Back to it; the first version has nothing before it.
    pub(super) down: &'static str,
}

/// What was found, and what is there now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Moved {
    /// The version before.
    pub from: i64,
    /// The version now.
    pub to: i64,
    /// The newest that this program knows.
    pub newest: i64,
}

/// The newest version of a list.
pub(super) fn newest(known: &[Migration]) -> i64 {
    i64::try_from(known.len()).expect("a handful")
}

/// The steps from one version to another, each with the version that it leads to.
pub(super) fn way(
    known: &[Migration],
    found: i64,
    to: i64,
    place: &Path,
) -> Result<Vec<(i64, &'static str)>, StoreError> {
    let newest = newest(known);
    if !(0..=newest).contains(&found) {
        return Err(StoreError::TooNew { path: place.to_owned(), found, known: newest });
    }
    let versions = || (1_i64..).zip(known);
    if found <= to {
        let up = versions().filter(|(version, _)| (found + 1..=to).contains(version));
        return Ok(up.map(|(version, one)| (version, one.up)).collect());
    }
    let down = versions().filter(|(version, _)| (to + 1..=found).contains(version));
    let mut steps: Vec<_> = down.map(|(version, one)| (version - 1, one.down)).collect();
    steps.reverse();
    Ok(steps)
}

/// Why nothing goes back.
pub(super) fn open_runs() -> StoreError {
    StoreError::Refused(Told {
        code: "open-runs".into(),
        message: "there are runs that wait or run; nothing goes back while there are".into(),
        hint: "let them end, or `pitlane runs cancel` them; then stop the service".into(),
    })
}

/// Refuses a version that there is not.
fn within(to: i64, newest: i64) -> Result<(), StoreError> {
    if (1..=newest).contains(&to) {
        return Ok(());
    }
    Err(StoreError::Refused(Told {
        code: "version".into(),
        message: format!("there is no schema {to}; this program knows 1 to {newest}"),
        hint: "the newest version goes back to all others; an older program cannot go forward"
            .into(),
    }))
}

/// Takes a file to a version. The service must not run.
pub fn file(path: &Path, to: Option<i64>) -> Result<Moved, StoreError> {
    let newest = newest(&schema::sqlite::MIGRATIONS);
    let to = to.unwrap_or(newest);
    within(to, newest)?;
    if !path.exists() {
        let reason = "there is no store yet; the service makes it".into();
        return Err(StoreError::Open { path: path.to_owned(), reason });
    }
    let _lock = writer::lock(path)?;
    let mut connection = sqlite::open_as_it_is(path)?;
    let from = sqlite::version(&connection, path)?;
    if (1..=newest).contains(&from) && to < from {
        let open: i64 = connection.query_row(OPEN_RUNS, [], |row| row.get(0))?;
        if open > 0 {
            return Err(open_runs());
        }
    }
    sqlite::move_to(&mut connection, path, to)?;
    Ok(Moved { from, to, newest })
}

/// Takes a server's tables to a version. Blocks; no service must use them when they go back.
pub fn server(url: &PostgresUrl, to: Option<i64>) -> Result<Moved, StoreError> {
    let newest = newest(&schema::postgres::MIGRATIONS);
    let to = to.unwrap_or(newest);
    within(to, newest)?;
    let from = Pg::reader(url)?.move_to(to)?;
    Ok(Moved { from, to, newest })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rusqlite::{Connection, types::Value};

    use super::*;

    /// Rows of every table that version 1 has.
    const ROWS: &str = "
INSERT INTO deliveries VALUES (7,'d1',1,'push','o/c','v1','queued','r1',x'00','{}',x'7b7d');
INSERT INTO tags VALUES ('o/c','v1','abc','def',1,NULL);
INSERT INTO counters VALUES ('o/c','car',40);
INSERT INTO runs (seq,id,state,repository,tag,commit_id,object,pipeline,kind,counter,rollback,fence,
  created,updated,failed_step,error) VALUES
  (1,'r1','done','o/c','v1','abc','def','p','car',39,0,3,1,2,NULL,NULL),
  (9,'r9','failed','o/c','v2','abc','def','p','car',40,1,4,3,4,'prove','{\"code\":\"c\"}');
INSERT INTO steps VALUES ('r1','checkout',1,'done',1,2,'{\"a\":1}',NULL);
INSERT INTO steps VALUES ('r9','prove',2,'failed',3,4,NULL,'{}');
INSERT INTO alerts VALUES (3,'tag-moved','o/c','v1','d','m',1,2,5);
";

    type Rows = BTreeMap<String, Vec<BTreeMap<String, String>>>;

    /// All rows of all tables, by column.
    fn dump(connection: &Connection) -> Rows {
        let mut names = connection
            .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
            .unwrap();
        let names: Vec<String> =
            names.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        let table = |name: &String| {
            // This one has no key of its own, and no order.
            let order = if name == "sqlite_sequence" { " ORDER BY name" } else { "" };
            let sql = format!("SELECT * FROM {name}{order}");
            let mut select = connection.prepare(&sql).unwrap();
            let columns: Vec<String> = select.column_names().map(str::to_owned).collect();
            let rows = select.query_map([], |row| {
                let cell = |(i, c): (usize, &String)| {
                    Ok((c.clone(), format!("{:?}", row.get::<_, Value>(i)?)))
                };
                columns.iter().enumerate().map(cell).collect::<rusqlite::Result<_>>()
            });
            rows.unwrap().map(Result::unwrap).collect()
        };
        names.iter().map(|name| (name.clone(), table(name))).collect()
    }

    fn shape(connection: &Connection) -> Vec<(String, String)> {
        let mut objects = connection
            .prepare(
                "SELECT name, coalesce(sql, '') FROM sqlite_schema
                 WHERE name NOT LIKE 'sqlite_%' ORDER BY name",
            )
            .unwrap();
        let plain = |sql: String| {
            let words = sql.replace(['\"', '\n'], " ");
            words.split_whitespace().collect::<Vec<_>>().join(" ").replace(" ,", ",")
        };
        let rows = objects.query_map([], |row| Ok((row.get(0)?, plain(row.get(1)?)))).unwrap();
        rows.map(Result::unwrap).collect()
    }

    /// Tables of a version, with the rows.
    fn at(path: &Path, version: i64) -> Connection {
        let mut connection = sqlite::open_as_it_is(path).unwrap();
        sqlite::move_to(&mut connection, path, 1).unwrap();
        connection.execute_batch(ROWS).unwrap();
        sqlite::move_to(&mut connection, path, version).unwrap();
        connection
    }

    #[test]
    fn every_version_goes_forward_and_back_and_what_both_know_stays() {
        let newest = newest(&schema::sqlite::MIGRATIONS);
        for version in 2..=newest {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("s.db");
            let before = at(&path, version - 1);
            let (rows, tables) = (dump(&before), shape(&before));
            drop(before);
            let up = file(&path, Some(version)).unwrap();
            assert_eq!((up.from, up.to, up.newest), (version - 1, version, newest));
            let newer = dump(&sqlite::open_as_it_is(&path).unwrap());
            for (table, known) in &rows {
                for (old, new) in known.iter().zip(&newer[table]) {
                    for (column, value) in old {
                        assert_eq!(new.get(column), Some(value), "{version}: {table}.{column}");
                    }
                }
                assert_eq!(known.len(), newer[table].len(), "{version}: {table}");
            }
            let down = file(&path, Some(version - 1)).unwrap();
            assert_eq!((down.from, down.to), (version, version - 1));
            let after = sqlite::open_as_it_is(&path).unwrap();
            assert_eq!(dump(&after), rows, "from {version} back");
            assert_eq!(shape(&after), tables, "from {version} back");
            let check: String =
                after.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
            assert_eq!(check, "ok");
            let dangling = after.prepare("PRAGMA foreign_key_check").unwrap().exists([]).unwrap();
            assert!(!dangling, "{version}");
        }
    }

    #[test]
    fn the_newest_goes_all_the_way_and_the_service_takes_it_up_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.db");
        let newest = newest(&schema::sqlite::MIGRATIONS);
        let first = dump(&at(&path, 1));
        file(&path, None).unwrap();
        let latest = dump(&sqlite::open_as_it_is(&path).unwrap());
        file(&path, Some(1)).unwrap();
        assert_eq!(dump(&sqlite::open_as_it_is(&path).unwrap()), first);
        assert_eq!(sqlite::version(&sqlite::open(&path).unwrap(), &path).unwrap(), newest);
        assert_eq!(dump(&sqlite::open_as_it_is(&path).unwrap()), latest);
    }

    #[test]
    fn newer_states_are_put_into_older_words() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.db");
        let connection = at(&path, 3);
        connection
            .execute_batch(
                "UPDATE runs SET state = 'cancelled' WHERE id = 'r1';
                 UPDATE runs SET state = 'superseded', failed_step = NULL, error = NULL
                   WHERE id = 'r9';
                 INSERT INTO documents VALUES ('r1','release.json',x'00');",
            )
            .unwrap();
        drop(connection);
        file(&path, Some(2)).unwrap();
        let older = dump(&sqlite::open_as_it_is(&path).unwrap());
        let states: Vec<&str> = older["runs"].iter().map(|run| run["state"].as_str()).collect();
        assert_eq!(states, ["Text(\"failed\")"; 2]);
        assert!(older["runs"][1]["error"].contains("superseded"), "{older:?}");
        let error: String = sqlite::open_as_it_is(&path)
            .unwrap()
            .query_row("SELECT error FROM runs WHERE id = 'r9'", [], |row| row.get(0))
            .unwrap();
        let parsed: crate::lane::StepError = serde_json::from_str(&error).unwrap();
        assert_eq!(parsed.code, "superseded");
        assert!(!older.contains_key("documents"));
    }

    #[test]
    fn nothing_goes_where_it_cannot() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.db");
        assert!(matches!(file(&path, None), Err(StoreError::Open { .. })), "no store is made");
        assert!(!path.exists());
        let newest = newest(&schema::sqlite::MIGRATIONS);
        let connection = at(&path, newest);
        connection.execute("UPDATE runs SET state = 'queued' WHERE id = 'r9'", []).unwrap();
        let refused = |to, code: &str| match file(&path, Some(to)) {
            Err(StoreError::Refused(told)) => assert_eq!(told.code, code),
            other => panic!("{to}: {other:?}"),
        };
        refused(newest - 1, "open-runs");
        refused(0, "version");
        refused(newest + 1, "version");
        assert_eq!(sqlite::version(&connection, &path).unwrap(), newest, "it stayed as it was");
        connection.pragma_update(None, "user_version", newest + 1).unwrap();
        assert!(matches!(file(&path, Some(1)), Err(StoreError::TooNew { .. })));
        let held = writer::lock(&path).unwrap();
        assert!(matches!(file(&path, None), Err(StoreError::InUse(_))), "a service runs");
        drop(held);
    }
}
