//! A client of bangerd-root's socket for scenarios: one request from words, the answer as JSON. Not installed anywhere.
//!
//! It speaks the wire format directly, so it can say things that bangerd never would: see [`hammer`].

pub mod hammer;
pub mod words;

use std::cell::RefCell;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::Duration;

use banger_proto::failure::Failure;
use banger_proto::install::HELPER_SOCKET;
use banger_proto::root::v1 as wire;
use prost::Message as _;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, connect, recvmsg, send, socket_with,
};
use serde_json::{Value, json};

/// The only version there is.
pub const VERSION: u32 = 1;
/// Longest answer.
const ANSWER_LIMIT: usize = 256 << 10;
const PATIENCE: Duration = Duration::from_secs(120);

/// A connection.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    /// Kept: mapping a new one for each of 100,000 answers is what would take the time.
    buffer: RefCell<Vec<u8>>,
}

/// An answer and how many descriptors came beside it.
#[derive(Debug)]
pub struct Answer {
    /// What was said.
    pub response: wire::Response,
    /// Pidfds.
    pub descriptors: usize,
}

impl Client {
    /// Connects, or says why not.
    ///
    /// # Errors
    /// The call that failed.
    pub fn connect() -> io::Result<Self> {
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
        connect(&socket, &SocketAddrUnix::new(HELPER_SOCKET)?)?;
        Ok(Self { socket, buffer: RefCell::new(vec![0; ANSWER_LIMIT]) })
    }

    /// Sends any bytes and takes the answer; `None` if the helper hung up.
    ///
    /// # Errors
    /// The call that failed; `InvalidData` for an answer that is none.
    pub fn ask(&self, packet: &[u8]) -> io::Result<Option<Answer>> {
        self.send(packet)?;
        self.answer()
    }

    /// Sends any bytes.
    ///
    /// # Errors
    /// The call that failed.
    pub fn send(&self, packet: &[u8]) -> io::Result<()> {
        send(&self.socket, packet, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// The next answer.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub fn answer(&self) -> io::Result<Option<Answer>> {
        let mut bytes = self.buffer.borrow_mut();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received =
            recvmsg(&self.socket, &mut [io::IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        if received.bytes == 0 {
            return Ok(None);
        }
        let descriptors = control
            .drain()
            .map(|message| match message {
                RecvAncillaryMessage::ScmRights(rights) => rights.count(),
                _ => 0,
            })
            .sum();
        let response = wire::Response::decode(&bytes[..received.bytes])
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(Some(Answer { response, descriptors }))
    }

    /// The socket, for what a client should not do with it.
    pub fn socket(&self) -> &OwnedFd {
        &self.socket
    }
}

/// The answer for a script, and the exit status it stands for.
pub fn render(answer: &Answer) -> (Value, u8) {
    use wire::receipt::Kind;
    match &answer.response.outcome {
        Some(wire::response::Outcome::Receipt(wire::Receipt { kind })) => match kind {
            Some(Kind::Launched(launched)) => (
                json!({
                    "pid": launched.pid, "start_time_ticks": launched.start_time_ticks,
                    "descriptors": answer.descriptors,
                }),
                0,
            ),
            Some(Kind::Holdings(holdings)) => (render_holdings(holdings), 0),
            Some(Kind::Done(_)) | None => (json!({}), 0),
        },
        Some(wire::response::Outcome::Refusal(refusal)) => {
            let failure = Failure::from(banger_proto::v1::Failure {
                kind: refusal.kind.cast_signed(),
                chain: refusal.chain.clone(),
                hints: refusal.hints.clone(),
                operation_id: String::new(),
                left_behind: refusal.left_behind.clone(),
            });
            let refused = json!({
                "refused": failure.kind.name(), "why": failure.to_string(), "hints": failure.hints,
                "left_behind": failure.left_behind,
            });
            (refused, failure.kind.exit_code())
        }
        None => (json!({"refused": "no outcome"}), 70),
    }
}

fn render_holdings(holdings: &wire::Holdings) -> Value {
    let vm = |vm: &wire::VmHoldings| {
        json!({
            "vm": vm.vm_id, "address": std::net::Ipv4Addr::from_bits(vm.address).to_string(), "nat": vm.nat,
            "root_disk": vm.root_disk, "used": vm.copy_on_write_used_sectors, "total": vm.copy_on_write_total_sectors,
            "pid": vm.pid, "start_time_ticks": vm.start_time_ticks,
        })
    };
    json!({
        "vms": holdings.vms.iter().map(vm).collect::<Vec<_>>(),
        "network_ready": holdings.network_ready, "resolver_ready": holdings.resolver_ready,
    })
}
