//! A layer as it is stored becomes a tar stream: decompressed, counted, and its digest compared at the end.
//!
//! One thread decompresses while another uses the result. What the compression is, the first bytes say;
//! media types lie. It never decides what an entry means; see [`super::flatten`].

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use sha2::{Digest as _, Sha256};

use super::digest::Digest;

const PIECE: usize = 256 << 10;
const PIECES_AHEAD: usize = 16;

/// Where a layer's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLayer {
    /// The file that holds them …
    pub file: PathBuf,
    /// … from here …
    pub offset: u64,
    /// … this many.
    pub length: u64,
    /// Digest of the uncompressed layer, from the image's configuration.
    pub diff_id: Digest,
}

/// Why a layer cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The file.
    #[error("cannot open the layer {path}", path = path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The bytes behind the last entry.
    #[error("cannot read the end of the layer")]
    Drain {
        /// The cause.
        source: io::Error,
    },
    /// Not what the image's configuration announces.
    #[error("the layer's content has the digest {found}, the image's configuration says {wanted}")]
    Digest {
        /// Announced.
        wanted: Digest,
        /// Found.
        found: Digest,
    },
}

/// Runs `consume` on the uncompressed bytes, at most `most` of them, and checks the digest of all.
///
/// # Errors
/// What `consume` returned, else [`LayerError`].
pub fn with_layer<T, E: From<LayerError>>(
    layer: &StoredLayer,
    most: u64,
    consume: impl FnOnce(&mut dyn Read) -> Result<T, E>,
) -> Result<T, E> {
    let open = |source| LayerError::Open { path: layer.file.clone(), source };
    let mut file = File::open(&layer.file).map_err(open)?;
    file.seek(SeekFrom::Start(layer.offset)).map_err(open)?;
    let stored = BufReader::with_capacity(PIECE, file.take(layer.length));
    let (sender, receiver) = sync_channel(PIECES_AHEAD);
    std::thread::scope(|scope| {
        scope.spawn(move || produce(stored, most, &sender));
        let mut pieces = Pieces { receiver, current: Vec::new(), at: 0, digest: None };
        let outcome = consume(&mut pieces)?;
        io::copy(&mut pieces, &mut io::sink()).map_err(|source| LayerError::Drain { source })?;
        match pieces.digest {
            Some(found) if found == layer.diff_id => Ok(outcome),
            Some(found) => Err(LayerError::Digest { wanted: layer.diff_id.clone(), found }.into()),
            None => Err(LayerError::Drain { source: io::ErrorKind::UnexpectedEof.into() }.into()),
        }
    })
}

enum Piece {
    Bytes(Vec<u8>),
    Failed(io::Error),
    End(Digest),
}

fn produce(stored: impl BufRead, most: u64, sender: &SyncSender<Piece>) {
    let mut hash = Sha256::new();
    let mut left = most;
    let mut stream = match decompress(stored) {
        Ok(stream) => stream,
        Err(error) => {
            let _ = sender.send(Piece::Failed(error));
            return;
        }
    };
    loop {
        let mut piece = vec![0u8; PIECE];
        let mut filled = 0;
        while filled < PIECE {
            match stream.read(&mut piece[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let _ = sender.send(Piece::Failed(error));
                    return;
                }
            }
        }
        let Some(rest) = left.checked_sub(filled as u64) else {
            let _ =
                sender.send(Piece::Failed(io::Error::other(format!("the layer unpacks to more than {most} bytes"))));
            return;
        };
        left = rest;
        piece.truncate(filled);
        hash.update(&piece);
        let end = filled < PIECE;
        // Nobody listens any more once the consumer has failed.
        if sender.send(Piece::Bytes(piece)).is_err() {
            return;
        }
        if end {
            let _ = sender.send(Piece::End(Digest::of_sha256(&hash.finalize())));
            return;
        }
    }
}

/// gzip and zstd begin with a magic number; anything else is taken as it is.
pub fn decompress<'a>(mut stored: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let head = stored.fill_buf()?;
    Ok(if head.starts_with(&[0x1F, 0x8B]) {
        Box::new(flate2::bufread::MultiGzDecoder::new(stored))
    } else if head.starts_with(&[0x28, 0xB5, 0x2F, 0xFD]) {
        Box::new(zstd::stream::read::Decoder::with_buffer(stored)?)
    } else {
        Box::new(stored)
    })
}

struct Pieces {
    receiver: Receiver<Piece>,
    current: Vec<u8>,
    at: usize,
    digest: Option<Digest>,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.current.len() {
            if self.digest.is_some() {
                return Ok(0);
            }
            match self.receiver.recv() {
                Ok(Piece::Bytes(piece)) => (self.current, self.at) = (piece, 0),
                Ok(Piece::Failed(error)) => return Err(error),
                Ok(Piece::End(digest)) => self.digest = Some(digest),
                Err(_) => return Err(io::Error::other("decompressing the layer stopped")),
            }
        }
        let count = buffer.len().min(self.current.len() - self.at);
        buffer[..count].copy_from_slice(&self.current[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}
