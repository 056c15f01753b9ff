//! One connection to the guest, until it breaks.

use std::collections::HashMap;
use std::time::Duration;

use banger_proto::frame::{FrameBuffer, frame};
use banger_proto::guest::v1::{GuestFrame, Hello, HostFrame, Milestone, MilestoneKind, guest_frame, host_frame};
use banger_proto::guest_contract::CONTROL_FRAME_LIMIT;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use super::{Ask, ControlError, GuestEvent, Report};

/// A hello written before the guest opened its end may be lost with some VMMs.
const HELLO_AGAIN: Duration = Duration::from_secs(5);
/// Nothing a guest says needs to be longer to be understood.
const TEXT_LIMIT: usize = 2000;
const WARNINGS_LIMIT: usize = 50;

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The guest said something.
    Useful,
    /// It never did.
    Barren,
}

type Pending = HashMap<u64, oneshot::Sender<Result<guest_frame::Body, ControlError>>>;

/// Talks until the line breaks. Never returns while it holds.
pub(super) async fn run(
    mut stream: UnixStream,
    asked: &mut mpsc::Receiver<Ask>,
    tell: &mpsc::Sender<GuestEvent>,
    heard: &mut bool,
) -> End {
    let (mut incoming, mut outgoing) = stream.split();
    let mut pending = Pending::new();
    let mut last_id = 0;
    let mut buffer = FrameBuffer::default();
    let mut chunk = vec![0; 16 << 10];
    let mut hello = tokio::time::interval(HELLO_AGAIN);
    let mut end = End::Barren;
    loop {
        let to_send = tokio::select! {
            _ = hello.tick(), if end == End::Barren => Some((host_frame::Request::Hello(Hello {}), None)),
            ask = asked.recv() => match ask {
                Some(ask) => Some((ask.request, Some(ask.reply))),
                None => return end,
            },
            read = incoming.read(&mut chunk) => match read {
                Ok(0) => return end,
                Ok(length) => {
                    buffer.extend(&chunk[..length]);
                    None
                }
                Err(error) => {
                    tracing::debug!("the control channel broke: {error}");
                    return end;
                }
            },
        };
        if let Some((request, reply)) = to_send {
            last_id += 1;
            if let Some(reply) = reply {
                // Questions nobody waits for any more must not pile up behind a silent guest.
                pending.retain(|_, waiting| !waiting.is_closed());
                pending.insert(last_id, reply);
            }
            let bytes = frame(&HostFrame { request_id: last_id, request: Some(request) });
            if let Err(error) = outgoing.write_all(&bytes).await {
                tracing::debug!("the control channel broke: {error}");
                return end;
            }
        }
        loop {
            match buffer.next::<GuestFrame>(CONTROL_FRAME_LIMIT) {
                Ok(None) => break,
                Ok(Some(received)) => {
                    end = End::Useful;
                    if !std::mem::replace(heard, true) {
                        let _ = tell.send(GuestEvent::Heard).await;
                    }
                    take(received, &mut pending, tell).await;
                }
                Err(error) => {
                    // Half a frame of an earlier boot: a new connection starts clean.
                    tracing::warn!("the guest sent something that is not a frame: {error}");
                    return End::Barren;
                }
            }
        }
    }
}

async fn take(received: GuestFrame, pending: &mut Pending, tell: &mpsc::Sender<GuestEvent>) {
    match received.body {
        Some(guest_frame::Body::Milestone(milestone)) => {
            if let Some(event) = event(milestone) {
                // The driver is gone only when the conversation is about to be ended as well.
                let _ = tell.send(event).await;
            }
        }
        Some(body) => match pending.remove(&received.request_id) {
            Some(reply) => drop(reply.send(Ok(body))),
            None => tracing::debug!(request_id = received.request_id, "an answer nobody waits for"),
        },
        None => tracing::debug!("an empty frame from the guest"),
    }
}

fn event(milestone: Milestone) -> Option<GuestEvent> {
    let kind = milestone.kind();
    let report = Report {
        boot_id: printable(&milestone.boot_id),
        uptime_ms: milestone.uptime_ms,
        warnings: milestone.warnings.iter().take(WARNINGS_LIMIT).map(|text| printable(text)).collect(),
    };
    match kind {
        MilestoneKind::Reachable => Some(GuestEvent::Reachable(report)),
        MilestoneKind::Booted => Some(GuestEvent::Booted(report)),
        MilestoneKind::Failed => {
            Some(GuestEvent::Failed { stage: printable(&milestone.stage), reason: printable(&milestone.reason) })
        }
        MilestoneKind::Ending => Some(GuestEvent::Ending),
        MilestoneKind::Unspecified => None,
    }
}

/// Text from a guest, safe to print and to store.
pub(in crate::vm) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).take(TEXT_LIMIT).collect()
}
