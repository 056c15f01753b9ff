//! The events of one operation: appended by one writer, read by any number of watchers from any position.
//!
//! Only the latest of a run of progress events is kept, so a replay of a long download is short and the log
//! stays small. Positions are sequence numbers, not indexes, so that a watcher sees the replaced one too.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use banger_proto::v1::operation_event::Event;
use banger_proto::v1::{Failure, OperationEvent};
use tokio::sync::watch;

/// See the module header.
#[derive(Debug)]
pub(super) struct Log {
    entries: Mutex<Vec<(u64, OperationEvent)>>,
    head: watch::Sender<Head>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Head {
    sequence: u64,
    ended_at: Option<Instant>,
}

impl Default for Log {
    fn default() -> Self {
        Self { entries: Mutex::default(), head: watch::Sender::new(Head::default()) }
    }
}

impl Log {
    /// Adds an event; true if it was the last.
    pub fn append(&self, event: OperationEvent) -> bool {
        let last = matches!(event.event, Some(Event::Finished(_)));
        let sequence = self.head.borrow().sequence + 1;
        {
            let mut entries = self.lock();
            let both_progress =
                is_progress(&event) && entries.last().is_some_and(|(_, previous)| is_progress(previous));
            if both_progress {
                entries.pop();
            }
            entries.push((sequence, event));
        }
        self.head.send_replace(Head { sequence, ended_at: last.then(Instant::now) });
        last
    }

    /// Events after `position`, the new position, and whether the last event is among all so far.
    pub fn after(&self, position: u64) -> (Vec<OperationEvent>, u64, bool) {
        let ended = self.ended_at().is_some();
        let entries = self.lock();
        let from = entries.partition_point(|(sequence, _)| *sequence <= position);
        let news: Vec<_> = entries[from..].iter().map(|(_, event)| event.clone()).collect();
        (news, entries.last().map_or(position, |(sequence, _)| *sequence), ended)
    }

    /// Wakes at every append.
    pub fn changes(&self) -> Changes {
        Changes(self.head.subscribe())
    }

    /// Resolves when the last event is in.
    pub async fn ended(&self) {
        // The sender lives in self, so the wait cannot fail.
        let _ = self.head.subscribe().wait_for(|head| head.ended_at.is_some()).await;
    }

    /// When the last event came in.
    pub fn ended_at(&self) -> Option<Instant> {
        self.head.borrow().ended_at
    }

    /// Name of the latest stage.
    pub fn stage(&self) -> String {
        let entries = self.lock();
        let stages = entries.iter().rev().filter_map(|(_, event)| match &event.event {
            Some(Event::Stage(stage)) => Some(stage.name.clone()),
            _ => None,
        });
        stages.into_iter().next().unwrap_or_default()
    }

    /// What it ended with.
    pub fn outcome(&self) -> Option<Result<(), Failure>> {
        let entries = self.lock();
        match entries.last().and_then(|(_, event)| event.event.as_ref()) {
            Some(Event::Finished(finished)) => Some(finished.failure.clone().map_or(Ok(()), Err)),
            _ => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(u64, OperationEvent)>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Subscription to a [`Log`].
#[derive(Debug)]
pub(super) struct Changes(watch::Receiver<Head>);

impl Changes {
    /// The next append after the one last waited for.
    pub async fn next(&mut self) {
        // An error means the log is gone; the caller holds it, so it cannot be.
        let _ = self.0.changed().await;
    }
}

fn is_progress(event: &OperationEvent) -> bool {
    matches!(event.event, Some(Event::Progress(_)))
}
