//! What people and cars said of releases, and how each release stands in each environment.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Run, Store, StoreError, db::params, follow::changed, runs::one_run};

/// Most cars of a pipeline.
const MAX_CARS: i64 = 10_000;

/// What a car says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CarStatus {
    /// How the release stands on it.
    pub state: CarState,
    /// `REPOSITORY@sha256:…`: the image it is about.
    pub image: String,
    /// The release's counter, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counter: Option<u64>,
    /// Why, where it is a no: a stable code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The same for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How a release stands on a car.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CarState {
    /// It drives, and is not confirmed yet.
    Driving,
    /// It drove for long enough; the floor was raised.
    Confirmed,
    /// The car will not drive it.
    Refused,
    /// The car could not decide, or went back.
    Blocked,
}

/// A car as it is known. Times are milliseconds since 1970 UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Car {
    /// The pipeline whose releases it drives.
    pub pipeline: String,
    /// Its name.
    pub car: String,
    /// Its environment.
    pub environment: String,
    /// What it said last.
    pub status: CarStatus,
    /// When.
    pub time: i64,
}

/// A person's word. Times are milliseconds since 1970 UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Approved {
    /// The pipeline.
    pub pipeline: String,
    /// Where it may go.
    pub environment: String,
    /// Which release.
    pub counter: u64,
    /// Its image's digest.
    pub digest: String,
    /// Who said so.
    pub by: String,
    /// When.
    pub time: i64,
}

/// How a release stands in an environment. Times are milliseconds since 1970 UTC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Placed {
    /// The pipeline.
    pub pipeline: String,
    /// Where.
    pub environment: String,
    /// Which release.
    pub counter: u64,
    /// The run that made it.
    pub run: String,
    /// What the promotion came to.
    pub progress: Value,
    /// When that changed last.
    pub time: i64,
}

fn number(value: i64) -> u64 {
    value.unsigned_abs()
}

fn stored(value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|_| StoreError::Corrupt(format!("counter {value}")))
}

impl Store {
    /// Keeps what a car said. What it confirmed stays confirmed when it drives on.
    pub async fn car_said(&self, car: Car) -> Result<(), StoreError> {
        self.write(move |db| {
            let known = "SELECT count(*) FROM cars WHERE pipeline = ?1 AND car <> ?2";
            let others: Option<i64> =
                db.first(known, params![car.pipeline, car.car], |row| row.get(0))?;
            if others.is_some_and(|others| others >= MAX_CARS) {
                let why = format!("pipeline {} has {MAX_CARS} cars already", car.pipeline);
                return Err(StoreError::Corrupt(why));
            }
            let status = super::journal::json(&car.status)?;
            db.execute(
                "INSERT INTO cars (pipeline, car, environment, status, time)
                 VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (pipeline, car) DO UPDATE SET environment = excluded.environment,
                   status = excluded.status, time = excluded.time",
                params![car.pipeline, car.car, car.environment, status, car.time],
            )?;
            let digest = car.status.image.rsplit_once('@').map(|(_, digest)| digest.to_owned());
            if let (CarState::Confirmed, Some(digest)) = (car.status.state, digest) {
                db.execute(
                    "INSERT INTO confirmed (pipeline, environment, digest, car, time)
                     VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
                    params![car.pipeline, car.environment, digest, car.car, car.time],
                )?;
            }
            changed(db, "car", &format!("{}\n{}", car.pipeline, car.car))
        })
        .await
    }

    /// All cars, or one.
    pub async fn cars(&self, only: Option<(String, String)>) -> Result<Vec<Car>, StoreError> {
        self.read(move |db| {
            let (pipeline, car) = only.unzip();
            let rows: Vec<(Car, String)> = db.all(
                "SELECT pipeline, car, environment, status, time FROM cars
                 WHERE (CAST(?1 AS TEXT) IS NULL OR pipeline = ?1)
                   AND (CAST(?2 AS TEXT) IS NULL OR car = ?2)
                 ORDER BY pipeline, environment, car",
                params![pipeline, car],
                |row| {
                    let status = CarStatus {
                        state: CarState::Driving,
                        image: String::new(),
                        counter: None,
                        code: None,
                        message: None,
                    };
                    let car = Car {
                        pipeline: row.get(0)?,
                        car: row.get(1)?,
                        environment: row.get(2)?,
                        status,
                        time: row.get(4)?,
                    };
                    Ok((car, row.get(3)?))
                },
            )?;
            let parse = |(car, status): (Car, String)| {
                let status = serde_json::from_str(&status)
                    .map_err(|e| StoreError::Corrupt(format!("car {}: {e}", car.car)))?;
                Ok(Car { status, ..car })
            };
            rows.into_iter().map(parse).collect()
        })
        .await
    }

