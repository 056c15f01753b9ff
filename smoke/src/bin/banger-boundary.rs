//! `banger-boundary`: a client of bangerd-root for scenarios. See [`banger_smoke::boundary`].

use std::io::Write as _;
use std::process::ExitCode;

use banger_proto::root::v1 as wire;
use banger_smoke::boundary::{Client, VERSION, hammer, render, words};
use prost::Message as _;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["hammer", frames, seed, ref vms @ ..] => hammer::run(frames, seed, vms).map(|text| (text, 0)),
        ["flood", connections] => hammer::flood(connections).map(|text| (text, 0)),
        _ => ask(&words),
    };
    let (text, status) = outcome.unwrap_or_else(|error| (format!("error: {error}"), 6));
    // A script that does not read still sees the status.
    let _ = writeln!(std::io::stdout(), "{text}");
    ExitCode::from(status)
}

fn ask(words: &[&str]) -> std::io::Result<(String, u8)> {
    let Some(operation) = words::parse(words) else { return Ok((words::USAGE.to_owned(), 2)) };
    let operation_id = format!("smoke-{}", std::process::id());
    let request = wire::Request { version: VERSION, operation_id, operation: Some(operation) };
    Ok(match Client::connect()?.ask(&request.encode_to_vec())? {
        Some(answer) => {
            let (value, status) = render(&answer);
            (value.to_string(), status)
        }
        None => ("error: the helper hung up".to_owned(), 6),
    })
}
