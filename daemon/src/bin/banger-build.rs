//! Image builds outside of bangerd's sandbox. See [`bangerd::artifact::bootstrap::service`].

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use bangerd::artifact::bootstrap::service;

fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    let outcome = match arguments.first().map(String::as_str) {
        Some("--version") => {
            let version = banger_proto::version::VERSION;
            // Nobody reads a version that cannot be written.
            let _ = writeln!(std::io::stdout(), "banger-build {version}");
            Ok(0)
        }
        // systemd gives the connection as standard input.
        Some("--serve") => std::io::stdin()
            .as_fd()
            .try_clone_to_owned()
            .map_err(|source| service::ServiceError::Broken { source })
            .and_then(|connection| service::serve(UnixStream::from(connection)))
            .map(|()| 0),
        _ => service::ask(&arguments),
    };
    match outcome {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
            // Where nobody listens the exit status must do.
            let _ = writeln!(std::io::stderr(), "error: {error}{source}");
            ExitCode::FAILURE
        }
    }
}
