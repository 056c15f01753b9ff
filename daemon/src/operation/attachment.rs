//! One watcher of an operation: replays the log, follows it, and counts as present until dropped.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use banger_proto::v1::OperationEvent;
use futures::Stream;
use futures::stream::BoxStream;

use super::{Operation, WhenUnattended};

/// The stream of an operation's events; ends after `finished`.
pub struct Attachment {
    events: BoxStream<'static, OperationEvent>,
    presence: Presence,
}

struct Presence(Arc<Operation>);

impl Attachment {
    pub(super) fn new(operation: Arc<Operation>) -> Self {
        operation.attached.fetch_add(1, Ordering::SeqCst);
        Self { events: Box::pin(follow(Arc::clone(&operation))), presence: Presence(operation) }
    }

    /// The operation's id.
    pub fn operation_id(&self) -> &str {
        &self.presence.0.id
    }
}

impl Stream for Attachment {
    type Item = OperationEvent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<OperationEvent>> {
        self.events.as_mut().poll_next(context)
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let operation = &self.0;
        let was_last = operation.attached.fetch_sub(1, Ordering::SeqCst) == 1;
        let cancel = operation.description.when_unattended == WhenUnattended::Cancel;
        if was_last && cancel && operation.log.ended_at().is_none() {
            tracing::info!(operation_id = %operation.id, "operation is cancelled: nobody watches it any more");
            operation.cancel.cancel();
        }
    }
}

/// Present watchers.
pub(super) type Attached = AtomicUsize;

fn follow(operation: Arc<Operation>) -> impl Stream<Item = OperationEvent> {
    struct Position {
        operation: Arc<Operation>,
        changes: super::log::Changes,
        after: u64,
        ended: bool,
    }
    let changes = operation.log.changes();
    let start = Position { operation, changes, after: 0, ended: false };
    let batches = futures::stream::unfold(start, |mut position| async move {
        loop {
            if position.ended {
                return None;
            }
            let (news, after, ended) = position.operation.log.after(position.after);
            (position.after, position.ended) = (after, ended);
            if !news.is_empty() {
                return Some((futures::stream::iter(news), position));
            }
            if !ended {
                position.changes.next().await;
            }
        }
    });
    futures::StreamExt::flatten(batches)
}