    /// Who confirmed a digest in an environment: names of cars.
    pub async fn confirmed_by(
        &self,
        pipeline: &str,
        environment: &str,
        digest: &str,
    ) -> Result<Vec<String>, StoreError> {
        let (pipeline, environment) = (pipeline.to_owned(), environment.to_owned());
        let digest = digest.to_owned();
        self.read(move |db| {
            db.all(
                "SELECT car FROM confirmed WHERE pipeline = ?1 AND environment = ?2 AND digest = ?3
                 ORDER BY car LIMIT 1000",
                params![pipeline, environment, digest],
                |row| row.get(0),
            )
        })
        .await
    }

    /// Keeps a person's word.
    pub async fn approve(&self, approved: Approved) -> Result<(), StoreError> {
        let counter = stored(approved.counter)?;
        self.write(move |db| {
            let Approved { pipeline, environment, digest, by, time, .. } = &approved;
            db.execute(
                "INSERT INTO approvals (pipeline, environment, counter, digest, approver, time)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
                params![pipeline, environment, counter, digest, by, *time],
            )?;
            changed(db, "approval", pipeline)
        })
        .await
    }

    /// The newest approvals for an environment.
    pub async fn approvals(
        &self,
        pipeline: &str,
        environment: &str,
    ) -> Result<Vec<Approved>, StoreError> {
        let (pipeline, environment) = (pipeline.to_owned(), environment.to_owned());
        self.read(move |db| {
            db.all(
                "SELECT pipeline, environment, counter, digest, approver, time FROM approvals
                 WHERE pipeline = ?1 AND environment = ?2 ORDER BY counter DESC LIMIT 200",
                params![pipeline, environment],
                |row| {
                    Ok(Approved {
                        pipeline: row.get(0)?,
                        environment: row.get(1)?,
                        counter: number(row.get(2)?),
                        digest: row.get(3)?,
                        by: row.get(4)?,
                        time: row.get(5)?,
                    })
                },
            )
        })
        .await
    }

    /// Keeps how a release stands in an environment; whether that is news. The run counts as
    /// changed then.
    pub async fn placed(&self, placed: Placed) -> Result<bool, StoreError> {
        let counter = stored(placed.counter)?;
        self.write(move |db| {
            let progress = super::journal::json(&placed.progress)?;
            let changed_rows = db.execute(
                "INSERT INTO places (pipeline, environment, counter, run, progress, time)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (pipeline, environment, counter) DO UPDATE SET
                   run = excluded.run, progress = excluded.progress, time = excluded.time
                   WHERE places.progress <> excluded.progress",
                params![
                    placed.pipeline,
                    placed.environment,
                    counter,
                    placed.run,
                    progress,
                    placed.time
                ],
            )?;
            if changed_rows == 1 {
                changed(db, "run", &placed.run)?;
            }
            Ok(changed_rows == 1)
        })
        .await
    }

    /// How a run's release stands in each environment that it has come to, or waits for.
    pub async fn places(&self, run: &str) -> Result<Vec<Placed>, StoreError> {
        let run = run.to_owned();
        self.read(move |db| {
            let rows: Vec<(Placed, String)> = db.all(
                "SELECT pipeline, environment, counter, run, progress, time FROM places
                 WHERE run = ?1 ORDER BY time, environment",
                params![run],
                |row| {
                    let placed = Placed {
                        pipeline: row.get(0)?,
                        environment: row.get(1)?,
                        counter: number(row.get(2)?),
                        run: row.get(3)?,
                        progress: Value::Null,
                        time: row.get(5)?,
                    };
                    Ok((placed, row.get(4)?))
                },
            )?;
            let parse = |(placed, progress): (Placed, String)| {
                let progress = serde_json::from_str(&progress)
                    .map_err(|e| StoreError::Corrupt(format!("place of {}: {e}", placed.run)))?;
                Ok(Placed { progress, ..placed })
            };
            rows.into_iter().map(parse).collect()
        })
        .await
    }

    /// The newest finished runs of a pipeline, newest counter first: candidates for environments.
    pub async fn newest_done(&self, pipeline: &str, most: u32) -> Result<Vec<Run>, StoreError> {
        let pipeline = pipeline.to_owned();
        self.read(move |db| {
            let ids: Vec<String> = db.all(
                "SELECT id FROM runs WHERE pipeline = ?1 AND state = 'done'
                 ORDER BY counter DESC LIMIT ?2",
                params![pipeline, most],
                |row| row.get(0),
            )?;
            ids.iter().map(|id| one_run(db, id)).collect()
        })
        .await
    }
}
