//! Opening the file: settings, health check, migrations, and the thread that owns the connection.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use super::{Job, Saying, Store, StoreError, migrate};

/// How long a statement waits for another process that looks into the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether the file was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It was.
    Existing,
    /// It was made just now: VMs found on the host belong to a store that was moved aside.
    Fresh,
}

impl Store {
    /// Opens or makes the store and starts its thread.
    ///
    /// # Errors
    /// [`StoreError`]; the file is left as it was found.
    pub fn open(path: PathBuf) -> Result<(Self, Origin), StoreError> {
        // An empty file is what a crash before the first commit leaves.
        let origin = match std::fs::metadata(&path) {
            Ok(found) if found.len() > 0 => Origin::Existing,
            _ => Origin::Fresh,
        };
        let mut connection = connect(&path)?;
        quick_check(&connection, &path)?;
        migrate::run(&mut connection, &path)?;

        let (jobs, queue) = std::sync::mpsc::channel::<Job>();
        std::thread::Builder::new()
            .name("store".into())
            .spawn(move || {
                while let Ok(job) = queue.recv() {
                    job(&mut connection);
                }
            })
            .expect("a process that just started can start a thread");
        Ok((Self { jobs, path }, origin))
    }
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let set_up = || -> rusqlite::Result<Connection> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        // FULL: an intent must be on disk before the host is changed, also when the power fails.
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", "ON")?;
        Ok(connection)
    };
    set_up().map_err(|source| classify(source, "open the file", path))
}

/// Reads the whole file once and compares its structure.
pub(super) fn quick_check(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let verdict: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|source| classify(source, "check the file", path))?;
    if verdict == "ok" {
        return Ok(());
    }
    Err(StoreError::Corrupted { path: path.to_owned(), source: Saying(verdict) })
}

pub(super) fn classify(source: rusqlite::Error, attempt: &str, path: &Path) -> StoreError {
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            StoreError::Corrupted { path: path.to_owned(), source: Saying(source.to_string()) }
        }
        _ => StoreError::Sqlite {
            attempt: attempt.to_owned(),
            path: path.to_owned(),
            source: Saying(source.to_string()),
        },
    }
}
