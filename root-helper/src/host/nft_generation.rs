//! The number of the ruleset: the kernel counts every transaction that changes a table, whoever makes it.
//!
//! So tables that were right once are right as long as it stays the same, and looking at them again, or writing them
//! again, which takes processes of nft, can wait for it to change. Asked of the kernel as in nfnetlink(7) and
//! linux/netfilter/nf_tables.h (`NFT_MSG_GETGEN`).

use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};
use serde_json::Value;

/// `NFNL_SUBSYS_NFTABLES << 8`.
const NFTABLES: u16 = 10 << 8;
const NEW_GENERATION: u16 = NFTABLES | 15;
const GET_GENERATION: u16 = NFTABLES | 16;
const REQUEST: u16 = 1;
const GENERATION_ID: u16 = 1;
/// Of the header of a message, and of what nfnetlink adds to it.
const HEADER: usize = 16;
const SUB_HEADER: usize = 4;

/// The number; `None` where the kernel does not tell, which says nothing about the tables.
pub fn current() -> Option<u32> {
    ask().ok().flatten()
}

fn ask() -> Result<Option<u32>, Errno> {
    let kernel = SocketAddrNetlink::new(0, 0);
    let kind = (AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC);
    let socket = socket_with(kind.0, kind.1, kind.2, Some(NETFILTER))?;
    sendto(&socket, &request(), SendFlags::empty(), &kernel)?;
    let mut answer = [0; 4096];
    // The kernel answers before it returns from the request: there is nothing to wait for.
    let (length, _) = recv(&socket, &mut answer, RecvFlags::DONTWAIT)?;
    Ok(parse(&answer[..length]))
}

fn request() -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER + SUB_HEADER);
    message.extend(u32::try_from(HEADER + SUB_HEADER).unwrap_or(0).to_ne_bytes());
    message.extend(GET_GENERATION.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    // Sequence number and port, then nfgenmsg: any family, version 0.
    message.extend([0; 8 + SUB_HEADER]);
    message
}

/// The number in an answer.
fn parse(message: &[u8]) -> Option<u32> {
    let at = |from: usize, length: usize| message.get(from..from + length);
    let short = |from| Some(u16::from_ne_bytes(at(from, 2)?.try_into().ok()?));
    if short(4)? != NEW_GENERATION {
        return None;
    }
    let mut from = HEADER + SUB_HEADER;
    loop {
        let (length, kind) = (usize::from(short(from)?), short(from + 2)?);
        if kind == GENERATION_ID && length == 8 {
            return Some(u32::from_be_bytes(at(from + 4, 4)?.try_into().ok()?));
        }
        // Attributes are aligned to four bytes; one without a length would be looked at for ever.
        from += length.max(4).next_multiple_of(4);
    }
}

/// How tables were seen to be in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// We wrote them: they are exactly these.
    Written,
    /// A listing looked like them.
    Listed,
}

#[derive(Debug)]
struct Sight {
    generation: u32,
    tables: Value,
    source: Source,
}

/// Which tables were seen to be in place, and at which number.
#[derive(Debug, Default)]
pub struct Seen(Mutex<Option<Sight>>);

impl Seen {
    /// These are in place at this number; with none, nothing is known any more.
    pub fn set(&self, generation: Option<u32>, batch: &Value, source: Source) {
        let sight = generation.map(|generation| Sight { generation, tables: batch.clone(), source });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = sight;
    }

    /// These were in place, and nothing was changed since.
    pub fn is(&self, generation: Option<u32>, batch: &Value) -> bool {
        self.source(generation, batch).is_some()
    }

    /// These were written by us, and nothing was changed since: writing them again would change nothing.
    pub fn is_written(&self, generation: Option<u32>, batch: &Value) -> bool {
        self.source(generation, batch) == Some(Source::Written)
    }

    fn source(&self, generation: Option<u32>, batch: &Value) -> Option<Source> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sight = seen.as_ref().filter(|sight| Some(sight.generation) == generation && sight.tables == *batch);
        sight.map(|sight| sight.source)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut message = vec![0; HEADER + SUB_HEADER];
        message[4..6].copy_from_slice(&NEW_GENERATION.to_ne_bytes());
        for (kind, value) in attributes {
            let length = u16::try_from(4 + value.len()).unwrap_or(0);
            message.extend([length.to_ne_bytes(), kind.to_ne_bytes()].concat());
            message.extend(*value);
            message.resize(message.len().next_multiple_of(4), 0);
        }
        message
    }

    #[test]
    fn the_number_is_found_among_the_attributes() {
        assert_eq!(parse(&answer(&[(1, &7_u32.to_be_bytes())])), Some(7));
        assert_eq!(parse(&answer(&[(3, b"nft\0\0"), (1, &0x0102_0304_u32.to_be_bytes())])), Some(0x0102_0304));
    }

    #[test]
    fn anything_else_is_no_number() {
        let error = [&[36, 0, 0, 0, 2, 0][..], &[0; 30]].concat();
        for message in [Vec::new(), vec![0; 7], error, answer(&[]), answer(&[(1, &[1, 2])]), answer(&[(0, &[])])] {
            assert_eq!(parse(&message), None, "{message:?}");
        }
    }

    #[test]
    fn tables_are_known_until_anything_changes() {
        let (seen, tables) = (Seen::default(), json!({"nftables": [1]}));
        assert!(!seen.is(Some(4), &tables));
        seen.set(Some(4), &tables, Source::Listed);
        assert!(seen.is(Some(4), &tables) && !seen.is_written(Some(4), &tables));
        seen.set(Some(4), &tables, Source::Written);
        assert!(seen.is(Some(4), &tables) && seen.is_written(Some(4), &tables));
        assert!(!seen.is_written(Some(5), &tables) && !seen.is_written(Some(4), &json!({})));
        assert!(!seen.is(Some(5), &tables) && !seen.is(None, &tables) && !seen.is(Some(4), &json!({})));
        seen.set(None, &tables, Source::Written);
        assert!(!seen.is(Some(4), &tables));
    }
}
