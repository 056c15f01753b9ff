//! A session's end of [`super::control`].

use std::sync::Arc;
use std::time::Duration;

use banger_proto::failure::{Classified, Failure, Kind};
use banger_sync::path::TreePath;
use banger_sync::watch::{Held, Side, Watch};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::control::{Answer, Ask, LINE_LIMIT};
use crate::view::follow::{FlushedView, Identity, StatusView};

/// Whoever asks for the status next sees what was done, unless the session is in the middle of something longer.
const SHOWN_LIMIT: Duration = Duration::from_secs(1);

/// Answers until it is dropped.
pub async fn serve(listener: UnixListener, watch: Watch, identity: Arc<Identity>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(answer(stream, watch.clone(), Arc::clone(&identity)));
            }
            Err(error) => {
                tracing::debug!(%error, "a question cannot be taken");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(stream: UnixStream, watch: Watch, identity: Arc<Identity>) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    let asked = (&mut stream).take(LINE_LIMIT).read_line(&mut line).await;
    if !asked.is_ok_and(|count| count > 0) {
        return;
    }
    let deciding = decide(&line, &watch, &identity);
    // Who asks may give up; then nothing is held for him.
    let (answer, held) = tokio::select! {
        decided = deciding => decided,
        () = gone(&mut stream) => return,
    };
    let mut text = serde_json::to_vec(&answer).unwrap_or_default();
    text.push(b'\n');
    let is_told = stream.get_mut().write_all(&text).await.is_ok();
    if let Some(held) = held {
        if is_told {
            gone(&mut stream).await;
        }
        drop(held);
        watch.shown(SHOWN_LIMIT).await;
    }
}

/// Until the other end is closed.
async fn gone(stream: &mut BufReader<UnixStream>) {
    let mut byte = [0_u8; 1];
    while stream.read(&mut byte).await.is_ok_and(|count| count > 0) {}
}

async fn decide(line: &str, watch: &Watch, identity: &Identity) -> (Answer, Option<Held>) {
    let ask: Ask = match serde_json::from_str(line) {
        Ok(ask) => ask,
        Err(error) => return (failed(Failure::new(Kind::Usage, error.to_string())), None),
    };
    match ask {
        Ask::Status => (Answer::Status(Box::new(StatusView::new(identity, &watch.status()))), None),
        Ask::Flush => match watch.flush().await {
            Ok(flushed) => (Answer::Flushed(FlushedView::new(&flushed)), None),
            Err(error) => (of(&error), None),
        },
        Ask::Hold => match watch.hold().await {
            Ok((flushed, held)) => (Answer::Flushed(FlushedView::new(&flushed)), Some(held)),
            Err(error) => (of(&error), None),
        },
        Ask::Pause => {
            watch.pause();
            watch.shown(SHOWN_LIMIT).await;
            (Answer::Done, None)
        }
        Ask::Resume => {
            watch.resume();
            watch.shown(SHOWN_LIMIT).await;
            (Answer::Done, None)
        }
        Ask::Stop => {
            watch.stop();
            (Answer::Done, None)
        }
        Ask::Prefer { host, path } => {
            let path = match TreePath::parse(&path) {
                Ok(path) => path,
                Err(error) => return (failed(Failure::new(Kind::Usage, error.to_string())), None),
            };
            let side = if host { Side::Host } else { Side::Guest };
            match watch.prefer(side, path).await {
                Ok(()) => (Answer::Done, None),
                Err(error) => (of(&error), None),
            }
        }
    }
}

fn of<E: Classified>(error: &E) -> Answer {
    failed(Failure::from_error(error))
}

fn failed(failure: Failure) -> Answer {
    Answer::Failed(failure.into())
}
