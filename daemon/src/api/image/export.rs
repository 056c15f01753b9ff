//! An image as a stream of bytes: written by a blocking job, read by the client, nothing in between on disk.

use std::io::{self, Write};

use banger_proto::failure::{Failure, Kind};
use banger_proto::v1::ExportImageResponse;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::sync::mpsc::{Sender, channel};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::image::{ImageArtifacts, ImageStore};

const PIECE: usize = 1 << 20;
const PIECES_AHEAD: usize = 4;

/// The bundle of `image`; the last item is the failure, if there is one.
pub(super) fn bundle(image: ImageArtifacts) -> BoxStream<'static, Result<ExportImageResponse, Status>> {
    let (sender, receiver) = channel(PIECES_AHEAD);
    tokio::task::spawn_blocking(move || {
        let out = io::BufWriter::with_capacity(PIECE, Pieces { sender: sender.clone() });
        if let Err(error) = ImageStore::export(&image, out) {
            let chain = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
            let mut failure = Failure::new(Kind::Failed, format!("cannot export the image {}", image.name));
            for cause in chain {
                failure = failure.caused_by(cause.to_string());
            }
            // A client that went away has closed the channel, and needs no word.
            let _ = sender.blocking_send(Err(failure.into()));
        }
    });
    ReceiverStream::new(receiver).boxed()
}

struct Pieces {
    sender: Sender<Result<ExportImageResponse, Status>>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = ExportImageResponse { data: bytes[..bytes.len().min(PIECE)].to_vec() };
        let count = piece.data.len();
        self.sender.blocking_send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
