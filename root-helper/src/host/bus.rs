//! One conversation with the system bus, bounded. The connection is made for it and closed with it.

use std::time::Duration;

use zbus::{Connection, OwnedObjectPath, OwnedVariant};

use crate::error::{Step, StepError, step};

const LIMIT: Duration = Duration::from_secs(20);

/// Runs it.
pub fn talk<T>(attempt: &str, dialogue: impl AsyncFnOnce(&Connection) -> zbus::Result<T>) -> Step<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(step(attempt))?;
    runtime.block_on(async {
        let bounded = tokio::time::timeout(LIMIT, async {
            let connection = Connection::system().await?;
            dialogue(&connection).await
        });
        match bounded.await {
            Ok(outcome) => outcome.map_err(step(attempt)),
            Err(_) => Err(StepError::new(attempt, format!("no answer on the system bus within {} s", LIMIT.as_secs()))),
        }
    })
}

/// One property, by its interface and name. A proxy would have all of them sent and follow them from then on.
pub async fn property(
    connection: &Connection,
    service: &str,
    path: &OwnedObjectPath,
    wanted: (&str, &str),
) -> zbus::Result<OwnedVariant> {
    let answer =
        connection.call_method(Some(service), path, Some("org.freedesktop.DBus.Properties"), "Get", &wanted).await?;
    answer.body().deserialize()
}

/// True if the bus answered with this error.
pub fn is_error(error: &zbus::Error, name: &str) -> bool {
    matches!(error, zbus::Error::MethodError(found, _, _) if found.as_str() == name)
}
