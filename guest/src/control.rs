//! The control channel: frames to and from the host's daemon, on a thread of its own.
//!
//! A thread and poll(2), not tokio: a virtio port without a host is permanently "hung up", which an
//! edge-triggered reactor cannot express. The loop survives hosts that come and go: with each
//! host everything half-done is dropped and the latest milestone is told again.

pub mod link;
pub mod power_off;
pub mod requests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use banger_proto::frame::{FrameBuffer, frame};
use banger_proto::guest::v1::{GuestFrame, HostFrame, Milestone, guest_frame::Body};
use banger_proto::guest_contract::CONTROL_FRAME_LIMIT;

use self::link::{Event, Link};
use self::power_off::PowerOff;
use crate::agent::milestones::Milestones;
use crate::log;

/// A host writes a frame at once; what is incomplete for longer is the end of a dead host's frame.
const PARTIAL_FRAME_LIMIT: Duration = Duration::from_secs(2);

/// Serves the control channel for the life of this process.
pub fn spawn(milestones: Arc<Milestones>) {
    let serve = move || match link::open() {
        Some(link) => Control::new(link, milestones, PowerOff::of_this_machine()).run(),
        None => log::failure("there is no control port: the host cannot be told anything"),
    };
    if let Err(error) = std::thread::Builder::new().name("control".into()).spawn(serve) {
        log::failure(&format!("cannot start the control thread: {error}"));
    }
}

/// One control channel.
pub struct Control {
    link: Box<dyn Link>,
    milestones: Arc<Milestones>,
    power_off: PowerOff,
    buffer: FrameBuffer,
    last_bytes: Instant,
}

impl Control {
    /// A channel over `link`.
    pub fn new(link: Box<dyn Link>, milestones: Arc<Milestones>, power_off: PowerOff) -> Self {
        Self { link, milestones, power_off, buffer: FrameBuffer::default(), last_bytes: Instant::now() }
    }

    /// For ever.
    pub fn run(mut self) {
        loop {
            self.turn();
        }
    }

    /// Waits for one event and acts on it.
    pub fn turn(&mut self) {
        let event = self.link.wait(self.milestones.wake());
        match event {
            Event::Connected => {
                self.buffer = FrameBuffer::default();
                let unsent = self.milestones.take_unsent();
                let told = if unsent.is_empty() { self.milestones.latest().into_iter().collect() } else { unsent };
                for milestone in told {
                    self.tell(milestone);
                }
            }
            Event::Disconnected => self.buffer = FrameBuffer::default(),
            Event::Bytes(bytes) => self.receive(&bytes),
            Event::Woken => {
                if self.link.is_connected() {
                    for milestone in self.milestones.take_unsent() {
                        self.tell(milestone);
                    }
                }
            }
        }
    }

    fn receive(&mut self, bytes: &[u8]) {
        if !self.buffer.is_empty() && self.last_bytes.elapsed() > PARTIAL_FRAME_LIMIT {
            self.buffer = FrameBuffer::default();
        }
        self.last_bytes = Instant::now();
        self.buffer.extend(bytes);
        loop {
            match self.buffer.next::<HostFrame>(CONTROL_FRAME_LIMIT) {
                Ok(Some(frame)) => self.answer(frame),
                Ok(None) => return,
                Err(error) => {
                    log::note(&format!("control: {error}; what was received so far is dropped"));
                    self.buffer = FrameBuffer::default();
                    return;
                }
            }
        }
    }

    fn answer(&mut self, request: HostFrame) {
        let answered = requests::answer(request.request, &self.milestones, &self.power_off);
        self.link.send(&frame(&GuestFrame { request_id: request.request_id, body: Some(answered.body) }));
        if let Some(afterwards) = answered.afterwards {
            afterwards();
        }
    }

    fn tell(&mut self, milestone: Milestone) {
        self.link.send(&frame(&GuestFrame { request_id: 0, body: Some(Body::Milestone(milestone)) }));
    }
}
