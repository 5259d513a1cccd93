//! The tables in `SQLite`, version by version: how an older store becomes a current one.

use super::down;
use crate::store::migrate::Migration;

/// The versions, the oldest first; entries are never edited.
pub(in crate::store) const MIGRATIONS: [Migration; 4] = [
    Migration { up: FIRST, down: "" },
    Migration { up: SECOND, down: down::SECOND },
    Migration { up: THIRD, down: down::THIRD },
    Migration { up: FOURTH, down: down::FOURTH },
];

/// `runs.fence` grows with every claim; a journal write must carry the current one.
/// `deliveries.body` and `headers` are kept for the newest rows alone (see inbox).
/// Times are milliseconds since 1970 UTC.
const FIRST: &str = "
CREATE TABLE deliveries (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  received INTEGER NOT NULL,
  event TEXT NOT NULL,
  repository TEXT,
  tag TEXT,
  outcome TEXT NOT NULL,
  run TEXT,
  digest BLOB NOT NULL,
  headers TEXT,
  body BLOB
);
CREATE TABLE tags (
  repository TEXT NOT NULL,
  tag TEXT NOT NULL,
  commit_id TEXT,
  object TEXT NOT NULL,
  first_seen INTEGER NOT NULL,
  deleted INTEGER,
  PRIMARY KEY (repository, tag)
) WITHOUT ROWID;
CREATE TABLE counters (
  source TEXT NOT NULL,
  kind TEXT NOT NULL,
  value INTEGER NOT NULL,
  PRIMARY KEY (source, kind)
) WITHOUT ROWID;
CREATE TABLE runs (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  state TEXT NOT NULL CHECK (state IN ('queued','running','failed','done')),
  repository TEXT NOT NULL,
  tag TEXT NOT NULL,
  commit_id TEXT,
  object TEXT NOT NULL,
  pipeline TEXT NOT NULL,
  kind TEXT NOT NULL,
  counter INTEGER NOT NULL,
  rollback INTEGER NOT NULL DEFAULT 0,
  fence INTEGER NOT NULL DEFAULT 0,
  created INTEGER NOT NULL,
  updated INTEGER NOT NULL,
  failed_step TEXT,
  error TEXT,
  UNIQUE (repository, kind, counter)
);
CREATE INDEX runs_by_tag ON runs (repository, tag);
CREATE INDEX runs_open ON runs (state, seq) WHERE state IN ('queued','running');
CREATE TABLE steps (
  run TEXT NOT NULL REFERENCES runs (id),
  step TEXT NOT NULL,
  attempt INTEGER NOT NULL,
  outcome TEXT NOT NULL CHECK (outcome IN ('running','done','failed','interrupted')),
  started INTEGER NOT NULL,
  finished INTEGER,
  output TEXT,
  error TEXT,
  PRIMARY KEY (run, step, attempt)
) WITHOUT ROWID;
CREATE TABLE alerts (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  code TEXT NOT NULL,
  repository TEXT NOT NULL,
  tag TEXT NOT NULL,
  detail TEXT NOT NULL,
  message TEXT NOT NULL,
  first_seen INTEGER NOT NULL,
  last_seen INTEGER NOT NULL,
  times INTEGER NOT NULL DEFAULT 1,
  UNIQUE (code, repository, tag, detail)
);
";

/// `runs.local`: the model and card files of a run that is not made from a checkout, JSON.
/// `runs_queue`, `runs_busy`: a pipeline's oldest queued run, and whether one is running, are
/// found without a walk over the others.
const SECOND: &str = "
ALTER TABLE runs ADD COLUMN local TEXT;
CREATE INDEX runs_queue ON runs (pipeline, seq) WHERE state = 'queued';
CREATE INDEX runs_busy ON runs (pipeline) WHERE state = 'running';
";

/// `runs.lease`: until when its holder counts as alive; `holder`: which process, for people;
/// `cancel`: somebody asked for its end. Two more states, which takes a new table.
/// `documents`: what a run seals once, so that whoever goes on with it finds it.
const THIRD: &str = "
CREATE TABLE runs_new (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  state TEXT NOT NULL CHECK (state IN
    ('queued','running','failed','done','cancelled','superseded')),
  repository TEXT NOT NULL,
  tag TEXT NOT NULL,
  commit_id TEXT,
  object TEXT NOT NULL,
  pipeline TEXT NOT NULL,
  kind TEXT NOT NULL,
  counter INTEGER NOT NULL,
  rollback INTEGER NOT NULL DEFAULT 0,
  fence INTEGER NOT NULL DEFAULT 0,
  lease INTEGER NOT NULL DEFAULT 0,
  holder TEXT,
  cancel INTEGER NOT NULL DEFAULT 0,
  created INTEGER NOT NULL,
  updated INTEGER NOT NULL,
  failed_step TEXT,
  error TEXT,
  local TEXT,
  UNIQUE (repository, kind, counter)
);
INSERT INTO runs_new (seq, id, state, repository, tag, commit_id, object, pipeline, kind, counter,
    rollback, fence, created, updated, failed_step, error, local)
  SELECT seq, id, state, repository, tag, commit_id, object, pipeline, kind, counter,
    rollback, fence, created, updated, failed_step, error, local FROM runs;
