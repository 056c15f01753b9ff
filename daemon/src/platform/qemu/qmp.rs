//! One question to a running QEMU over its monitor socket (QMP, one JSON object a line).
//!
//! QEMU serves one monitor client at a time, so a connection is opened for a question and closed after it;
//! nothing here stays connected, and nothing here changes the machine.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Take};
use tokio::net::UnixStream;

/// What a monitor says before it is asked.
const GREETING: &str = "the greeting";
/// Far above any answer we ask for.
const ANSWER_LIMIT: u64 = 1 << 20;
/// A monitor that is alive answers within milliseconds; a host under load gets the benefit of the doubt.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a question got no answer.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// Nobody listens there.
    #[error("cannot connect to the QEMU monitor at {}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the QEMU monitor broke off at {command:?}")]
    Broken {
        /// What was asked.
        command: String,
        /// The cause.
        source: io::Error,
    },
    /// Not what the protocol promises.
    #[error("the QEMU monitor answered {command:?} with {answer}")]
    Unexpected {
        /// What was asked.
        command: String,
        /// What came.
        answer: String,
    },
    /// It did not answer in time.
    #[error("the QEMU monitor did not answer {command:?} within {} s", PATIENCE.as_secs())]
    Slow {
        /// What was asked.
        command: String,
    },
}

impl QmpError {
    /// The socket is not there yet, or not any more.
    pub fn nobody_listens(&self) -> bool {
        match self {
            // Reset: it was in the queue of a listener that is closed.
            Self::Connect { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset
            ),
            // A machine that is just ending: it was connected to, and never said a word.
            Self::Broken { command, source } => {
                command == GREETING
                    && matches!(source.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
            }
            _ => false,
        }
    }
}

/// Runs one human monitor command and returns its text.
///
/// # Errors
/// [`QmpError`].
pub async fn ask(socket: &Path, command: &str) -> Result<String, QmpError> {
    tokio::time::timeout(PATIENCE, converse(socket, command))
        .await
        .unwrap_or_else(|_| Err(QmpError::Slow { command: command.to_owned() }))
}

async fn converse(socket: &Path, command: &str) -> Result<String, QmpError> {
    let stream =
        UnixStream::connect(socket).await.map_err(|source| QmpError::Connect { path: socket.to_owned(), source })?;
    let mut stream = BufReader::new(stream.take(ANSWER_LIMIT));
    let greeting = read_object(&mut stream, GREETING).await?;
    if greeting.get("QMP").is_none() {
        return Err(QmpError::Unexpected { command: GREETING.into(), answer: greeting.to_string() });
    }
    execute(&mut stream, "qmp_capabilities", json!({})).await?;
    let answer = execute(&mut stream, "human-monitor-command", json!({ "command-line": command })).await?;
    match answer {
        Value::String(text) => Ok(text),
        other => Err(QmpError::Unexpected { command: command.to_owned(), answer: other.to_string() }),
    }
}

type Stream = BufReader<Take<UnixStream>>;

async fn execute(stream: &mut Stream, command: &str, arguments: Value) -> Result<Value, QmpError> {
    let mut request = json!({ "execute": command, "arguments": arguments }).to_string();
    request.push('\n');
    stream
        .get_mut()
        .get_mut()
        .write_all(request.as_bytes())
        .await
        .map_err(|source| QmpError::Broken { command: command.to_owned(), source })?;
    loop {
        let mut answer = read_object(stream, command).await?;
        if let Some(returned) = answer.get_mut("return") {
            return Ok(returned.take());
        }
        // Events may come between a command and its answer.
        if answer.get("event").is_none() {
            return Err(QmpError::Unexpected { command: command.to_owned(), answer: answer.to_string() });
        }
    }
}

async fn read_object(stream: &mut Stream, command: &str) -> Result<Value, QmpError> {
    let broken = |source| QmpError::Broken { command: command.to_owned(), source };
    let mut line = String::new();
    if stream.read_line(&mut line).await.map_err(broken)? == 0 {
        return Err(broken(io::ErrorKind::UnexpectedEof.into()));
    }
    serde_json::from_str(&line)
        .map_err(|_| QmpError::Unexpected { command: command.to_owned(), answer: format!("{line:?}") })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A monitor that says `lines` one after another, reading a request before each but the first.
    async fn monitor(lines: &'static [&'static str]) -> (tempfile::TempDir, PathBuf) {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("qmp.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            for (index, line) in lines.iter().enumerate() {
                if index > 0 {
                    stream.read_line(&mut String::new()).await.unwrap();
                }
                stream.write_all(line.as_bytes()).await.unwrap();
            }
        });
        (scratch, path)
    }

    const GREETING: &str = "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n";

    #[tokio::test]
    async fn events_between_question_and_answer_are_skipped() {
        let (_scratch, path) =
            monitor(&[GREETING, "{\"return\": {}}\r\n", "{\"event\": \"RESUME\"}\r\n{\"return\": \"text\"}\r\n"]).await;
        assert_eq!(ask(&path, "info usernet").await.unwrap(), "text");
    }

    #[tokio::test]
    async fn an_error_answer_is_told_with_the_command() {
        let (_scratch, path) = monitor(&[GREETING, "{\"error\": {\"desc\": \"no\"}}\r\n"]).await;
        let error = ask(&path, "info usernet").await.unwrap_err().to_string();
        assert!(error.contains("qmp_capabilities") && error.contains("\"no\""), "{error}");
    }

    #[tokio::test]
    async fn a_closed_monitor_is_an_error_and_an_absent_one_can_be_told_apart() {
        let (_scratch, path) = monitor(&[GREETING]).await;
        assert!(!ask(&path, "x").await.unwrap_err().nobody_listens());
        assert!(ask(Path::new("/nonexistent/qmp.sock"), "x").await.unwrap_err().nobody_listens());
    }
}
