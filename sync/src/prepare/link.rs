//! The channel to one receiver: frames out, replies in, and its last words if it dies.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;

use banger_proto::frame::{FrameBuffer, frame};
use banger_proto::guest::v1::sync_reply::Body as Reply;
use banger_proto::guest::v1::sync_request::Body as Request;
use banger_proto::guest::v1::{BlocksOf, BlocksRequest, SyncHello, SyncPurpose, SyncReply, SyncRequest, Welcome};
use bytes::Bytes;

use super::PrepareError;
use super::error::printable;
use crate::blocks::{Cut, FILES_LIMIT, Known, LEAST};
use crate::entry::{Entry, EntryKind};
use crate::frames::{FRAME_LIMIT, PREAMBLE, VERSION};
use crate::ssh::{Connection, ExitStatus, SessionError, SessionEvent, SessionReader, SessionWriter};

/// How much of its standard error is kept.
const WORDS: usize = 4 << 10;

pub struct Link {
    /// The receiver tells what its old versions are made of.
    tells_blocks: bool,
    /// It makes files of objects in a pack.
    pub makes_packed_files: bool,
    /// It makes files of objects it has.
    pub makes_object_files: bool,
    writer: SessionWriter,
    incoming: Incoming,
}

struct Incoming {
    /// Came while the next request was sent.
    early: VecDeque<Reply>,
    reader: SessionReader,
    buffer: FrameBuffer,
    words: Vec<u8>,
}

impl Link {
    pub async fn open(connection: &Connection, command: &str) -> Result<Self, PrepareError> {
        let (writer, reader) =
            connection.exec(command, None).await.map_err(|source| PrepareError::Session { source })?;
        let mut incoming =
            Incoming { early: VecDeque::new(), reader, buffer: FrameBuffer::default(), words: Vec::new() };
        incoming.preamble().await?;
        Ok(Self { tells_blocks: false, makes_packed_files: false, makes_object_files: false, writer, incoming })
    }

    /// Opens it and exchanges greetings.
    pub async fn greet(
        connection: &Connection,
        command: &str,
        purpose: SyncPurpose,
    ) -> Result<(Self, Welcome), PrepareError> {
        let mut link = Self::open(connection, command).await?;
        let welcome = link.exchange_greetings(purpose).await?;
        Ok((link, welcome))
    }

    /// The first thing said on it. From here on the receiver looks at its tree.
    pub async fn exchange_greetings(&mut self, purpose: SyncPurpose) -> Result<Welcome, PrepareError> {
        self.send(&Request::Hello(SyncHello { version: VERSION, purpose: purpose.into() })).await?;
        match self.reply().await? {
            Reply::Welcome(welcome) if welcome.version == VERSION => {
                (self.tells_blocks, self.makes_packed_files) = (welcome.tells_blocks, welcome.makes_packed_files);
                self.makes_object_files = welcome.makes_object_files;
                Ok(welcome)
            }
            Reply::Welcome(welcome) => Err(PrepareError::Version { theirs: welcome.version }),
            _ => Err(PrepareError::Unexpected { expected: "a greeting" }),
        }
    }

    pub async fn send(&mut self, request: &Request) -> Result<(), PrepareError> {
        self.send_frame(frame(&SyncRequest { body: Some(request.clone()) }).into()).await
    }

    /// Sends, and listens meanwhile: a receiver that failed says why and takes nothing any more.
    pub async fn send_frame(&mut self, frame: Bytes) -> Result<(), PrepareError> {
        if !self.incoming.early.is_empty() {
            return Err(PrepareError::Unexpected { expected: "nothing yet" });
        }
        self.write(frame, |_, _| Err(PrepareError::Unexpected { expected: "nothing yet" })).await
    }

    /// Sends what the receiver works on after what it works on now: the reply to that may come meanwhile.
    pub async fn send_ahead(&mut self, request: Request) -> Result<(), PrepareError> {
        let keep = |early: &mut VecDeque<Reply>, reply| {
            early.push_back(reply);
            Ok(())
        };
        self.write(frame(&SyncRequest { body: Some(request) }).into(), keep).await
    }

