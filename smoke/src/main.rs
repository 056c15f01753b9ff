//! `banger-smoke`: the product on a real supported host. See [`banger_smoke`].

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    banger_smoke::main(&banger_smoke::args::Cli::parse())
}
