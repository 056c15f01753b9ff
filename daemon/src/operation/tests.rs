//! What watchers of operations can rely on.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use banger_proto::v1::{OperationEvent, ProgressUnit};
use futures::StreamExt as _;
use tokio::sync::oneshot;

use super::*;

const LONG: Duration = Duration::from_secs(20);

fn description(when_unattended: WhenUnattended) -> Description {
    Description { kind: "test", subject: "it".into(), when_unattended }
}

async fn all(attachment: Attachment) -> Vec<Event> {
    let events = tokio::time::timeout(LONG, attachment.collect::<Vec<OperationEvent>>()).await.unwrap();
    events.into_iter().map(|event| event.event.unwrap()).collect()
}

fn failure(events: &[Event]) -> Option<banger_proto::v1::Failure> {
    match events.last() {
        Some(Event::Finished(finished)) => finished.failure.clone(),
        other => panic!("the last event is {other:?}"),
    }
}

#[tokio::test]
async fn every_watcher_sees_everything_from_the_first_event_to_the_last() {
    let operations = Operations::default();
    let (go, wait) = oneshot::channel::<()>();
    let first = operations.begin(description(WhenUnattended::Continue), |reporter| async move {
        reporter.stage("one", "one");
        let _ = wait.await;
        reporter.stage("two", "two");
        Ok("subject".to_owned())
    });
    let id = first.operation_id().to_owned();
    assert!(id.len() == 11 && id.starts_with("op-"), "{id}");
    let early = operations.attach(&id).unwrap();
    go.send(()).unwrap();
    let seen = all(first).await;
    let late = operations.attach(&id).unwrap();
    assert_eq!(all(early).await, seen);
    assert_eq!(all(late).await, seen);
    assert!(matches!(&seen[0], Event::Started(started) if started.kind == "test"));
    assert!(matches!(&seen[3], Event::Finished(finished) if finished.subject_id == "subject"));
    assert_eq!(seen.len(), 4);
}

#[tokio::test]
async fn a_failure_carries_the_operation_it_belongs_to() {
    let operations = Operations::default();
    let attachment =
        operations.begin(description(WhenUnattended::Continue), |_| async { Err(Failure::new(Kind::Conflict, "no")) });
    let id = attachment.operation_id().to_owned();
    let failure = failure(&all(attachment).await).unwrap();
    assert_eq!((failure.operation_id, failure.chain), (id, vec!["no".to_owned()]));
}

#[tokio::test]
async fn a_job_that_panics_is_still_ended() {
    let operations = Operations::default();
    let attachment =
        operations.begin(description(WhenUnattended::Continue), |_| async { panic!("a bug in the test's job") });
    let failure = failure(&all(attachment).await).unwrap();
    assert_eq!(failure.kind(), banger_proto::v1::FailureKind::Internal);
}

#[tokio::test]
async fn the_last_watcher_to_leave_cancels_what_is_meant_for_watchers() {
    let operations = Operations::default();
    let (told, cancelled) = oneshot::channel();
    let first = operations.begin(description(WhenUnattended::Cancel), |reporter| async move {
        reporter.cancellation().cancelled().await;
        told.send(()).unwrap();
        Err(Failure::new(Kind::Cancelled, "cancelled"))
    });
    let id = first.operation_id().to_owned();
    let second = operations.attach(&id).unwrap();
    drop(first);
    assert!(!operations.all.lock().unwrap()[0].cancel.is_cancelled(), "one is still watching");
    drop(second);
    tokio::time::timeout(LONG, cancelled).await.unwrap().unwrap();
    tokio::time::timeout(LONG, operations.settled()).await.unwrap();
}

#[tokio::test]
async fn what_must_be_finished_goes_on_without_watchers() {
    let operations = Operations::default();
    let (go, wait) = oneshot::channel::<()>();
    let attachment = operations.begin(description(WhenUnattended::Continue), |reporter| async move {
        let _ = wait.await;
        if reporter.cancellation().is_cancelled() {
            Err(Failure::new(Kind::Cancelled, "no"))
        } else {
            Ok(String::new())
        }
    });
    let id = attachment.operation_id().to_owned();
    drop(attachment);
    go.send(()).unwrap();
    assert_eq!(failure(&all(operations.attach(&id).unwrap()).await), None);
}

#[tokio::test]
async fn an_operation_can_be_cancelled_by_its_id() {
    let operations = Operations::default();
    let attachment = operations.begin(description(WhenUnattended::Continue), |reporter| async move {
        reporter.cancellation().cancelled().await;
        Err(Failure::new(Kind::Cancelled, "cancelled"))
    });
    let id = attachment.operation_id().to_owned();
    assert_eq!(operations.running().len(), 1);
    operations.cancel(&id).unwrap();
    assert!(failure(&all(attachment).await).is_some());
    assert!(operations.running().is_empty());
    assert!(operations.cancel("op-00000000").is_err());
}

#[tokio::test]
async fn a_run_of_progress_is_replayed_as_its_last() {
    let operations = Operations::default();
    let attachment = operations.begin(description(WhenUnattended::Continue), |reporter| async move {
        for done in 0..1000 {
            reporter.progress(done, 1000, ProgressUnit::Bytes, "");
        }
        reporter.stage("next", "next");
        Ok(String::new())
    });
    let id = attachment.operation_id().to_owned();
    all(attachment).await;
    let replayed = all(operations.attach(&id).unwrap()).await;
    assert_eq!(replayed.len(), 4, "{replayed:?}");
    assert!(matches!(&replayed[1], Event::Progress(progress) if progress.done == 999));
}

#[tokio::test]
async fn finished_operations_are_forgotten_when_there_are_too_many() {
    let operations = Operations::default();
    for _ in 0..REMEMBER_AT_MOST + 20 {
        let attachment = operations.begin(description(WhenUnattended::Continue), |_| async { Ok(String::new()) });
        all(attachment).await;
    }
    assert!(operations.list().len() <= REMEMBER_AT_MOST + 1);
}
