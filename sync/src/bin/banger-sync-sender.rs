//! The host's half as a program of its own, for `make bench-sync` and `make bench-latency`: observes a working tree and prepares it behind a
//! real SSH server, then says on one line of JSON how long each step took and what memory it needed.
//!
//! `banger-sync-sender observe SOURCE [MEMORY]`, or
//! `banger-sync-sender prepare ADDRESS USER HOST_KEY_FILE IDENTITY RECEIVER SOURCE ROOT [MEMORY]`, or the same with
//! `follow`: keeps ROOT in step until its standard input ends, and answers each line there with the digest both sides
//! have then. Users have `banger`.

use std::error::Error;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use banger_sync::overlay::{ObserveOptions, Overlay, observe_with};
use banger_sync::prepare::{Receiver, WORTH_ASKING};
use banger_sync::quote::shell_quote;
use banger_sync::ssh::{Connection, SshTarget};
use banger_sync::watch::cycle::Tuning;
use banger_sync::watch::{Mode, Reach, Reaching, Unreachable, WatchOptions, start};
use tokio::io::AsyncBufReadExt as _;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(line) => {
            let _ = writeln!(std::io::stdout(), "{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let mut cause: Option<&dyn Error> = Some(&*error);
            while let Some(one) = cause {
                let _ = writeln!(std::io::stderr(), "{one}");
                cause = one.source();
            }
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<String, Box<dyn Error>> {
    match words {
        ["observe", source, memory @ ..] => {
            let (overlay, seconds) = observed(source, memory.first().copied())?;
            let files = overlay.manifest.entries.len();
            Ok(format!(
                r#"{{"observe_seconds": {seconds}, "files": {files}, "tree_digest": "{}", "peak_rss_kib": {}}}"#,
                overlay.tree_digest(),
                peak_rss_kib()
            ))
        }
        ["prepare", address, user, host_key, identity, receiver, source, root, memory @ ..] => {
            let target = target([address, user, host_key, identity])?;
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            runtime.block_on(prepared(&target, receiver, (source, memory.first().copied()), root))
        }
        ["follow", address, user, host_key, identity, receiver, source, root] => {
            let target = target([address, user, host_key, identity])?;
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            runtime.block_on(followed(target, receiver, source, root))?;
            Ok("{}".into())
        }
        _ => Err("usage: banger-sync-sender observe SOURCE [MEMORY] | prepare ADDRESS USER HOST_KEY_FILE IDENTITY RECEIVER SOURCE ROOT [MEMORY]".into()),
    }
}

fn target([address, user, host_key, identity]: [&str; 4]) -> Result<SshTarget, Box<dyn Error>> {
    Ok(SshTarget {
        address: address.parse()?,
        user: user.to_owned(),
        host_key: std::fs::read_to_string(host_key)?,
        identity: identity.into(),
    })
}

/// A server that is always there.
struct Server(SshTarget);

impl Reach for Server {
    fn connect(&self) -> Reaching<'_> {
        Box::pin(async { Connection::connect(&self.0).await.map_err(|error| Unreachable { why: error.to_string() }) })
    }
}

async fn followed(target: SshTarget, receiver: &str, source: &str, root: &str) -> Result<(), Box<dyn Error>> {
    let options = WatchOptions {
        path: source.into(),
        observe: ObserveOptions::default(),
        guest_path: root.to_owned(),
        command: format!("{} --root {}", shell_quote(receiver), shell_quote(root)),
        mode: Mode::OneWaySafe,
        budget: Some(usize::MAX),
        memory_file: None,
        tuning: Tuning::default(),
        worth_asking: WORTH_ASKING,
    };
    let (watch, running) = start(options, Arc::new(Server(target)), None).await?;
    let mut lines = tokio::io::BufReader::new(tokio::io::stdin()).lines();
    while lines.next_line().await?.is_some() {
        let flushed = watch.flush().await?;
        writeln!(std::io::stdout(), "{} {}", flushed.guest, flushed.conflicts.len())?;
    }
    watch.stop();
    running.await?;
    Ok(())
}

fn observed(source: &str, memory: Option<&str>) -> Result<(Overlay, f64), Box<dyn Error>> {
    let began = Instant::now();
    let overlay = observe_with(Path::new(source), &ObserveOptions::default(), |_| memory.map(PathBuf::from))?;
    Ok((overlay, began.elapsed().as_secs_f64()))
}

async fn prepared(
    target: &SshTarget,
    receiver: &str,
    (source, memory): (&str, Option<&str>),
    root: &str,
) -> Result<String, Box<dyn Error>> {
    let command = format!("{} --root {}", shell_quote(receiver), shell_quote(root));
    // As `banger vm workspace prepare` does: the receiver is started while the tree is read.
    let began = Instant::now();
    let (source, memory) = (source.to_owned(), memory.map(str::to_owned));
    let observing =
        tokio::task::spawn_blocking(move || observed(&source, memory.as_deref()).map_err(|error| error.to_string()));
    let opening = async {
        let connection = Connection::connect(target).await?;
        let receiver = Receiver::open_with(&connection, &command).await?;
        Ok::<_, Box<dyn Error>>((connection, receiver, began.elapsed().as_secs_f64()))
    };
    let (observed, opened) = tokio::join!(observing, opening);
    let ((overlay, observe), (connection, receiver, connect)) = (observed??, opened?);
    let began = Instant::now();
    let prepared = receiver.prepare(&overlay, root, &|_| {}).await?;
    let prepare = began.elapsed().as_secs_f64();
    connection.close().await;
    Ok(format!(
        r#"{{"connect_seconds": {connect}, "observe_seconds": {observe}, "prepare_seconds": {prepare}, "files_sent": {}, "bytes_sent": {}, "conflicts": {}, "tree_digest": "{}", "peak_rss_kib": {}}}"#,
        prepared.files_sent,
        prepared.bytes_sent,
        prepared.conflicts.len(),
        prepared.tree_digest,
        peak_rss_kib()
    ))
}

/// The kernel's own count; 0 where it does not say.
fn peak_rss_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}
