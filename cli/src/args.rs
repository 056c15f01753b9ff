//! What may be typed before the command, and the value types several commands share. Pure: meaning that needs the
//! system (defaults, the daemon) comes later.

mod deferred;

use std::fmt;
use std::str::FromStr;

use clap::{Args, Command, CommandFactory as _, Parser, ValueEnum};

pub use self::deferred::{Deferred, quickly};
use crate::ui::ColorWhen;

/// Most virtual CPUs a VM can be asked to have.
pub const MAX_VCPU: u32 = 64;

/// Disposable Linux microVMs with your git repository already in them
///
/// The command for nearly everything: boot a VM with the repository in it, run something there, delete the VM:
///
///     banger vm run --rm ./repo -- make test
///
/// Or stay in it with a shell, and come back later:
///
///     banger vm run ./repo
///     banger vm list
///     banger vm ssh NAME
///     banger vm delete NAME
///
/// Nothing needs to be started first: the daemon bangerd starts on demand and ends when it has been idle. For VMs with
/// Firecracker and a network of their own, an administrator installs it once: `banger system install --help`.
/// Ask `banger doctor` whether this host is ready, and `banger help vm run` for every option.
///
/// Configuration: ~/.config/banger/config.toml, every key optional:
///
///     default_image = "debian-bookworm"
///     [vm_defaults]
///     vcpu = 2            # automatic: a quarter of the host's CPUs, 1 to 4
///     memory = "4G"       # automatic: an eighth of the host's memory, 1 to 8 GiB
///     disk_size = "8G"    # the work disk, mounted at /root
///     [[file_sync]]       # as many as you like: a file or directory of your home that every VM gets at each start
///     host = "~/.netrc"
///     guest = "~/.netrc"
///     mode = "0600"       # of a file; automatic: 0600
#[derive(Debug, Parser)]
#[command(name = "banger", version = crate::view::version::one_line(), verbatim_doc_comment)]
#[command(subcommand_required = true, arg_required_else_help = true, disable_help_subcommand = false)]
pub struct Cli {
    /// Flags every command has.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub command: crate::commands::Command,
}

/// The whole command line. Paragraphs of its help are joined to one line each, for the terminal to wrap; indented
/// examples stay as they are.
pub fn command() -> Command {
    reflow(Cli::command())
}

fn reflow(command: Command) -> Command {
    let command = match command.get_long_about().map(ToString::to_string) {
        Some(text) => command.long_about(join_paragraphs(&text)),
        None => command,
    };
    command.mut_subcommands(reflow)
}

fn join_paragraphs(text: &str) -> String {
    let mut joined = String::new();
    let mut previous = "";
    for line in text.trim_end().lines() {
        let continues =
            !previous.is_empty() && !line.is_empty() && !previous.starts_with(' ') && !line.starts_with(' ');
        match (joined.is_empty(), continues) {
            (true, _) => {}
            (false, true) => joined.push(' '),
            (false, false) => joined.push('\n'),
        }
        joined.push_str(line);
        previous = line;
    }
    joined
}

/// Flags every command has.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// Print data as JSON on stdout, and warnings and errors as JSON on stderr
    #[arg(long, global = true)]
    pub json: bool,
    /// Print only data, warnings and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Print more about what is done
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// When to use colours; NO_COLOR is honoured
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: ColorWhen,
    /// Use this user's own bangerd, even where banger is installed and whatever BANGER_MODE says
    #[arg(long, global = true)]
    pub rootless: bool,
}

/// How far a start waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Wait {
    /// Commands run in the guest; services may still be starting
    #[default]
    Reachable,
    /// The guest's init system has started everything, and its SSH server answers if it has one
    Booted,
}

impl From<Wait> for banger_proto::v1::WaitFor {
    fn from(wait: Wait) -> Self {
        match wait {
            Wait::Reachable => Self::Reachable,
            Wait::Booted => Self::Booted,
        }
    }
}

/// `HOST:GUEST`, two TCP ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortPair {
    /// On 127.0.0.1 of the host.
    pub host: u16,
    /// In the guest.
    pub guest: u16,
}

impl FromStr for PortPair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let port = |text: &str| text.parse::<u16>().ok().filter(|&port| port != 0);
        let pair = text.split_once(':').and_then(|(host, guest)| Some(Self { host: port(host)?, guest: port(guest)? }));
        pair.ok_or_else(|| "write HOST:GUEST with two ports from 1 to 65535, like 8080:80".to_owned())
    }
}

/// An absolute path in a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestPath(String);

impl GuestPath {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for GuestPath {
    fn default() -> Self {
        Self(banger_proto::guest_contract::DEFAULT_GUEST_PATH.to_owned())
    }
}

impl fmt::Display for GuestPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for GuestPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let trimmed = text.trim_end_matches('/');
        let sound = trimmed.starts_with('/') && !trimmed.split('/').any(|part| part == "..") && !trimmed.contains('\0');
        if sound {
            Ok(Self(trimmed.to_owned()))
        } else {
            Err("write an absolute path below / without \"..\", like /root/repo".to_owned())
        }
    }
}

#[cfg(test)]
mod tests;
