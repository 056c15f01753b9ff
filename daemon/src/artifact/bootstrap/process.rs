//! One child with its own process group, its messages line by line, its output to a reader, and an end.
//!
//! Cancelling asks the whole group to end, so that mmdebstrap can unmount and clean up, and kills it when
//! that takes too long. Dropping the future kills the group at once. Nothing survives either.

use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

const TAIL_LINES: usize = 25;
/// mmdebstrap needs a moment to remove its tree.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Outcome<T, E> {
    pub success: bool,
    pub result: Result<T, E>,
    /// The reader gave up while the child was still fine.
    pub consumer_failed_first: bool,
    pub tail: Vec<String>,
}

pub(super) enum ProcessError {
    Start(io::Error),
    Cancelled,
}

/// Kills the group on drop, unless the leader was seen to end.
struct Group {
    leader: Option<Pid>,
}

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.leader {
            // ESRCH: everybody has gone already.
            let _ = kill_process_group(leader, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

pub(super) async fn run<T: Send + 'static, E: Send + 'static>(
    mut command: Command,
    cancel: &CancellationToken,
    consume: impl FnOnce(File) -> Result<T, E> + Send + 'static,
    mut on_line: impl FnMut(&str),
) -> Result<Outcome<T, E>, ProcessError> {
    if cancel.is_cancelled() {
        return Err(ProcessError::Cancelled);
    }
    let repeated = script_lines(&command);
    let mut child = command
        .process_group(0)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(ProcessError::Start)?;
    let group = Group { leader: child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) };
    let stdout: OwnedFd = child.stdout.take().expect("piped above").into_owned_fd().map_err(ProcessError::Start)?;
    let mut lines = BufReader::new(child.stderr.take().expect("piped above")).split(b'\n');
    let mut reader = tokio::task::spawn_blocking(move || consume(File::from(stdout)));
    let mut result = None;
    let mut consumer_failed_first = false;
    let mut tail = VecDeque::with_capacity(TAIL_LINES);
    loop {
        tokio::select! {
            () = cancel.cancelled() => {
                end(&mut child, &group).await;
                if result.is_none() {
                    let _ = reader.await;
                }
                return Err(ProcessError::Cancelled);
            }
            finished = &mut reader, if result.is_none() => {
                let finished = finished.expect("the reader does not panic");
                if finished.is_err() {
                    // Nobody wants the output any more; the rest of the work would be wasted.
                    consumer_failed_first = true;
                    result = Some(finished);
                    end(&mut child, &group).await;
                    break;
                }
                result = Some(finished);
            }
            line = lines.next_segment() => match line {
                Ok(Some(bytes)) => {
                    let line = String::from_utf8_lossy(&bytes);
                    let line = line.trim_end();
                    if !line.is_empty() {
                        on_line(line);
                        if repeated.contains(line) {
                            continue;
                        }
                        if tail.len() == TAIL_LINES {
                            tail.pop_front();
                        }
                        tail.push_back(line.to_owned());
                    }
                }
                Ok(None) | Err(_) => break,
            },
        }
    }
    let status = tokio::select! {
        status = child.wait() => status,
        () = cancel.cancelled() => {
            end(&mut child, &group).await;
            if result.is_none() {
                let _ = reader.await;
            }
            return Err(ProcessError::Cancelled);
        }
    };
    let result = match result {
        Some(result) => result,
        None => reader.await.expect("the reader does not panic"),
    };
    Ok(Outcome {
        success: status.is_ok_and(|status| status.success()),
        result,
        consumer_failed_first,
        tail: tail.into(),
    })
}

/// The lines of arguments that are scripts. mmdebstrap repeats a hook that failed, whole, and what the hook said of the reason
/// would be pushed out of the last words by it.
fn script_lines(command: &Command) -> HashSet<String> {
    let arguments = command.as_std().get_args().filter_map(|argument| argument.to_str());
    let scripts = arguments.filter(|argument| argument.contains('\n'));
    scripts.flat_map(str::lines).map(|line| line.trim_end().to_owned()).collect()
}

/// Ends the group and waits for its leader.
async fn end(child: &mut Child, group: &Group) {
    group.signal(Signal::TERM);
    if tokio::time::timeout(PATIENCE, child.wait()).await.is_err() {
        group.signal(Signal::KILL);
        let _ = child.wait().await;
    }
    // Members that outlived the leader.
    group.signal(Signal::KILL);
}
