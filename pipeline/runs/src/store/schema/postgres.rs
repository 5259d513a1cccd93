//! The tables in `PostgreSQL`, version by version, and the ways back.

use crate::store::migrate::Migration;

/// The versions, the oldest first; entries are never edited.
pub(in crate::store) const MIGRATIONS: [Migration; 3] = [
    Migration { up: FIRST, down: "" },
    Migration { up: SECOND, down: SECOND_DOWN },
    Migration { up: THIRD, down: THIRD_DOWN },
];

/// The tables, as `SQLite` has them after its own migrations (`sqlite.rs`).
const FIRST: &str = "
CREATE TABLE deliveries (
  seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  received BIGINT NOT NULL,
  event TEXT NOT NULL,
  repository TEXT,
  tag TEXT,
  outcome TEXT NOT NULL,
  run TEXT,
  digest BYTEA NOT NULL,
  headers TEXT,
  body BYTEA
);
CREATE TABLE tags (
  repository TEXT NOT NULL,
  tag TEXT NOT NULL,
  commit_id TEXT,
  object TEXT NOT NULL,
  first_seen BIGINT NOT NULL,
  deleted BIGINT,
  PRIMARY KEY (repository, tag)
);
CREATE TABLE counters (
  source TEXT NOT NULL,
  kind TEXT NOT NULL,
  value BIGINT NOT NULL,
  PRIMARY KEY (source, kind)
);
CREATE TABLE runs (
  seq BIGINT PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  state TEXT NOT NULL CHECK (state IN
    ('queued','running','failed','done','cancelled','superseded')),
  repository TEXT NOT NULL,
  tag TEXT NOT NULL,
  commit_id TEXT,
  object TEXT NOT NULL,
  pipeline TEXT NOT NULL,
  kind TEXT NOT NULL,
  counter BIGINT NOT NULL,
  rollback BIGINT NOT NULL DEFAULT 0,
  fence BIGINT NOT NULL DEFAULT 0,
  lease BIGINT NOT NULL DEFAULT 0,
  holder TEXT,
  cancel BIGINT NOT NULL DEFAULT 0,
  created BIGINT NOT NULL,
  updated BIGINT NOT NULL,
  failed_step TEXT,
  error TEXT,
  local TEXT,
  UNIQUE (repository, kind, counter)
);
CREATE INDEX runs_by_tag ON runs (repository, tag);
CREATE INDEX runs_open ON runs (state, seq) WHERE state IN ('queued','running');
CREATE INDEX runs_queue ON runs (pipeline, seq) WHERE state = 'queued';
CREATE INDEX runs_busy ON runs (pipeline) WHERE state = 'running';
CREATE TABLE steps (
  run TEXT NOT NULL REFERENCES runs (id),
  step TEXT NOT NULL,
  attempt BIGINT NOT NULL,
  outcome TEXT NOT NULL CHECK (outcome IN ('running','done','failed','interrupted')),
  started BIGINT NOT NULL,
  finished BIGINT,
  output TEXT,
  error TEXT,
  PRIMARY KEY (run, step, attempt)
);
CREATE TABLE documents (
  run TEXT NOT NULL REFERENCES runs (id),
  name TEXT NOT NULL,
  bytes BYTEA NOT NULL,
  PRIMARY KEY (run, name)
);
CREATE TABLE alerts (
  seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  code TEXT NOT NULL,
  repository TEXT NOT NULL,
  tag TEXT NOT NULL,
  detail TEXT NOT NULL,
  message TEXT NOT NULL,
  first_seen BIGINT NOT NULL,
  last_seen BIGINT NOT NULL,
  times BIGINT NOT NULL DEFAULT 1,
  UNIQUE (code, repository, tag, detail)
);
";

/// As `FOURTH` of `down.rs`.
const SECOND_DOWN: &str = "
DROP TRIGGER runs_made ON runs;
DROP TRIGGER runs_changed ON runs;
DROP TRIGGER alerts_made ON alerts;
DROP FUNCTION run_changed();
DROP FUNCTION alert_made();
DROP TABLE looks, changes, followers, told, outbox, duties, approvals, cars, confirmed, places;
DELETE FROM steps WHERE step = 'gates';
UPDATE runs SET failed_step = 'assemble' WHERE failed_step = 'gates';
";

