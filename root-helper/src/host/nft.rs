//! The one program the helper starts: nft, by its absolute path, with no environment, fed one JSON batch.
//!
//! A batch is one kernel transaction: all of it or nothing.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::error::{Step, StepError, step};

const NFT: &str = "/usr/sbin/nft";
const LIMIT: Duration = Duration::from_secs(10);
/// Of what it says; the tables of a full network of 4094 guests are under this.
const OUTPUT_LIMIT: u64 = 16 << 20;

/// What nft printed, or what it complained about.
#[derive(Debug)]
pub struct Answer {
    /// It did it.
    pub is_done: bool,
    /// Standard output, or standard error if it did not.
    pub text: String,
}

/// Runs a batch.
pub fn run(batch: &Value) -> Step<Answer> {
    let attempt = || format!("run {NFT}");
    let mut child = Command::new(NFT)
        .args(["-j", "-f", "-"])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(step(attempt()))?;
    let mut input = child.stdin.take().expect("it was asked for");
    let mut output = child.stdout.take().expect("it was asked for").take(OUTPUT_LIMIT);
    let mut complaint = child.stderr.take().expect("it was asked for").take(OUTPUT_LIMIT);
    let text = batch.to_string();
    std::thread::scope(|scope| {
        // Three pipes, none of which may fill while another is waited for. They end with the child.
        scope.spawn(move || {
            // A child that does not read says why on its standard error.
            let _ = input.write_all(text.as_bytes());
        });
        let output = scope.spawn(move || {
            let mut bytes = Vec::new();
            output.read_to_end(&mut bytes).map(|_| bytes)
        });
        let complaint = scope.spawn(move || {
            let mut bytes = Vec::new();
            complaint.read_to_end(&mut bytes).map(|_| bytes)
        });
        let ended = wait(&mut child);
        let text = |reader: std::thread::ScopedJoinHandle<'_, std::io::Result<Vec<u8>>>| {
            let bytes = reader.join().ok().and_then(Result::ok).unwrap_or_default();
            String::from_utf8_lossy(&bytes).trim().to_owned()
        };
        let (output, complaint) = (text(output), text(complaint));
        let is_done = ended?;
        Ok(Answer { is_done, text: if is_done { output } else { complaint } })
    })
}

/// True if it ended well.
fn wait(child: &mut std::process::Child) -> Step<bool> {
    let attempt = || format!("wait for {NFT}");
    let give_up = Instant::now() + LIMIT;
    let pidfd = rustix::process::Pid::from_child(child);
    let pidfd = rustix::process::pidfd_open(pidfd, rustix::process::PidfdFlags::empty());
    let pidfd = pidfd.map_err(|error| StepError::new(attempt(), std::io::Error::from(error)))?;
    if super::process::ends_by(&pidfd, give_up) {
        return Ok(child.wait().map_err(step(attempt()))?.success());
    }
    // Killed and reaped, so that its pipes end.
    let _ = child.kill();
    let _ = child.wait();
    Err(StepError::new(attempt(), format!("it did not end within {} s", LIMIT.as_secs())))
}
