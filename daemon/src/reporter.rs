//! How a long job tells what it is doing and learns that it was cancelled.
//!
//! A [`Reporter`] is handed down into image builds, kernel pulls and VM starts. It never blocks and never
//! fails: a job does not stop because nobody listens. The operation registry holds the other end.

use banger_proto::v1::{OperationEvent, Progress, ProgressUnit, Stage, Warning, operation_event::Event};
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

/// Handle of a running operation. Clone it freely.
#[derive(Debug, Clone)]
pub struct Reporter {
    operation_id: String,
    began: std::time::Instant,
    events: UnboundedSender<OperationEvent>,
    cancel: CancellationToken,
}

impl Reporter {
    /// `events` receives every event with the operation id and elapsed time filled in.
    pub fn new(operation_id: String, events: UnboundedSender<OperationEvent>, cancel: CancellationToken) -> Self {
        Self { operation_id, began: std::time::Instant::now(), events, cancel }
    }

    /// A reporter nobody listens to, for jobs the daemon starts on its own account.
    pub fn silent(operation_id: &str) -> Self {
        let (events, _) = tokio::sync::mpsc::unbounded_channel();
        Self::new(operation_id.to_owned(), events, CancellationToken::new())
    }

    /// The operation's id, for log lines and failures.
    pub fn operation_id(&self) -> &str {
        &self.operation_id
    }

    /// A new stage begins. `name` is a stable identifier, `message` is for people.
    pub fn stage(&self, name: &str, message: impl Into<String>) {
        let message = message.into();
        tracing::info!(operation_id = %self.operation_id, stage = name, "{message}");
        self.send(Event::Stage(Stage { name: name.to_owned(), message }));
    }

    /// Progress inside the current stage; `total` 0 if unknown.
    pub fn progress(&self, done: u64, total: u64, unit: ProgressUnit, message: impl Into<String>) {
        self.send(Event::Progress(Progress { done, total, unit: unit.into(), message: message.into() }));
    }

    /// Something went wrong that does not stop the job.
    pub fn warning(&self, message: impl Into<String>) {
        let message = message.into();
        tracing::warn!(operation_id = %self.operation_id, "{message}");
        self.send(Event::Warning(Warning { message }));
    }

    /// Fires when the user cancelled. Select on `cancelled()` around every wait.
    pub fn cancellation(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Sends an event as it is (the registry's own `started` and `finished`).
    pub fn send(&self, event: Event) {
        let elapsed_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        // A closed channel means nobody watches any more; the job goes on.
        let _ = self.events.send(OperationEvent {
            operation_id: self.operation_id.clone(),
            elapsed_ms,
            event: Some(event),
        });
    }
}
