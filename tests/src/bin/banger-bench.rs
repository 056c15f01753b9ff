//! `banger-bench boot`: `vm run` beside the same machine started by hand. `banger-bench image`: a container image
//! beside the tools people chain. See [`banger_tests::bench`].

use std::io::Write as _;
use std::process::ExitCode;

use banger_tests::bench::{boot, image};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next();
    let rounds = arguments.next().map_or(Some(5), |rounds| rounds.parse().ok().filter(|rounds| *rounds > 0));
    match (what.as_deref(), rounds) {
        (Some("boot"), Some(rounds)) => {
            let report = boot::measure(rounds);
            let path = boot::write(&report);
            say(&format!("{}\nwritten to {}", boot::render(&report), path.display()))
        }
        (Some("image"), Some(rounds)) => match image::measure(rounds) {
            Some(report) => {
                let path = image::write(&report);
                say(&format!("{}\nwritten to {}", image::render(&report), path.display()))
            }
            None => ExitCode::FAILURE,
        },
        _ => {
            let _ = writeln!(std::io::stderr(), "usage: banger-bench boot|image [ROUNDS]");
            ExitCode::from(2)
        }
    }
}

fn say(text: &str) -> ExitCode {
    let _ = writeln!(std::io::stdout(), "{text}");
    ExitCode::SUCCESS
}
