//! `banger-boundary`: a client of bangerd-root for scenarios. See [`banger_smoke::boundary`].

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use banger_proto::root::v1 as wire;
use banger_smoke::boundary::{Answer, Client, VERSION, hammer, render, words};
use prost::Message as _;
use rustix::process::{Pid, Signal, kill_process};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["hammer", frames, seed, ref vms @ ..] => hammer::run(frames, seed, vms).map(|text| (text, 0)),
        ["flood", connections] => hammer::flood(connections).map(|text| (text, 0)),
        ["kill-after", milliseconds, pid, ref words @ ..] => kill_after(milliseconds, pid, words),
        _ => ask(&words),
    };
    let (text, status) = outcome.unwrap_or_else(|error| (format!("error: {error}"), 6));
    // A script that does not read still sees the status.
    let _ = writeln!(std::io::stdout(), "{text}");
    ExitCode::from(status)
}

fn ask(words: &[&str]) -> io::Result<(String, u8)> {
    let Some(request) = request(words) else { return Ok((words::USAGE.to_owned(), 2)) };
    answered(Client::connect()?.ask(&request))
}

/// Asks, kills the helper so much later, and says whether the answer came before that.
fn kill_after(milliseconds: &str, pid: &str, words: &[&str]) -> io::Result<(String, u8)> {
    let asked = (request(words), milliseconds.parse().ok(), pid.parse().ok().and_then(Pid::from_raw));
    let (Some(request), Some(milliseconds), Some(pid)) = asked else { return Ok((words::USAGE.to_owned(), 2)) };
    let client = Client::connect()?;
    client.send(&request)?;
    std::thread::sleep(Duration::from_millis(milliseconds));
    kill_process(pid, Signal::KILL)?;
    answered(client.answer())
}

fn request(words: &[&str]) -> Option<Vec<u8>> {
    let operation_id = format!("smoke-{}", std::process::id());
    let operation = Some(words::parse(words)?);
    Some(wire::Request { version: VERSION, operation_id, operation }.encode_to_vec())
}

fn answered(answer: io::Result<Option<Answer>>) -> io::Result<(String, u8)> {
    Ok(match answer? {
        Some(answer) => {
            let (value, status) = render(&answer);
            (value.to_string(), status)
        }
        None => ("error: the helper hung up".to_owned(), 6),
    })
}
