//! The `banger` program. Everything is in the library, so that tests and the generated reference see it too.

fn main() -> std::process::ExitCode {
    std::process::ExitCode::from(banger_cli::run_program(std::env::args_os()))
}