    /// `take` decides about a reply that comes before all of the frame is sent.
    async fn write(
        &mut self,
        frame: Bytes,
        take: impl Fn(&mut VecDeque<Reply>, Reply) -> Result<(), PrepareError>,
    ) -> Result<(), PrepareError> {
        let mut write = pin!(self.writer.write(frame));
        loop {
            tokio::select! {
                biased;
                sent = &mut write => match sent {
                    Ok(()) => return Ok(()),
                    Err(SessionError::Closed | SessionError::Send { .. }) => break,
                    Err(source) => return Err(PrepareError::Session { source }),
                },
                reply = self.incoming.next_reply() => take(&mut self.incoming.early, reply?)?,
            }
        }
        // The reason it is closed is among what it sent before.
        loop {
            let reply = self.incoming.next_reply().await?;
            take(&mut self.incoming.early, reply)?;
        }
    }

    /// What the receiver has of the largest of these files, by position.
    pub async fn known_blocks(&mut self, files: &[(u32, Entry)]) -> Result<HashMap<u32, Known>, PrepareError> {
        let mut large: Vec<_> = files.iter().filter(|(_, entry)| entry.size > LEAST && is_file(entry.kind)).collect();
        if large.is_empty() || !self.tells_blocks {
            return Ok(HashMap::new());
        }
        large.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.size));
        large.truncate(FILES_LIMIT);
        let asked: Vec<_> = large.into_iter().map(|(index, entry)| (*index, Cut::for_size(entry.size))).collect();
        let of = |(index, cut): &(u32, Cut)| BlocksOf { index: *index, average_size: cut.average_size() };
        self.send(&Request::Blocks(BlocksRequest { files: asked.iter().map(of).collect() })).await?;
        let mut known = HashMap::new();
        for (index, cut) in asked {
            let Reply::Blocks(told) = self.reply().await? else {
                return Err(PrepareError::Unexpected { expected: "the blocks of a file" });
            };
            let told = Known::parse(cut, &told).map_err(|expected| PrepareError::Unexpected { expected })?;
            known.extend(told.map(|told| (index, told)));
        }
        Ok(known)
    }

    pub async fn reply(&mut self) -> Result<Reply, PrepareError> {
        self.incoming.reply().await
    }

    /// Ends the conversation where it may end, and waits until the receiver is gone.
    pub async fn end(mut self) {
        if self.writer.eof().await.is_ok() {
            // Whatever it says now, it is over.
            while self.incoming.bytes().await.is_ok() {}
        }
    }
}

impl Incoming {
    async fn preamble(&mut self) -> Result<(), PrepareError> {
        let mut seen = Vec::new();
        while seen.len() < PREAMBLE.len() {
            seen.extend_from_slice(&self.bytes().await?);
            if !seen.starts_with(&PREAMBLE[..seen.len().min(PREAMBLE.len())]) {
                return Err(PrepareError::Noise { text: printable(&String::from_utf8_lossy(&seen)) });
            }
        }
        self.buffer.extend(&seen[PREAMBLE.len()..]);
        Ok(())
    }

    /// The next reply; a reported failure is an error. Cancelling this future loses nothing.
    async fn reply(&mut self) -> Result<Reply, PrepareError> {
        match self.early.pop_front() {
            Some(reply) => Ok(reply),
            None => self.next_reply().await,
        }
    }

    async fn next_reply(&mut self) -> Result<Reply, PrepareError> {
        loop {
            let whole: Option<SyncReply> =
                self.buffer.next(FRAME_LIMIT).map_err(|source| PrepareError::Invalid { source })?;
            if let Some(reply) = whole {
                return match reply.body {
                    Some(Reply::Failure(failure)) => Err(PrepareError::from_guest(failure)),
                    Some(body) => Ok(body),
                    None => Err(PrepareError::Unexpected { expected: "a message of this version" }),
                };
            }
            let bytes = self.bytes().await?;
            self.buffer.extend(&bytes);
        }
    }

    /// What it writes next to standard output.
    async fn bytes(&mut self) -> Result<Bytes, PrepareError> {
        loop {
            match self.reader.next().await {
                SessionEvent::Stdout(bytes) => return Ok(bytes),
                SessionEvent::Stderr(bytes) => {
                    let room = WORDS.saturating_sub(self.words.len());
                    self.words.extend_from_slice(&bytes[..bytes.len().min(room)]);
                }
                SessionEvent::Exit(status) => return Err(self.gone(Some(status))),
                SessionEvent::Closed => return Err(self.gone(None)),
            }
        }
    }

    fn gone(&self, status: Option<ExitStatus>) -> PrepareError {
        PrepareError::ReceiverGone { status, output: printable(String::from_utf8_lossy(&self.words).trim()) }
    }
}

fn is_file(kind: EntryKind) -> bool {
    matches!(kind, EntryKind::File | EntryKind::Executable)
}
