//! `banger-bench boot`: `vm run` beside the same machine started by hand. See [`banger_tests::bench`].

use std::io::Write as _;
use std::process::ExitCode;

use banger_tests::bench::boot;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let rounds = match (arguments.next().as_deref(), arguments.next()) {
        (Some("boot"), None) => Some(5),
        (Some("boot"), Some(rounds)) => rounds.parse().ok().filter(|rounds| *rounds > 0),
        _ => None,
    };
    let Some(rounds) = rounds else {
        let _ = writeln!(std::io::stderr(), "usage: banger-bench boot [ROUNDS]");
        return ExitCode::from(2);
    };
    let report = boot::measure(rounds);
    let path = boot::write(&report);
    let _ = writeln!(std::io::stdout(), "{}\nwritten to {}", boot::render(&report), path.display());
    ExitCode::SUCCESS
}
