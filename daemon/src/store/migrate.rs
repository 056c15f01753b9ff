//! The schema, as an ordered list of steps. `PRAGMA user_version` counts the steps a file has had.
//!
//! A step is never edited after a release; a change is a new step at the end. Each runs in a transaction of
//! its own together with the new version number, so a crash leaves the file at one version or the next.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::{StoreError, open::classify};

const STEPS: &[&str] = &[include_str!("migrate/0001_vms.sql"), include_str!("migrate/0002_addresses.sql")];

/// Brings the file up to date.
pub(super) fn run(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    run_steps(connection, path, STEPS)
}

pub(super) fn run_steps(connection: &mut Connection, path: &Path, steps: &[&str]) -> Result<(), StoreError> {
    let found: u32 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(|source| classify(source, "read the schema version", path))?;
    let known = u32::try_from(steps.len()).expect("steps are counted by hand");
    if found > known {
        return Err(StoreError::Newer { path: path.to_owned(), found, known });
    }
    for (version, step) in (1..=known).zip(steps).skip(found as usize) {
        apply(connection, version, step)
            .map_err(|source| classify(source, &format!("migrate to schema version {version}"), path))?;
    }
    Ok(())
}

fn apply(connection: &mut Connection, version: u32, step: &str) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(step)?;
    transaction.pragma_update(None, "user_version", version)?;
    transaction.commit()
}
