//! The privileged service of the supported path. See [`bangerd_root`].

use std::io::Write as _;
use std::process::ExitCode;

use banger_proto::failure::{Classified, Failure, Kind};
use banger_proto::names::VmId;
use banger_proto::version::{COMMIT, VERSION};
use bangerd_root::teardown_all::{self, Extent};
use bangerd_root::{run_vm, serve};

const USAGE: &str = "usage: bangerd-root serve | run-vm ID | teardown-all | remove-network | --version";

fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        ["--version"] => {
            // Nobody reads a version that cannot be written.
            let _ = writeln!(std::io::stdout(), "bangerd-root {VERSION} (commit {COMMIT})");
            Ok(())
        }
        ["serve"] => serve::run().map(|never| match never {}).map_err(failure),
        ["run-vm", id] => match id.parse::<VmId>() {
            Ok(vm) => run_vm::run(&vm).map(|never| match never {}).map_err(failure),
            Err(error) => Err(Failure::new(Kind::Usage, error.to_string())),
        },
        ["teardown-all"] => take_away(Extent::Everything),
        ["remove-network"] => take_away(Extent::Network),
        _ => Err(Failure::new(Kind::Usage, USAGE)),
    };
    outcome.map_or_else(report, |()| ExitCode::SUCCESS)
}

fn take_away(extent: Extent) -> Result<(), Failure> {
    match teardown_all::run(extent, &mut std::io::stdout()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::new(Kind::Failed, "cannot take everything away")),
        Err(error) => Err(failure(error)),
    }
}

fn failure(error: impl Classified) -> Failure {
    Failure::from_error(&error)
}

fn report(failure: Failure) -> ExitCode {
    let hints: String = failure.hints.iter().map(|hint| format!("\nhint: {hint}")).collect();
    // Where nobody listens the exit status must do.
    let _ = writeln!(std::io::stderr(), "error: {failure}{hints}");
    ExitCode::from(failure.kind.exit_code())
}
