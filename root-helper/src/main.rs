//! The privileged service of the supported path. This build only refuses to start.

use std::io::Write as _;
use std::process::ExitCode;

use banger_proto::failure::Kind;
use banger_proto::version::{COMMIT, VERSION};

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == "--version") {
        // Nobody reads a version that cannot be written.
        let _ = writeln!(std::io::stdout(), "bangerd-root {VERSION} (commit {COMMIT})");
        return ExitCode::SUCCESS;
    }
    let _ = writeln!(
        std::io::stderr(),
        "error: bangerd-root cannot serve: the supported path (two systemd services) is not in this build yet\n\
         hint: Use the rootless mode, which needs no root: `banger vm run ./repo -- make test`."
    );
    ExitCode::from(Kind::HostNotReady.exit_code())
}
