//! Length-delimited prost frames, the same on vsock, virtio-serial, SSH channels and the helper's socket.
//!
//! A frame is a varint length (protobuf encoding) and that many bytes of one message. Decoding is
//! incremental and bounded: a length over the limit is an error before anything is allocated.

use prost::Message;

/// Why bytes are not a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFrame {
    /// The length prefix is over the limit.
    #[error("a frame of {length} bytes exceeds the limit of {limit}")]
    TooLong {
        /// Announced length in bytes.
        length: u64,
        /// The reader's limit in bytes.
        limit: usize,
    },
    /// The length prefix is not a varint of at most ten bytes.
    #[error("the frame length is not a varint")]
    BadLength,
    /// The payload is not the expected message.
    #[error("the frame of {length} bytes is not a valid message")]
    BadMessage {
        /// Length of the payload in bytes.
        length: usize,
        /// What the decoder said.
        source: prost::DecodeError,
    },
}

/// Appends `message` as one frame to `out`.
pub fn encode_frame<M: Message>(message: &M, out: &mut Vec<u8>) {
    message.encode_length_delimited(out).expect("a Vec grows as needed");
}

/// One frame's bytes.
pub fn frame<M: Message>(message: &M) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.encoded_len() + 5);
    encode_frame(message, &mut out);
    out
}

/// Collects bytes as they arrive and yields whole messages.
#[derive(Debug, Default)]
pub struct FrameBuffer {
    bytes: Vec<u8>,
    start: usize,
}

impl FrameBuffer {
    /// Adds bytes that were read.
    pub fn extend(&mut self, bytes: &[u8]) {
        if self.start > 0 && self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        } else if self.start > 1 << 16 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// True if no partial frame is waiting.
    pub fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// The next whole message, or `None` if more bytes are needed.
    ///
    /// # Errors
    /// [`InvalidFrame`]; the stream cannot be resynchronised after it.
    pub fn next<M: Message + Default>(&mut self, limit: usize) -> Result<Option<M>, InvalidFrame> {
        let pending = &self.bytes[self.start..];
        let mut length: u64 = 0;
        let mut prefix = 0;
        loop {
            let Some(&byte) = pending.get(prefix) else { return Ok(None) };
            if prefix >= 10 || (prefix == 9 && byte > 1) {
                return Err(InvalidFrame::BadLength);
            }
            length |= u64::from(byte & 0x7f) << (7 * prefix);
            prefix += 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let payload_length = match usize::try_from(length) {
            Ok(fits) if fits <= limit => fits,
            _ => return Err(InvalidFrame::TooLong { length, limit }),
        };
        let Some(payload) = pending.get(prefix..prefix + payload_length) else { return Ok(None) };
        let message =
            M::decode(payload).map_err(|source| InvalidFrame::BadMessage { length: payload_length, source })?;
        self.start += prefix + payload_length;
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::v1::{Milestone, Pong};

    #[test]
    fn frames_survive_any_split_of_the_bytes() {
        let one = Milestone { stage: "seed".into(), uptime_ms: 300, ..Milestone::default() };
        let two = Milestone { reason: "x".repeat(300), ..Milestone::default() };
        let mut bytes = frame(&one);
        encode_frame(&two, &mut bytes);
        for step in 1..bytes.len() {
            let mut buffer = FrameBuffer::default();
            let mut seen = Vec::new();
            for chunk in bytes.chunks(step) {
                buffer.extend(chunk);
                while let Some(message) = buffer.next::<Milestone>(1 << 20).expect("valid") {
                    seen.push(message);
                }
            }
            assert_eq!(seen, [one.clone(), two.clone()]);
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_its_bytes_arrive() {
        let mut buffer = FrameBuffer::default();
        buffer.extend(&[0xff, 0xff, 0xff, 0x7f]);
        assert!(matches!(buffer.next::<Pong>(1 << 20), Err(InvalidFrame::TooLong { .. })));
        let mut endless = FrameBuffer::default();
        endless.extend(&[0xff; 11]);
        assert_eq!(endless.next::<Pong>(1 << 20), Err(InvalidFrame::BadLength));
    }
}
