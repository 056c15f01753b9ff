//! The registry of long jobs: observable from the first event, cancellable, ended exactly once.
//!
//! [`Operations::begin`] runs a job in a task of its own and hands out an [`Attachment`], the stream of its
//! events. The job never depends on who watches, with one exception: when the last attachment of an
//! operation begun with [`WhenUnattended::Cancel`] is dropped before the end, the operation is cancelled.
//! Nothing here knows what a job does. The event log of one operation is in [`log`].

mod attachment;
mod log;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use banger_proto::failure::{Classified, Failure, Kind};
use banger_proto::v1::operation_event::Event;
use banger_proto::v1::{OperationFinished, OperationStarted};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use attachment::Attachment;
use log::Log;

use crate::reporter::Reporter;

/// Finished operations are forgotten after this long, or sooner when there are too many.
const REMEMBER_FOR: Duration = Duration::from_secs(600);
const REMEMBER_AT_MOST: usize = 200;

/// What becomes of an operation nobody watches any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenUnattended {
    /// The user went away: stop and undo.
    Cancel,
    /// Run to the end: half of it would be worse than all of it.
    Continue,
}

/// What an operation is, for people.
#[derive(Debug, Clone)]
pub struct Description {
    /// "vm.create", "image.pull" …
    pub kind: &'static str,
    /// Name or id of what it works on.
    pub subject: String,
    /// See [`WhenUnattended`].
    pub when_unattended: WhenUnattended,
}

/// One operation as listed.
#[derive(Debug, Clone)]
pub struct Overview {
    /// `op-` and eight hexadecimal digits.
    pub id: String,
    /// See [`Description::kind`].
    pub kind: &'static str,
    /// See [`Description::subject`].
    pub subject: String,
    /// When it began.
    pub started_unix_ms: i64,
    /// Its latest stage.
    pub stage: String,
    /// `None` while it runs; afterwards what it ended with.
    pub outcome: Option<Result<(), banger_proto::v1::Failure>>,
}

/// There is no such operation (any more).
#[derive(Debug, thiserror::Error)]
#[error("there is no operation {id:?}")]
pub struct UnknownOperation {
    /// What was asked for.
    pub id: String,
}

impl Classified for UnknownOperation {
    fn kind(&self) -> Kind {
        Kind::NotFound
    }

    fn hints(&self) -> Vec<String> {
        vec!["Run `banger operation list` to see what is under way.".into()]
    }
}

/// The registry. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Operations {
    all: Arc<Mutex<Vec<Arc<Operation>>>>,
}

/// One operation, shared by its job, its watchers and the registry.
#[derive(Debug)]
struct Operation {
    id: String,
    description: Description,
    started_unix_ms: i64,
    log: Log,
    attached: attachment::Attached,
    cancel: CancellationToken,
}

impl Operations {
    /// Starts `job` and attaches to it. `job` returns the id of what it produced or changed.
    pub fn begin<F, Job>(&self, description: Description, job: F) -> Attachment
    where
        F: FnOnce(Reporter) -> Job,
        Job: Future<Output = Result<String, Failure>> + Send + 'static,
    {
        let (events, received) = mpsc::unbounded_channel();
        let operation = Arc::new(Operation {
            id: self.fresh_id(),
            started_unix_ms: crate::clock::unix_ms(),
            log: Log::default(),
            attached: attachment::Attached::default(),
            cancel: CancellationToken::new(),
            description,
        });
        let reporter = Reporter::new(operation.id.clone(), events, operation.cancel.clone());
        let attachment = Attachment::new(Arc::clone(&operation));
        {
            let mut all = self.lock();
            prune(&mut all);
            all.push(Arc::clone(&operation));
        }
        reporter.send(Event::Started(OperationStarted {
            kind: operation.description.kind.to_owned(),
            subject: operation.description.subject.clone(),
        }));
        tracing::info!(
            operation_id = %operation.id, kind = operation.description.kind,
            subject = %operation.description.subject, "operation begins"
        );
        tokio::spawn(collect(Arc::clone(&operation), received));
        let running = tokio::spawn(job(reporter.clone()));
        tokio::spawn(async move {
            let outcome = match running.await {
                Ok(outcome) => outcome,
                Err(crash) => Err(Failure::new(Kind::Internal, "the operation crashed").caused_by(crash.to_string())),
            };
            reporter.send(Event::Finished(finished(&operation, outcome)));
        });
        attachment
    }