DROP TABLE runs;
ALTER TABLE runs_new RENAME TO runs;
CREATE INDEX runs_by_tag ON runs (repository, tag);
CREATE INDEX runs_open ON runs (state, seq) WHERE state IN ('queued','running');
CREATE INDEX runs_queue ON runs (pipeline, seq) WHERE state = 'queued';
CREATE INDEX runs_busy ON runs (pipeline) WHERE state = 'running';
CREATE TABLE documents (
  run TEXT NOT NULL REFERENCES runs (id),
  name TEXT NOT NULL,
  bytes BLOB NOT NULL,
  PRIMARY KEY (run, name)
) WITHOUT ROWID;
";

/// `looks`: when a repository's list of tags was first looked at. `changes`: runs and alerts in
/// the order of their last change, for those that follow them ([`super::follow`]); triggers write
/// it, so that no write can forget to. `followers`: how far each has come. `told`: facts that were
/// put into the `outbox`, which has one row for each channel that still waits for one. `duties`:
/// which process does what one alone should do. `approvals`, `cars`, `confirmed`: what people and
/// cars said of releases, for environments. `places`: how each release stands in each of them.
const FOURTH: &str = "
CREATE TABLE looks (
  repository TEXT NOT NULL PRIMARY KEY,
  first INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE changes (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL,
  id TEXT NOT NULL,
  UNIQUE (kind, id)
);
CREATE TRIGGER runs_made AFTER INSERT ON runs BEGIN
  INSERT INTO changes (kind, id) VALUES ('run', NEW.id);
END;
CREATE TRIGGER runs_changed AFTER UPDATE OF updated, state ON runs BEGIN
  DELETE FROM changes WHERE kind = 'run' AND id = NEW.id;
  INSERT INTO changes (kind, id) VALUES ('run', NEW.id);
END;
CREATE TRIGGER alerts_made AFTER INSERT ON alerts BEGIN
  INSERT INTO changes (kind, id) VALUES ('alert', CAST(NEW.seq AS TEXT));
END;
CREATE TABLE followers (
  name TEXT NOT NULL PRIMARY KEY,
  seq INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE told (
  id TEXT NOT NULL PRIMARY KEY,
  time INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE outbox (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  channel TEXT NOT NULL,
  id TEXT NOT NULL,
  event TEXT NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0,
  first_try INTEGER,
  due INTEGER,
  UNIQUE (channel, id)
);
CREATE INDEX outbox_queue ON outbox (channel, seq);
CREATE TABLE duties (
  name TEXT NOT NULL PRIMARY KEY,
  holder TEXT NOT NULL,
  until INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE approvals (
  pipeline TEXT NOT NULL,
  environment TEXT NOT NULL,
  counter INTEGER NOT NULL,
  digest TEXT NOT NULL,
  approver TEXT NOT NULL,
  time INTEGER NOT NULL,
  PRIMARY KEY (pipeline, environment, counter)
) WITHOUT ROWID;
CREATE TABLE cars (
  pipeline TEXT NOT NULL,
  car TEXT NOT NULL,
  environment TEXT NOT NULL,
  status TEXT NOT NULL,
  time INTEGER NOT NULL,
  PRIMARY KEY (pipeline, car)
) WITHOUT ROWID;
CREATE TABLE confirmed (
  pipeline TEXT NOT NULL,
  environment TEXT NOT NULL,
  digest TEXT NOT NULL,
  car TEXT NOT NULL,
  time INTEGER NOT NULL,
  PRIMARY KEY (pipeline, environment, digest, car)
) WITHOUT ROWID;
CREATE TABLE places (
  pipeline TEXT NOT NULL,
  environment TEXT NOT NULL,
  counter INTEGER NOT NULL,
  run TEXT NOT NULL,
  progress TEXT NOT NULL,
  time INTEGER NOT NULL,
  PRIMARY KEY (pipeline, environment, counter)
) WITHOUT ROWID;
CREATE INDEX places_of ON places (run);
";
