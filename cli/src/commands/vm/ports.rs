//! `banger vm ports`.

use banger_proto::v1::{ListPortsRequest, Vm, VmState};
use clap::Args;
use futures::future::join_all;

use crate::client::Client;
use crate::context::Context;
use crate::error::{CliError, CommandResult, OrFail as _};
use crate::resolve::resolve;
use crate::view::ports::{PortListView, PortView};

/// List what listens in VMs
///
///     banger vm ports
///     banger vm ports box
///
/// Without names: in every running VM. The last column says how to reach a port from this host; publish one with
/// `banger vm run -p HOST:GUEST`.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct PortsArgs {
    /// VMs: names, ids, or beginnings of either [default: all that run]
    #[arg(value_name = "VM", add = crate::completer::vms())]
    pub vms: Vec<String>,
}

/// Runs it.
///
/// # Errors
/// The first failure, after all have been asked.
pub async fn run(context: &Context, args: PortsArgs) -> CommandResult {
    let client = context.client().await?;
    let vms = client.list_vms().await?;
    let mut failures = Vec::new();
    let mut asked: Vec<&Vm> = Vec::new();
    if args.vms.is_empty() {
        asked.extend(vms.iter().filter(|vm| vm.state() == VmState::Running));
    }
    for reference in &args.vms {
        match resolve(&vms, reference) {
            Ok(vm) if asked.iter().any(|known| known.id == vm.id) => {}
            Ok(vm) => asked.push(vm),
            Err(error) => failures.push(CliError::from(error)),
        }
    }
    let mut ports = Vec::new();
    for answer in join_all(asked.into_iter().map(|vm| ask(&client, vm))).await {
        match answer {
            Ok(found) => ports.extend(found),
            Err(error) => failures.push(error),
        }
    }
    let view = PortListView::new(ports);
    if context.ui.is_json() {
        context.ui.json(&view)?;
    } else {
        context.ui.data(&view.render())?;
    }
    let mut failures = failures.into_iter();
    let Some(first) = failures.next() else { return Ok(0) };
    for failure in failures {
        if let CliError::Failed(failure) = failure {
            context.ui.error(&failure);
        }
    }
    Err(first)
}

async fn ask(client: &Client, vm: &Vm) -> Result<Vec<PortView>, CliError> {
    let answer = client.vms().list_ports(ListPortsRequest { reference: vm.id.clone() }).await.or_fail()?;
    Ok(answer.into_inner().ports.iter().map(|port| PortView::new(&vm.name, port)).collect())
}