/// As `FOURTH` of `sqlite.rs`.
const SECOND: &str = "
CREATE TABLE looks (
  repository TEXT NOT NULL PRIMARY KEY,
  first BIGINT NOT NULL
);
CREATE TABLE changes (
  seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  kind TEXT NOT NULL,
  id TEXT NOT NULL,
  UNIQUE (kind, id)
);
CREATE FUNCTION run_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM changes WHERE kind = 'run' AND id = NEW.id;
  INSERT INTO changes (kind, id) VALUES ('run', NEW.id);
  RETURN NULL;
END $$;
CREATE TRIGGER runs_made AFTER INSERT ON runs FOR EACH ROW EXECUTE FUNCTION run_changed();
CREATE TRIGGER runs_changed AFTER UPDATE OF updated, state ON runs
  FOR EACH ROW EXECUTE FUNCTION run_changed();
CREATE FUNCTION alert_made() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO changes (kind, id) VALUES ('alert', CAST(NEW.seq AS TEXT));
  RETURN NULL;
END $$;
CREATE TRIGGER alerts_made AFTER INSERT ON alerts FOR EACH ROW EXECUTE FUNCTION alert_made();
CREATE TABLE followers (
  name TEXT NOT NULL PRIMARY KEY,
  seq BIGINT NOT NULL
);
CREATE TABLE told (
  id TEXT NOT NULL PRIMARY KEY,
  time BIGINT NOT NULL
);
CREATE TABLE outbox (
  seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  channel TEXT NOT NULL,
  id TEXT NOT NULL,
  event TEXT NOT NULL,
  attempts BIGINT NOT NULL DEFAULT 0,
  first_try BIGINT,
  due BIGINT,
  UNIQUE (channel, id)
);
CREATE INDEX outbox_queue ON outbox (channel, seq);
CREATE TABLE duties (
  name TEXT NOT NULL PRIMARY KEY,
  holder TEXT NOT NULL,
  until BIGINT NOT NULL
);
CREATE TABLE approvals (
  pipeline TEXT NOT NULL,
  environment TEXT NOT NULL,
  counter BIGINT NOT NULL,
  digest TEXT NOT NULL,
  approver TEXT NOT NULL,
  time BIGINT NOT NULL,
  PRIMARY KEY (pipeline, environment, counter)
);
CREATE TABLE cars (
  pipeline TEXT NOT NULL,
  car TEXT NOT NULL,
  environment TEXT NOT NULL,
  status TEXT NOT NULL,
  time BIGINT NOT NULL,
  PRIMARY KEY (pipeline, car)
);
CREATE TABLE confirmed (
  pipeline TEXT NOT NULL,
  environment TEXT NOT NULL,
  digest TEXT NOT NULL,
  car TEXT NOT NULL,
  time BIGINT NOT NULL,
  PRIMARY KEY (pipeline, environment, digest, car)
);
CREATE TABLE places (
  pipeline TEXT NOT NULL,
  environment TEXT NOT NULL,
  counter BIGINT NOT NULL,
  run TEXT NOT NULL,
  progress TEXT NOT NULL,
  time BIGINT NOT NULL,
  PRIMARY KEY (pipeline, environment, counter)
);
CREATE INDEX places_of ON places (run);
";

/// Deliveries cost less: a new run has no older change to take away, and bodies are packed by the
/// faster of the server's ways, where it has that (14 and newer, by how it was built).
const THIRD: &str = "
CREATE FUNCTION run_made() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO changes (kind, id) VALUES ('run', NEW.id);
  RETURN NULL;
END $$;
DROP TRIGGER runs_made ON runs;
CREATE TRIGGER runs_made AFTER INSERT ON runs FOR EACH ROW EXECUTE FUNCTION run_made();
DO $$ BEGIN
  EXECUTE 'ALTER TABLE deliveries ALTER COLUMN body SET COMPRESSION lz4';
EXCEPTION WHEN OTHERS THEN NULL;
END $$;
";

/// Bodies that are packed one way can be read by whoever would pack them another.
const THIRD_DOWN: &str = "
DROP TRIGGER runs_made ON runs;
CREATE TRIGGER runs_made AFTER INSERT ON runs FOR EACH ROW EXECUTE FUNCTION run_changed();
DROP FUNCTION run_made();
";
