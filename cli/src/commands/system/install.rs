//! `banger system install`.

use std::path::PathBuf;

use banger_proto::failure::Kind;
use banger_proto::install::Subnet;
use clap::Args;

use crate::context::Context;
use crate::error::{CliError, CommandResult};
use crate::install::check::{Asked, plan};
use crate::install::host::Host;
use crate::install::perform::{perform, verify};
use crate::install::program::Given;
use crate::install::require_root;
use crate::view::install::{InstallView, render_installed};

/// Install the services for one user, or bring an installation up to date
///
///     sudo banger system install --owner dev --firecracker ./firecracker --jailer ./jailer
///
/// Checks the host first and changes nothing if something is missing. Programs are taken from the directory of this
/// one; Firecracker and its jailer (1.12 or newer) from there too, from --firecracker and --jailer, or from an earlier
/// installation. Over an earlier installation it replaces what differs and restarts only what changed; VMs keep
/// running. What fails half-way is taken back.
///
/// The owner needs no group, no sudo rule and no root again. Owner and network can be changed while no VM exists.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct InstallArgs {
    /// The ordinary user whose VMs these will be [default: the one of the earlier installation]
    #[arg(long, value_name = "USER")]
    pub owner: Option<String>,
    /// Firecracker's program
    #[arg(long, value_name = "PATH")]
    pub firecracker: Option<PathBuf>,
    /// Firecracker's jailer
    #[arg(long, value_name = "PATH")]
    pub jailer: Option<PathBuf>,
    /// Private IPv4 network of the guests [default: 172.16.0.0/24]
    #[arg(long, value_name = "CIDR")]
    pub network: Option<Subnet>,
    /// Name of the guests' bridge [default: br-fc]
    #[arg(long, value_name = "NAME")]
    pub bridge: Option<String>,
}

/// Runs it.
///
/// # Errors
/// What is in the way, or what failed and was taken back.
pub async fn run(context: &Context, args: InstallArgs) -> CommandResult {
    require_root("system install")?;
    let executable = std::env::current_exe().map_err(|error| {
        CliError::new(Kind::HostNotReady, "cannot tell where this program lies")
            .map(|failure| failure.caused_by(error.to_string()))
    })?;
    let asked = Asked {
        owner: args.owner,
        network: args.network,
        bridge: args.bridge,
        programs: Given { firecracker: args.firecracker, jailer: args.jailer },
    };
    let host = Host::this();
    let plan = plan(&host, &executable, &asked)?;
    context.ui.detail(&format!("installing for {}", plan.install.owner.name));
    let report = perform(&host, &plan, async || verify(&plan).await).await?;
    for left in &report.left_behind {
        context.ui.warn(&format!("cannot remove a former file: {left}"));
    }
    if context.ui.is_json() {
        context.ui.json(&InstallView::new(&plan, &report))?;
    } else {
        context.ui.data(&render_installed(&plan, &report))?;
    }
    Ok(0)
}
