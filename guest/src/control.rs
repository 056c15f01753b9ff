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

/// A host writes a frame at once; what is incomplete for longer begins with a dead host's half frame.
const PARTIAL_FRAME_LIMIT: Duration = Duration::from_millis(150);
/// No request is longer than this; a longer rest is not searched for one.
const RESCUE_LIMIT: usize = 4096;

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
    /// Everything since the buffer was last empty.
    undecoded: Vec<u8>,
    last_bytes: Instant,
}

impl Control {
    /// A channel over `link`.
    pub fn new(link: Box<dyn Link>, milestones: Arc<Milestones>, power_off: PowerOff) -> Self {
        Self {
            link,
            milestones,
            power_off,
            buffer: FrameBuffer::default(),
            undecoded: Vec::new(),
            last_bytes: Instant::now(),
        }
    }

    /// For ever.
    pub fn run(mut self) {
        loop {
            self.turn();
        }
    }

    /// Waits for one event and acts on it.
    pub fn turn(&mut self) {
        let limit = (!self.buffer.is_empty()).then_some(PARTIAL_FRAME_LIMIT);
        let event = self.link.wait(self.milestones.wake(), limit);
        match event {
            Event::Connected => {
                self.forget();
                let unsent = self.milestones.take_unsent();
                let told = if unsent.is_empty() { self.milestones.latest().into_iter().collect() } else { unsent };
                for milestone in told {
                    self.tell(milestone);
                }
            }
            Event::Disconnected => self.forget(),
            Event::Bytes(bytes) => self.receive(&bytes),
            Event::Woken => {
                if self.link.is_connected() {
                    for milestone in self.milestones.take_unsent() {
                        self.tell(milestone);
                    }
                }
            }
            Event::Quiet => {}
        }
        if !self.buffer.is_empty() && self.last_bytes.elapsed() >= PARTIAL_FRAME_LIMIT {
            for frame in rescue(&self.undecoded) {
                self.answer(frame);
            }
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.buffer = FrameBuffer::default();
        self.undecoded.clear();
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.last_bytes = Instant::now();
        self.buffer.extend(bytes);
        self.undecoded.extend_from_slice(bytes);
        loop {
            match self.buffer.next::<HostFrame>(CONTROL_FRAME_LIMIT) {
                Ok(Some(frame)) => self.answer(frame),
                Ok(None) => break,
                Err(error) => {
                    log::note(&format!("control: {error}; looking for a request behind it"));
                    for frame in rescue(&self.undecoded) {
                        self.answer(frame);
                    }
                    self.forget();
                    break;
                }
            }
        }
        if self.buffer.is_empty() {
            self.undecoded.clear();
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

/// The whole requests at the end of `bytes`, behind something that is not a frame.
///
/// The port is one stream for all hosts: what one left half written comes right before the next one's
/// first request, which must not be lost for it.
fn rescue(bytes: &[u8]) -> Vec<HostFrame> {
    let from = bytes.len().saturating_sub(RESCUE_LIMIT).max(1);
    (from..bytes.len()).find_map(|start| decode_all(&bytes[start..])).unwrap_or_default()
}

/// The frames in `bytes` if they are exactly whole requests this guest knows.
fn decode_all(bytes: &[u8]) -> Option<Vec<HostFrame>> {
    let mut buffer = FrameBuffer::default();
    buffer.extend(bytes);
    let mut frames = Vec::new();
    while let Some(frame) = buffer.next::<HostFrame>(CONTROL_FRAME_LIMIT).ok()? {
        if frame.request.is_none() || frame.request_id == 0 {
            return None;
        }
        frames.push(frame);
    }
    (buffer.is_empty() && !frames.is_empty()).then_some(frames)
}

#[cfg(test)]
mod tests;
