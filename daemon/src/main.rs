//! bangerd, the program: command line, log, exit code. What it does is in [`bangerd::startup`].

use std::io::Write as _;
use std::process::ExitCode;

use bangerd::args::Args;
use bangerd::ready::Ready;
use bangerd::startup;
use clap::Parser as _;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let args = Args::parse();
    let filter = EnvFilter::try_from_env("BANGER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();

    let mut ready = match Ready::take(args.ready_fd) {
        Ok(ready) => ready,
        Err(problem) => {
            tracing::error!("{problem}");
            return ExitCode::from(2);
        }
    };
    match startup::run(&args, &mut ready) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // The log and a person at a terminal read the same; nobody reading is no second failure.
            let _ = std::io::stderr().write_all(startup::render(&failure).as_bytes());
            ready.announce_failure(&failure);
            ExitCode::from(failure.kind.exit_code())
        }
    }
}
