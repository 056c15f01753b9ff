//! `banger-bench boot|first-output|image|sync|latency`: `vm run` beside the same machine started by hand, container images
//! beside the default one, pulling one beside the tools people chain, the workspace engine and a session that follows
//! edits beside what people use instead. See [`banger_tests::bench`].

use std::io::Write as _;
use std::process::ExitCode;

use banger_tests::bench::{boot, first_output, image, latency, sync};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().unwrap_or_default();
    let default = match what.as_str() {
        "latency" => 200,
        _ => 5,
    };
    let rounds = arguments.next().map_or(Some(default), |rounds| rounds.parse().ok());
    let (table, path) = match (what.as_str(), rounds.filter(|rounds| *rounds > 0)) {
        ("boot", Some(rounds)) => {
            let report = boot::measure(rounds);
            (boot::render(&report), boot::write(&report))
        }
        ("first-output", Some(rounds)) => match first_output::measure(rounds) {
            Some(report) => (first_output::render(&report), first_output::write(&report)),
            None => return ExitCode::FAILURE,
        },
        ("image", Some(rounds)) => match image::measure(rounds) {
            Some(report) => (image::render(&report), image::write(&report)),
            None => return ExitCode::FAILURE,
        },
        ("sync", Some(_)) if !installed("rsync") => return ExitCode::FAILURE,
        ("sync", Some(rounds)) => {
            let report = sync::measure(rounds);
            (sync::render(&report), sync::write(&report))
        }
        ("latency", Some(_)) if !installed("lsyncd") => return ExitCode::FAILURE,
        ("latency", Some(saves)) => {
            let report = latency::measure(saves);
            (latency::render(&report), latency::write(&report))
        }
        _ => {
            let _ = writeln!(std::io::stderr(), "usage: banger-bench boot|first-output|image|sync|latency [ROUNDS]");
            return ExitCode::from(2);
        }
    };
    let _ = writeln!(std::io::stdout(), "{table}\nwritten to {}", path.display());
    ExitCode::SUCCESS
}

/// What is measured beside; no test needs it, so `make install-deps` does not bring it.
fn installed(program: &str) -> bool {
    let found = std::process::Command::new("sh").args(["-c", "command -v \"$0\" >/dev/null", program]).status();
    let found = found.is_ok_and(|status| status.success());
    if !found {
        let hint = format!("error: {program} is not installed\nhint: Run `sudo apt-get install {program}`.");
        let _ = writeln!(std::io::stderr(), "{hint}");
    }
    found
}
