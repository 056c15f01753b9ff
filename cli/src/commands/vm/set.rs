//! `banger vm set`.

use banger_proto::size::MiB;
use banger_proto::v1::SetVmRequest;
use clap::Args;

use crate::args::MAX_VCPU;
use crate::context::Context;
use crate::error::{CommandResult, OrFail as _};
use crate::view::vm::VmView;

/// Change settings of a VM
///
///     banger vm set box --nat
///     banger vm set box --vcpu 4 --memory 8G
///
/// Only what is given changes. --nat and --no-nat work at once, in a running VM too; CPUs and memory need a stopped one.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, group = clap::ArgGroup::new("change").required(true).multiple(true))]
pub struct SetArgs {
    /// VM: name, id, or a beginning of either
    #[arg(value_name = "VM", add = crate::completer::vms())]
    pub vm: String,
    /// Let the guest reach the internet
    #[arg(long, group = "change")]
    pub nat: bool,
    /// Keep the guest from the internet
    #[arg(long, group = "change", conflicts_with = "nat")]
    pub no_nat: bool,
    /// Virtual CPUs
    #[arg(long, group = "change", value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_VCPU)))]
    pub vcpu: Option<u32>,
    /// Memory: MiB, or with a unit like 4G or 512MiB
    #[arg(long, group = "change", value_name = "SIZE")]
    pub memory: Option<MiB>,
}

/// Runs it.
///
/// # Errors
/// The daemon's failure.
pub async fn run(context: &Context, args: SetArgs) -> CommandResult {
    let client = context.client().await?;
    let vm = client.vms().set(request(args)).await.or_fail()?.into_inner();
    if context.ui.is_json() {
        context.ui.json(&VmView::from(&vm))?;
    } else {
        context.ui.status(&format!("changed {}", vm.name));
    }
    Ok(0)
}

fn request(args: SetArgs) -> SetVmRequest {
    let nat = match (args.nat, args.no_nat) {
        (true, _) => Some(true),
        (false, true) => Some(false),
        (false, false) => None,
    };
    SetVmRequest { reference: args.vm, nat, vcpu_count: args.vcpu, memory_mib: args.memory.map(MiB::get) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_given_is_sent() {
        let none = SetArgs { vm: "box".into(), nat: false, no_nat: false, vcpu: None, memory: None };
        let sent = request(SetArgs { no_nat: true, ..none });
        assert_eq!((sent.nat, sent.vcpu_count, sent.memory_mib), (Some(false), None, None));
    }
}
