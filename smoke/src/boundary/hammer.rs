//! Everything a hostile client in the owner's account can put on the wire, fast and reproducibly.
//!
//! No frame of [`run`] may be granted: each is malformed, or asks for what nobody made, or for what another has. So the
//! scenario can demand as many refusals in the journal as frames were sent.

mod frames;

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Instant;

use banger_proto::root::v1 as wire;
use prost::Message as _;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::json;

use super::{Client, VERSION};
use frames::Frames;

/// Most descriptors the kernel lets one packet carry.
const DESCRIPTORS: usize = 253;
const DESCRIPTOR_PACKETS: usize = 50;
/// Frames that wait for their answers; a socket holds more.
const AHEAD: usize = 8;

/// Sends so many frames; `known` are VMs that exist, which are asked for second addresses, and others for theirs.
///
/// # Errors
/// If the helper cannot be reached (any more), or hangs up on a frame.
pub fn run(frames: &str, seed: &str, known: &[&str]) -> io::Result<String> {
    let (count, seed) = (parse(frames)?, parse(seed)?);
    let mut frames = Frames::new(seed, known);
    let client = Client::connect()?;
    let began = Instant::now();
    let (mut refused, mut granted) = (0_u64, Vec::new());
    // A few are always on their way: waiting for each answer alone would measure the scheduler.
    let mut asked = VecDeque::with_capacity(AHEAD);
    for sent in 0..count + AHEAD as u64 {
        if sent < count {
            let frame = frames.next();
            client.send(&frame)?;
            asked.push_back(frame);
        }
        if sent < AHEAD as u64 {
            continue;
        }
        let Some(frame) = asked.pop_front() else { break };
        let answer = client.answer()?.ok_or(io::ErrorKind::ConnectionAborted)?;
        match answer.response.outcome {
            Some(wire::response::Outcome::Refusal(_)) => refused += 1,
            _ => granted.push(format!("{:?}", wire::Request::decode(&*frame))),
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    Ok(json!({"frames": count, "refused": refused, "granted": granted, "seconds": seconds}).to_string())
}

/// Opens so many connections at once and keeps them, then sends packets full of descriptors over one.
///
/// # Errors
/// If not one connection can be opened.
pub fn flood(connections: &str) -> io::Result<String> {
    let wanted = parse(connections)?;
    let open: Vec<Client> = (0..wanted).filter_map(|_| Client::connect().ok()).collect();
    let first = open.first().ok_or(io::ErrorKind::ConnectionRefused)?;
    let file = File::open("/dev/null")?;
    let descriptors: Vec<BorrowedFd<'_>> = vec![file.as_fd(); DESCRIPTORS];
    let request = wire::Request { version: VERSION, operation_id: "UPPER".to_owned(), operation: None };
    let bytes = request.encode_to_vec();
    let mut answered = 0;
    for _ in 0..DESCRIPTOR_PACKETS {
        let mut space = vec![MaybeUninit::uninit(); SendAncillaryMessage::ScmRights(&descriptors).size()];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        sendmsg(first.socket(), &[io::IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
        answered += usize::from(first.answer()?.is_some());
    }
    Ok(json!({"connections": open.len(), "packets": DESCRIPTOR_PACKETS, "answered": answered}).to_string())
}

fn parse(word: &str) -> io::Result<u64> {
    word.parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("{word:?} is not a number")))
}
