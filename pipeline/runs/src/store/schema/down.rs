//! The ways back in `SQLite`: each takes the tables from its version to the one before it.
//!
//! What both versions know stays; what only the newer one knows is put into the older one's words, or
//! dropped. No run is open when they are executed ([`crate::store::migrate`]).

/// Version 1 knows no files that runs are made of, and finds queued runs by a walk.
pub(super) const SECOND: &str = "
DROP INDEX runs_queue;
DROP INDEX runs_busy;
ALTER TABLE runs DROP COLUMN local;
";

/// Version 2 has four states: a run that was ended or overtaken is one that failed, with the reason.
/// It keeps documents in the runs' folders, and they are sealed anew if such a run is retried.
pub(super) const THIRD: &str = "
DROP TABLE documents;
CREATE TABLE runs_old (
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
  local TEXT,
  UNIQUE (repository, kind, counter)
);
INSERT INTO runs_old (seq, id, state, repository, tag, commit_id, object, pipeline, kind, counter,
    rollback, fence, created, updated, failed_step, error, local)
  SELECT seq, id, CASE WHEN state IN ('cancelled','superseded') THEN 'failed' ELSE state END,
    repository, tag, commit_id, object, pipeline, kind, counter,
    rollback, fence, created, updated,
    CASE WHEN state IN ('cancelled','superseded') THEN coalesce(failed_step, 'checkout')
      ELSE failed_step END,
    CASE WHEN state IN ('cancelled','superseded') THEN coalesce(error,
      '{\"code\":\"' || state || '\",\"message\":\"the run was ' || state
      || '\",\"hint\":\"\",\"retryable\":false,\"refused\":false}') ELSE error END,
    local FROM runs;
DROP TABLE runs;
ALTER TABLE runs_old RENAME TO runs;
CREATE INDEX runs_by_tag ON runs (repository, tag);
CREATE INDEX runs_open ON runs (state, seq) WHERE state IN ('queued','running');
CREATE INDEX runs_queue ON runs (pipeline, seq) WHERE state = 'queued';
CREATE INDEX runs_busy ON runs (pipeline) WHERE state = 'running';
";

/// Version 3 tells nobody of what changes, knows no environments, and has no step `gates`: a run
/// that failed in it is retried at the step after.
pub(super) const FOURTH: &str = "
DROP TRIGGER runs_made;
DROP TRIGGER runs_changed;
DROP TRIGGER alerts_made;
DROP TABLE looks;
DROP TABLE changes;
DROP TABLE followers;
DROP TABLE told;
DROP TABLE outbox;
DROP TABLE duties;
DROP TABLE approvals;
DROP TABLE cars;
DROP TABLE confirmed;
DROP TABLE places;
DELETE FROM steps WHERE step = 'gates';
UPDATE runs SET failed_step = 'assemble' WHERE failed_step = 'gates';
";