    /// Replays what has happened and follows.
    ///
    /// # Errors
    /// [`UnknownOperation`].
    pub fn attach(&self, id: &str) -> Result<Attachment, UnknownOperation> {
        self.find(id).map(Attachment::new)
    }

    /// Asks an operation to stop. One that ended already stays as it is.
    ///
    /// # Errors
    /// [`UnknownOperation`].
    pub fn cancel(&self, id: &str) -> Result<(), UnknownOperation> {
        let operation = self.find(id)?;
        tracing::info!(operation_id = %operation.id, "operation is cancelled on request");
        operation.cancel.cancel();
        Ok(())
    }

    /// Asks every operation to stop, because the daemon ends.
    pub fn cancel_all(&self) {
        for operation in self.lock().iter() {
            operation.cancel.cancel();
        }
    }

    /// Everything known, oldest first.
    pub fn list(&self) -> Vec<Overview> {
        let mut all = self.lock();
        prune(&mut all);
        all.iter().map(|operation| operation.overview()).collect()
    }

    /// What has not ended.
    pub fn running(&self) -> Vec<Overview> {
        self.list().into_iter().filter(|overview| overview.outcome.is_none()).collect()
    }

    /// Resolves when everything that runs now has ended.
    pub async fn settled(&self) {
        let all = self.lock().clone();
        for operation in all {
            operation.log.ended().await;
        }
    }

    fn find(&self, id: &str) -> Result<Arc<Operation>, UnknownOperation> {
        let found = self.lock().iter().find(|operation| operation.id == id).cloned();
        found.ok_or_else(|| UnknownOperation { id: id.to_owned() })
    }

    fn fresh_id(&self) -> String {
        let all = self.lock();
        loop {
            let id = format!("op-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
            if all.iter().all(|operation| operation.id != id) {
                return id;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Operation>>> {
        // Nothing that holds the lock can leave the list half changed.
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Operation {
    fn overview(&self) -> Overview {
        Overview {
            id: self.id.clone(),
            kind: self.description.kind,
            subject: self.description.subject.clone(),
            started_unix_ms: self.started_unix_ms,
            stage: self.log.stage(),
            outcome: self.log.outcome(),
        }
    }
}

/// Moves events from the job's channel into the log until the last one.
async fn collect(operation: Arc<Operation>, mut received: mpsc::UnboundedReceiver<banger_proto::v1::OperationEvent>) {
    while let Some(event) = received.recv().await {
        if operation.log.append(event) {
            return;
        }
    }
}

fn finished(operation: &Operation, outcome: Result<String, Failure>) -> OperationFinished {
    let id = &operation.id;
    match outcome {
        Ok(subject_id) => {
            tracing::info!(operation_id = %id, "operation succeeded");
            OperationFinished { failure: None, subject_id }
        }
        Err(failure) => {
            tracing::warn!(operation_id = %id, kind = failure.kind.name(), left_behind = ?failure.left_behind, "operation failed: {failure}");
            OperationFinished { failure: Some((&failure.in_operation(id)).into()), subject_id: String::new() }
        }
    }
}

fn prune(all: &mut Vec<Arc<Operation>>) {
    let now = Instant::now();
    all.retain(|operation| operation.log.ended_at().is_none_or(|ended| now.duration_since(ended) < REMEMBER_FOR));
    let mut surplus = all.len().saturating_sub(REMEMBER_AT_MOST);
    all.retain(|operation| {
        let drop_it = surplus > 0 && operation.log.ended_at().is_some();
        surplus -= usize::from(drop_it);
        !drop_it
    });
}
