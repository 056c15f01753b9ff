//! The conversation with one running guest: milestones it reports, requests it answers, and its end.
//!
//! A task lives as long as the VMM does: it connects, says hello, reconnects when the line drops, and tells
//! the driver in [`GuestEvent`]s. Requests go through a [`ControlHandle`] from anywhere. It never changes a
//! VM's state. Text from the guest is untrusted: bounded and stripped of control characters here.

mod session;

use std::sync::Arc;
use std::time::Duration;

use banger_proto::failure::{Classified, Kind};
use banger_proto::guest::v1::{guest_frame, host_frame};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use crate::platform::{Platform, ProcessIdentity, VmPlan};

/// Between attempts to connect: the VMM makes its socket a little after it starts.
const RECONNECT_FIRST: Duration = Duration::from_millis(50);
const RECONNECT_MOST: Duration = Duration::from_secs(2);

/// What the guest, or its end, tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestEvent {
    /// The first frame of any kind on this VMM: something of ours runs in there.
    Heard,
    /// Commands can run.
    Reachable(Report),
    /// Its init has finished starting.
    Booted(Report),
    /// Its init ends the machine, as somebody in there asked.
    Ending,
    /// Its init gave up.
    Failed {
        /// Where.
        stage: String,
        /// Why.
        reason: String,
    },
    /// The VMM process has ended. Always the last.
    Exited,
}

/// Facts that come with a milestone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// The guest's boot id.
    pub boot_id: String,
    /// The guest's uptime when it got there.
    pub uptime_ms: u64,
    /// What went wrong on the way without stopping it.
    pub warnings: Vec<String>,
}

/// Why a request to the guest has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// No VMM, no guest.
    #[error("the VM ended before its guest answered")]
    Ended,
    /// The line dropped while waiting.
    #[error("the control channel to the guest broke before it answered")]
    Broken,
    /// It is silent.
    #[error("the guest did not answer within {} s", after.as_secs())]
    Silent {
        /// How long it was waited for.
        after: Duration,
    },
    /// It said no.
    #[error("the guest refused: {reason}")]
    Refused {
        /// Its words.
        reason: String,
    },
    /// It answered something else.
    #[error("the guest gave an answer that does not fit the question")]
    Mismatch,
}

impl Classified for ControlError {
    fn kind(&self) -> Kind {
        match self {
            Self::Ended => Kind::Conflict,
            Self::Broken | Self::Silent { .. } | Self::Refused { .. } => Kind::Failed,
            Self::Mismatch => Kind::Internal,
        }
    }
}

/// A question and where its answer goes.
#[derive(Debug)]
struct Ask {
    request: host_frame::Request,
    reply: oneshot::Sender<Result<guest_frame::Body, ControlError>>,
}

/// Asks the guest. Clones go to whoever needs one.
#[derive(Debug, Clone)]
pub struct ControlHandle {
    asks: mpsc::Sender<Ask>,
}

impl ControlHandle {
    /// Sends `request` as soon as there is a line and waits for its answer.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn request(
        &self,
        request: host_frame::Request,
        patience: Duration,
    ) -> Result<guest_frame::Body, ControlError> {
        let exchange = async {
            let (reply, answer) = oneshot::channel();
            self.asks.send(Ask { request, reply }).await.map_err(|_| ControlError::Ended)?;
            answer.await.map_err(|_| ControlError::Broken)?
        };
        let answered = tokio::time::timeout(patience, exchange).await;
        match answered.unwrap_or(Err(ControlError::Silent { after: patience }))? {
            guest_frame::Body::Refusal(refusal) => {
                Err(ControlError::Refused { reason: session::printable(&refusal.reason) })
            }
            body => Ok(body),
        }
    }
}

/// The task and its two ends. Dropping it ends the conversation, not the VM.
#[derive(Debug)]
pub struct Control {
    handle: ControlHandle,
    events: mpsc::Receiver<GuestEvent>,
    _task: AbortOnDropHandle<()>,
}

impl Control {
    /// Starts talking to the guest of `plan`, run by `process`.
    pub fn attach(platform: Arc<dyn Platform>, plan: VmPlan, process: ProcessIdentity) -> Self {
        let (asks, asked) = mpsc::channel(16);
        let (tell, events) = mpsc::channel(16);
        let task = tokio::spawn(converse(platform, plan, process, asked, tell));
        Self { handle: ControlHandle { asks }, events, _task: AbortOnDropHandle::new(task) }
    }

    /// For asking.
    pub fn handle(&self) -> ControlHandle {
        self.handle.clone()
    }

    /// The next thing the guest tells; `None` after [`GuestEvent::Exited`].
    pub async fn next(&mut self) -> Option<GuestEvent> {
        self.events.recv().await
    }
}

async fn converse(
    platform: Arc<dyn Platform>,
    plan: VmPlan,
    process: ProcessIdentity,
    mut asked: mpsc::Receiver<Ask>,
    tell: mpsc::Sender<GuestEvent>,
) {
    let mut gone = platform.wait_gone(&process);
    let mut heard = false;
    let mut pause = RECONNECT_FIRST;
    loop {
        let attempt = async {
            let stream = platform.connect_control(&plan).await?;
            Ok::<_, crate::platform::PlatformError>(session::run(stream, &mut asked, &tell, &mut heard).await)
        };
        let ended = tokio::select! {
            () = &mut gone => break,
            ended = attempt => ended,
        };
        match ended {
            Ok(session::End::Useful) => pause = RECONNECT_FIRST,
            Ok(session::End::Barren) => {}
            Err(error) => tracing::debug!(vm = %plan.name, "no control channel yet: {error}"),
        }
        tokio::select! {
            () = &mut gone => break,
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(RECONNECT_MOST),
        }
    }
    tracing::info!(vm = %plan.name, pid = process.pid, "the VMM has ended");
    // The driver is gone when the VM was removed or the daemon ends.
    let _ = tell.send(GuestEvent::Exited).await;
}
