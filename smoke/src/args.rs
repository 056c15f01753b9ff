//! What may be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Run banger's scenarios on a supported systemd host
#[derive(Debug, Parser)]
#[command(name = "banger-smoke", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Boot the test host, run scenarios in it, report
    Run(Run),
    /// Boot the test host and stay in it with a shell, until the shell ends
    Shell(Shell),
    /// Only build the test host's image
    Build,
}

/// `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Only these, separated by commas (what installs banger is added where they need it)
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub scenario: Vec<String>,
    /// On this machine instead of one in QEMU: a supported host, as root
    #[arg(long)]
    pub local: bool,
    /// The ordinary user for whom banger is installed, with --local
    #[arg(long, value_name = "USER", env = "SUDO_USER", default_value = "dev")]
    pub owner: String,
    /// Write what the scenarios measured to this file too, as one JSON object
    #[arg(long, value_name = "FILE")]
    pub measurements: Option<PathBuf>,
    /// Print the scenarios and what each claims
    #[arg(long)]
    pub list: bool,
    /// What goes in.
    #[command(flatten)]
    pub given: Given,
}

/// `shell`.
#[derive(Debug, Args)]
pub struct Shell {
    /// Whose shell: root or dev
    #[arg(long, value_name = "USER", default_value = "root", value_parser = ["root", "dev"])]
    pub user: String,
    /// What goes in.
    #[command(flatten)]
    pub given: Given,
}

/// What the runner would otherwise make or download.
#[derive(Debug, Args)]
pub struct Given {
    /// Directory with kernels/ and images/, instead of one filled by `banger kernel pull` and `banger image pull`
    #[arg(long, value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// Directory with firecracker and jailer, instead of the checked download
    #[arg(long, value_name = "DIR")]
    pub fixture: Option<PathBuf>,
}
