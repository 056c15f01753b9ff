//! Whole messages from a blocking stream and back; the receiver's end of the channel.
//!
//! The same framing as everywhere else ([`banger_proto::frame`]). A frame over [`FRAME_LIMIT`] is refused
//! before a byte of it is read.

use std::io::{self, ErrorKind, Read, Write};

use banger_proto::frame::{InvalidFrame, encode_frame};
use prost::Message;
use prost::bytes::Bytes;

/// Longest frame in bytes.
pub const FRAME_LIMIT: usize = 4 << 20;
/// How much content a sender puts into one frame.
pub const CHUNK: usize = 256 << 10;
/// How much a sender collects into one batch.
pub const BATCH: usize = 1 << 20;
/// Most files one list of files in a pack may have.
pub const PACKED_FILES: usize = 8192;
/// Largest file that is made of an object in a pack: it is held in memory.
pub const PACKED_SIZE: u64 = 16 << 20;
/// Most entries a manifest may have.
pub const ENTRY_LIMIT: u64 = 8 << 20;
/// How much is read ahead. Much less than a frame with content, most of which then goes past the buffer to where it stays.
const READ_AHEAD: usize = 16 << 10;
/// What a receiver says first, before any frame: a shell that prints something is noticed at once.
pub const PREAMBLE: &[u8] = b"\0banger-sync\n";
/// Version of the protocol.
pub const VERSION: u32 = 1;

/// Why there is no next frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream failed.
    #[error("cannot read from the other side")]
    Read {
        /// Why not.
        source: io::Error,
    },
    /// The stream cannot be written.
    #[error("cannot write to the other side")]
    Write {
        /// Why not.
        source: io::Error,
    },
    /// The stream ended within a frame.
    #[error("the stream ended in the middle of a frame")]
    Truncated,
    /// Not a frame of ours.
    #[error("received bytes that are no message")]
    Invalid {
        /// Why not.
        source: InvalidFrame,
    },
}

/// Reads frames.
#[derive(Debug)]
pub struct FrameReader<R> {
    input: io::BufReader<R>,
}

impl<R: Read> FrameReader<R> {
    /// From a blocking stream.
    pub fn new(input: R) -> Self {
        Self { input: io::BufReader::with_capacity(READ_AHEAD, input) }
    }

    /// The next message; `None` at the end of the stream.
    ///
    /// # Errors
    /// [`FrameError`]; the stream cannot be used after it.
    pub fn receive<M: Message + Default>(&mut self) -> Result<Option<M>, FrameError> {
        let Some(length) = self.length()? else { return Ok(None) };
        let mut frame = Vec::with_capacity(length);
        self.input.by_ref().take(length as u64).read_to_end(&mut frame).map_err(read_error)?;
        if frame.len() < length {
            return Err(FrameError::Truncated);
        }
        // Content in the message is a part of the frame, not a copy.
        let source = match M::decode(Bytes::from(frame)) {
            Ok(message) => return Ok(Some(message)),
            Err(source) => source,
        };
        Err(FrameError::Invalid { source: InvalidFrame::BadMessage { length, source } })
    }

    fn length(&mut self) -> Result<Option<usize>, FrameError> {
        let mut length: u64 = 0;
        for position in 0..10 {
            let mut byte = [0_u8];
            match self.input.read_exact(&mut byte) {
                Ok(()) => {}
                Err(error) if position == 0 && error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
                Err(error) => return Err(read_error(error)),
            }
            if position == 9 && byte[0] > 1 {
                break;
            }
            length |= u64::from(byte[0] & 0x7f) << (7 * position);
            if byte[0] & 0x80 == 0 {
                return match usize::try_from(length) {
                    Ok(fits) if fits <= FRAME_LIMIT => Ok(Some(fits)),
                    _ => Err(FrameError::Invalid { source: InvalidFrame::TooLong { length, limit: FRAME_LIMIT } }),
                };
            }
        }
        Err(FrameError::Invalid { source: InvalidFrame::BadLength })
    }
}

fn read_error(source: io::Error) -> FrameError {
    if source.kind() == ErrorKind::UnexpectedEof { FrameError::Truncated } else { FrameError::Read { source } }
}

/// Writes frames, each at once.
#[derive(Debug)]
pub struct FrameWriter<W> {
    output: W,
    buffer: Vec<u8>,
}

impl<W: Write> FrameWriter<W> {
    /// To a blocking stream.
    pub fn new(output: W) -> Self {
        Self { output, buffer: Vec::new() }
    }

    /// Sends [`PREAMBLE`].
    ///
    /// # Errors
    /// [`FrameError::Write`].
    pub fn send_preamble(&mut self) -> Result<(), FrameError> {
        self.output
            .write_all(PREAMBLE)
            .and_then(|()| self.output.flush())
            .map_err(|source| FrameError::Write { source })
    }

    /// Sends one message.
    ///
    /// # Errors
    /// [`FrameError::Write`].
    pub fn send<M: Message>(&mut self, message: &M) -> Result<(), FrameError> {
        self.buffer.clear();
        encode_frame(message, &mut self.buffer);
        self.output
            .write_all(&self.buffer)
            .and_then(|()| self.output.flush())
            .map_err(|source| FrameError::Write { source })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use banger_proto::frame::frame;
    use banger_proto::guest::v1::Chunk;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read_and_the_end_is_an_end() {
        let mut bytes = Vec::new();
        let mut writer = FrameWriter::new(&mut bytes);
        for size in [0, 1, 127, 128, 70_000] {
            writer.send(&Chunk { data: vec![7; size].into() }).unwrap();
        }
        let mut reader = FrameReader::new(&bytes[..]);
        for size in [0, 1, 127, 128, 70_000] {
            assert_eq!(reader.receive::<Chunk>().unwrap().unwrap().data.len(), size);
        }
        assert!(reader.receive::<Chunk>().unwrap().is_none());
        let cut = &bytes[..bytes.len() - 1];
        let mut reader = FrameReader::new(cut);
        for _ in 0..4 {
            reader.receive::<Chunk>().unwrap();
        }
        assert!(matches!(reader.receive::<Chunk>(), Err(FrameError::Truncated)));
    }

    #[test]
    fn an_oversize_length_is_refused_without_its_bytes() {
        let mut reader = FrameReader::new(&[0xff, 0xff, 0xff, 0xff, 0x0f][..]);
        assert!(matches!(reader.receive::<Chunk>(), Err(FrameError::Invalid { source: InvalidFrame::TooLong { .. } })));
        let mut reader = FrameReader::new(&[0xff; 20][..]);
        assert!(matches!(reader.receive::<Chunk>(), Err(FrameError::Invalid { source: InvalidFrame::BadLength })));
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = FrameReader::new(&bytes[..]);
            while let Ok(Some(_)) = reader.receive::<Chunk>() {}
        }

        #[test]
        fn both_readers_agree(sizes in prop::collection::vec(0_usize..2000, 0..8)) {
            let bytes: Vec<u8> = sizes.iter().flat_map(|&size| frame(&Chunk { data: vec![1; size].into() })).collect();
            let mut reader = FrameReader::new(&bytes[..]);
            let mut seen = Vec::new();
            while let Some(chunk) = reader.receive::<Chunk>().unwrap() {
                seen.push(chunk.data.len());
            }
            prop_assert_eq!(seen, sizes);
        }
    }
}
