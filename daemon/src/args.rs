//! The daemon's command line.

use std::time::Duration;

use clap::Parser;

use crate::mode::Mode;

/// Serves the banger command line: keeps VMs, images and kernels.
///
/// Usually started by `banger` itself; runs until idle. VMs keep running when it ends.
#[derive(Debug, Clone, Parser)]
#[command(name = "bangerd", version = VERSION)]
pub struct Args {
    /// Run as an ordinary user, with QEMU and XDG directories (the default).
    #[arg(long)]
    pub rootless: bool,

    /// Run as the service of an installation, with Firecracker and the root helper; never exits by itself.
    #[arg(long, conflicts_with_all = ["rootless", "idle_exit_seconds"])]
    pub system: bool,

    /// Exit after this long without connections, operations and running VMs; 0 never exits.
    #[arg(long, value_name = "N", default_value_t = 300)]
    pub idle_exit_seconds: u64,

    /// Write one line of JSON to this descriptor once it is known whether the start worked.
    #[arg(long, value_name = "N")]
    pub ready_fd: Option<i32>,
}

/// As in the CLI's `--version`.
const VERSION: &str = banger_proto::version::VERSION;

impl Args {
    /// Which of the two.
    pub fn mode(&self) -> Mode {
        if self.system { Mode::System } else { Mode::Rootless }
    }

    /// How long to idle. A service manager decides when its service runs.
    pub fn idle_exit(&self) -> Option<Duration> {
        (self.mode() == Mode::Rootless && self.idle_exit_seconds > 0)
            .then(|| Duration::from_secs(self.idle_exit_seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Args::command().debug_assert();
    }

    #[test]
    fn zero_means_never() {
        let args = Args::parse_from(["bangerd", "--idle-exit-seconds", "0"]);
        assert_eq!(args.idle_exit(), None);
        assert_eq!(Args::parse_from(["bangerd"]).idle_exit(), Some(Duration::from_secs(300)));
    }

    #[test]
    fn a_service_does_not_leave_by_itself() {
        let args = Args::parse_from(["bangerd", "--system"]);
        assert_eq!((args.mode(), args.idle_exit()), (Mode::System, None));
        assert!(Args::try_parse_from(["bangerd", "--system", "--rootless"]).is_err());
    }
}
