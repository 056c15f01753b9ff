#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Mutex;

use banger_proto::guest::v1::host_frame::Request;
use banger_proto::guest::v1::{MilestoneKind, Ping};

use super::*;
use crate::init::handover::Outcome;

/// A host played by the test: events come from a script, what is sent is kept.
struct Script {
    events: VecDeque<Event>,
    sent: Arc<Mutex<Vec<u8>>>,
}

impl Link for Script {
    fn wait(&mut self, _: Option<&OwnedFd>, limit: Option<Duration>) -> Event {
        match self.events.pop_front() {
            Some(event) => event,
            None => {
                std::thread::sleep(limit.unwrap_or_default());
                Event::Quiet
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.sent.lock().unwrap().extend_from_slice(bytes);
    }

    fn is_connected(&self) -> bool {
        true
    }
}

fn ping(request_id: u64) -> Vec<u8> {
    frame(&HostFrame { request_id, request: Some(Request::Ping(Ping {})) })
}

/// Everything the guest says to the script, one more turn than there are events.
fn play(milestones: &Arc<Milestones>, events: Vec<Event>) -> Vec<GuestFrame> {
    let sent = Arc::new(Mutex::new(Vec::new()));
    let turns = events.len() + 1;
    let link = Script { events: events.into(), sent: sent.clone() };
    let mut control = Control::new(Box::new(link), milestones.clone(), PowerOff::instead(|_| {}));
    for _ in 0..turns {
        control.turn();
    }
    let mut buffer = FrameBuffer::default();
    buffer.extend(&sent.lock().unwrap());
    std::iter::from_fn(|| buffer.next(CONTROL_FRAME_LIMIT).unwrap()).collect()
}

fn pongs(frames: &[GuestFrame]) -> Vec<u64> {
    let is_pong = |frame: &&GuestFrame| matches!(frame.body, Some(Body::Pong(_)));
    frames.iter().filter(is_pong).map(|frame| frame.request_id).collect()
}

fn milestones() -> Arc<Milestones> {
    Arc::new(Milestones::new(&Outcome::default()))
}

#[test]
fn a_request_is_answered_however_its_bytes_are_cut() {
    let bytes = [ping(7), ping(8)].concat();
    let events = bytes.iter().map(|byte| Event::Bytes(vec![*byte])).collect();
    assert_eq!(pongs(&play(&milestones(), events)), [7, 8]);
}

#[test]
fn a_half_frame_of_a_dead_host_does_not_swallow_the_next_hosts_request() {
    for half in [vec![0x40, 0x08], vec![0xff; 20], ping(300)[..3].to_vec(), vec![0x03, 0xff, 0xff]] {
        let events = vec![Event::Bytes(half.clone()), Event::Bytes(ping(9))];
        assert_eq!(pongs(&play(&milestones(), events)), [9], "after {half:?}");
    }
}

#[test]
fn a_host_that_comes_late_hears_every_milestone_and_the_next_one_the_latest() {
    let milestones = milestones();
    milestones.reachable();
    milestones.booted();
    let kinds = |frames: Vec<GuestFrame>| {
        let kind = |frame: GuestFrame| match frame.body {
            Some(Body::Milestone(milestone)) => milestone.kind(),
            _ => MilestoneKind::Unspecified,
        };
        frames.into_iter().map(kind).collect::<Vec<_>>()
    };
    let told = kinds(play(&milestones, vec![Event::Connected]));
    assert_eq!(told, [MilestoneKind::Reachable, MilestoneKind::Booted]);
    assert_eq!(kinds(play(&milestones, vec![Event::Connected])), [MilestoneKind::Booted]);
}
