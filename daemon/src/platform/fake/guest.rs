//! The guest's end of the control channel, as a task.

use banger_proto::frame::{FrameBuffer, frame};
use banger_proto::guest::v1::{
    GuestFrame, HostFrame, Milestone, MilestoneKind, Pong, Port, Ports, PoweringOff, Refusal, guest_frame, host_frame,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// How a guest behaves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum GuestScript {
    /// Reaches everything and powers off when asked.
    #[default]
    Obliging,
    /// Never says anything.
    Silent,
    /// Answers pings but reaches nothing.
    Speechless,
    /// Never finishes booting.
    OnlyReachable,
    /// Its init gives up.
    Failing,
    /// Ends as soon as it is spoken to.
    Dying,
    /// Reaches everything and does not power off.
    Stubborn,
}

/// What becomes of the VMM when the conversation is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Nothing,
    PowerOff,
}

pub(super) async fn converse(mut stream: UnixStream, script: GuestScript) -> Then {
    let mut buffer = FrameBuffer::default();
    let mut chunk = [0; 4096];
    loop {
        let Ok(length) = stream.read(&mut chunk).await else { return Then::Nothing };
        if length == 0 {
            return Then::Nothing;
        }
        buffer.extend(&chunk[..length]);
        while let Some(asked) = buffer.next::<HostFrame>(1 << 20).expect("the host sends frames") {
            let (answers, then) = answer(&script, asked);
            for answer in answers {
                // The host may hang up at any time.
                let _ = stream.write_all(&frame(&answer)).await;
            }
            if then == Then::PowerOff {
                return then;
            }
        }
    }
}

fn answer(script: &GuestScript, asked: HostFrame) -> (Vec<GuestFrame>, Then) {
    use GuestScript as S;
    use host_frame::Request as R;
    let id = asked.request_id;
    let reply = |body| (vec![GuestFrame { request_id: id, body: Some(body) }], Then::Nothing);
    match (script, asked.request) {
        (S::Silent, _) => (Vec::new(), Then::Nothing),
        (S::Dying, _) => (Vec::new(), Then::PowerOff),
        (S::Speechless, Some(R::Hello(_))) => reply(guest_frame::Body::Pong(Pong { uptime_ms: 1 })),
        (S::Failing, Some(R::Hello(_))) => (vec![milestone(MilestoneKind::Failed)], Then::Nothing),
        (S::OnlyReachable, Some(R::Hello(_))) => (vec![milestone(MilestoneKind::Reachable)], Then::Nothing),
        (_, Some(R::Hello(_))) => {
            (vec![milestone(MilestoneKind::Reachable), milestone(MilestoneKind::Booted)], Then::Nothing)
        }
        (_, Some(R::ListPorts(_))) => reply(guest_frame::Body::Ports(Ports {
            ports: [("0.0.0.0", 80), ("127.0.0.1", 5432), ("0.0.0.0", 4022)]
                .map(|(address, port)| Port {
                    protocol: "tcp".into(),
                    address: address.into(),
                    port,
                    process: "x".into(),
                })
                .to_vec(),
        })),
        (S::Stubborn, Some(R::SyncAndPowerOff(_))) => {
            reply(guest_frame::Body::PoweringOff(PoweringOff { synced: true }))
        }
        (_, Some(R::SyncAndPowerOff(_))) => {
            (reply(guest_frame::Body::PoweringOff(PoweringOff { synced: true })).0, Then::PowerOff)
        }
        (_, Some(R::Ping(_))) => reply(guest_frame::Body::Pong(Pong { uptime_ms: 1 })),
        (_, _) => reply(guest_frame::Body::Refusal(Refusal { reason: "not in this test".into() })),
    }
}

fn milestone(kind: MilestoneKind) -> GuestFrame {
    let failed = kind == MilestoneKind::Failed;
    GuestFrame {
        request_id: 0,
        body: Some(guest_frame::Body::Milestone(Milestone {
            kind: kind.into(),
            boot_id: "boot-1".into(),
            uptime_ms: 1234,
            stage: if failed { "mount".into() } else { String::new() },
            reason: if failed { "no root disk\u{1b}[2J".into() } else { String::new() },
            warnings: vec!["the clock was off".into()],
            ..Milestone::default()
        })),
    }
}
