//! Asking a session: one line of JSON there, one back, on a socket in a directory that only its owner may enter.

use std::time::Duration;

use banger_proto::failure::{Failure, Kind};
use banger_sync::watch::Side;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use super::record::Place;
use crate::error::CliError;
use crate::view::follow::{FlushedView, StatusView};

/// Longest line.
pub const LINE_LIMIT: u64 = 16 << 20;
/// For everything that needs no guest.
const PATIENCE: Duration = Duration::from_secs(20);
/// For a session that goes on: longer than it takes for that at most.
const RELEASE_LIMIT: Duration = Duration::from_secs(2);

/// What is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Ask {
    /// How it is.
    Status,
    /// Until both sides are equal.
    Flush,
    /// The same, and nothing is sent until this connection ends.
    Hold,
    /// Send nothing.
    Pause,
    /// Go on.
    Resume,
    /// End.
    Stop,
    /// Settle a conflict.
    Prefer {
        /// For the host, else for the guest.
        host: bool,
        /// Its bytes.
        path: Vec<u8>,
    },
}

/// What is answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// How it is.
    Status(Box<StatusView>),
    /// Both sides are equal.
    Flushed(FlushedView),
    /// Done.
    Done,
    /// Not done.
    Failed(FailureLine),
}

/// A failure on one line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FailureLine {
    kind: String,
    chain: Vec<String>,
    hints: Vec<String>,
}

impl From<Failure> for FailureLine {
    fn from(failure: Failure) -> Self {
        Self { kind: failure.kind.name().to_owned(), chain: failure.chain, hints: failure.hints }
    }
}

impl From<FailureLine> for Failure {
    fn from(line: FailureLine) -> Self {
        let kinds = [Kind::Usage, Kind::NotFound, Kind::Conflict, Kind::Refused, Kind::Unreachable, Kind::HostNotReady];
        let kind = kinds.into_iter().find(|kind| kind.name() == line.kind).unwrap_or(Kind::Failed);
        let mut failure = Self::new(kind, "");
        failure.chain = line.chain;
        failure.hints = line.hints;
        failure
    }
}

impl Ask {
    /// To settle a conflict.
    pub fn prefer(side: Side, path: &str) -> Self {
        Self::Prefer { host: side == Side::Host, path: path.as_bytes().to_vec() }
    }

    fn needs_guest(&self) -> bool {
        matches!(self, Self::Flush | Self::Hold | Self::Prefer { .. })
    }
}

/// A session that keeps the guest's tree as it is, for as long as this lives.
pub struct Holding {
    /// What the tree is.
    pub flushed: FlushedView,
    stream: BufReader<UnixStream>,
}

impl Holding {
    /// Lets the session go on, and waits a moment until its status says so. Dropping it lets it go on, too.
    pub async fn release(mut self) {
        let going_on = async {
            self.stream.shutdown().await?;
            // Nothing comes any more; the session closes its end.
            self.stream.read_u8().await
        };
        let _ = tokio::time::timeout(RELEASE_LIMIT, going_on).await;
    }
}

/// Asks, and waits for the answer.
///
/// # Errors
/// The session's failure, or that it does not answer.
pub async fn ask(place: &Place, ask: &Ask) -> Result<Answer, CliError> {
    Ok(converse(place, ask).await?.0)
}

/// Has the session bring both sides in step and leave the guest's tree alone.
///
/// # Errors
/// As [`ask`].
pub async fn hold(place: &Place) -> Result<Holding, CliError> {
    match converse(place, &Ask::Hold).await? {
        (Answer::Flushed(flushed), stream) => Ok(Holding { flushed, stream }),
        _ => Err(strange()),
    }
}

/// How a session is.
///
/// # Errors
/// As [`ask`].
pub async fn status(place: &Place) -> Result<StatusView, CliError> {
    match ask(place, &Ask::Status).await? {
        Answer::Status(status) => Ok(*status),
        _ => Err(strange()),
    }
}

async fn converse(place: &Place, ask: &Ask) -> Result<(Answer, BufReader<UnixStream>), CliError> {
    let talking = async {
        let mut stream = UnixStream::connect(place.socket()).await?;
        let mut line = serde_json::to_vec(ask)?;
        line.push(b'\n');
        stream.write_all(&line).await?;
        let mut stream = BufReader::new(stream);
        let mut answer = String::new();
        (&mut stream).take(LINE_LIMIT).read_line(&mut answer).await?;
        let answer: Answer = serde_json::from_str(&answer)?;
        Ok::<_, std::io::Error>((answer, stream))
    };
    let no_answer = |why: String| {
        CliError::new(Kind::Failed, "the session does not answer")
            .map(|failure| failure.caused_by(why))
            .hint("See whether it lives with `banger vm workspace status`.")
    };
    let talked = if ask.needs_guest() {
        talking.await
    } else {
        match tokio::time::timeout(PATIENCE, talking).await {
            Ok(talked) => talked,
            Err(_) => return Err(no_answer(format!("nothing within {} s", PATIENCE.as_secs()))),
        }
    };
    match talked {
        Ok((Answer::Failed(failure), _)) => Err(CliError::Failed(Box::new(failure.into()))),
        Ok(answered) => Ok(answered),
        Err(error) => Err(no_answer(error.to_string())),
    }
}

fn strange() -> CliError {
    CliError::new(Kind::Internal, "the session answers something else than it was asked")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn questions_answers_and_failures_survive_the_line() {
        let ask = Ask::prefer(Side::Guest, "a b");
        let line = serde_json::to_string(&ask).unwrap();
        assert_eq!(line, r#"{"ask":"prefer","host":false,"path":[97,32,98]}"#);
        assert!(matches!(serde_json::from_str(&line).unwrap(), Ask::Prefer { host: false, .. }));
        assert_eq!(serde_json::to_string(&Ask::Hold).unwrap(), r#"{"ask":"hold"}"#);
        let failure = Failure::new(Kind::Conflict, "outer").caused_by("inner").hint("Do it.");
        let line = serde_json::to_string(&Answer::Failed(failure.clone().into())).unwrap();
        let Answer::Failed(back) = serde_json::from_str(&line).unwrap() else { panic!("{line}") };
        let back = Failure::from(back);
        assert_eq!((back.kind, back.chain, back.hints), (failure.kind, failure.chain, failure.hints));
    }
}
