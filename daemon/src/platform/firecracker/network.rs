//! What has to be put right on the host, by what the helper holds and what the VMs should have. Pure.

use std::net::Ipv4Addr;

use banger_proto::names::VmId;
use banger_proto::root::v1::{AttachLink, EnsureNetwork, Holdings, SetNat, SetResolver, request::Operation};

use crate::platform::VmPlan;

/// The requests that put it right, in order; none if all is well.
///
/// A VM at rest needs no way to the outside: the host forwards only while a guest runs that may use it.
pub fn repairs(holdings: &Holdings, wanted: &[VmPlan]) -> Vec<Operation> {
    let mut repairs = Vec::new();
    if !holdings.network_ready {
        repairs.push(Operation::EnsureNetwork(EnsureNetwork {}));
    }
    for held in &holdings.vms {
        let Some(plan) = wanted.iter().find(|plan| plan.id.as_str() == held.vm_id) else { continue };
        let runs = held.pid != 0;
        if let Some(address) = plan.address.filter(|address| runs && address.to_bits() != held.address) {
            repairs.push(attach_link(&plan.id, address));
        }
        if held.nat != (runs && plan.nat) {
            repairs.push(set_nat(&plan.id, runs && plan.nat));
        }
    }
    if !holdings.resolver_ready {
        repairs.push(Operation::SetResolver(SetResolver { enabled: true }));
    }
    repairs
}

/// The requests after which this VM's link is as its start needs it; none right after it was made.
pub fn before_launch(holdings: &Holdings, plan: &VmPlan, address: Ipv4Addr) -> Vec<Operation> {
    let held = holdings.vms.iter().find(|held| held.vm_id == plan.id.as_str());
    let attached = holdings.network_ready && held.is_some_and(|held| held.address == address.to_bits());
    let switched = held.is_some_and(|held| held.nat == plan.nat);
    let attach = (!attached).then(|| attach_link(&plan.id, address));
    attach.into_iter().chain((!switched).then(|| set_nat(&plan.id, plan.nat))).collect()
}

/// The request.
pub fn attach_link(vm: &VmId, address: Ipv4Addr) -> Operation {
    Operation::AttachLink(AttachLink { vm_id: vm.to_string(), address: address.to_bits() })
}

/// The request.
pub(super) fn set_nat(vm: &VmId, enabled: bool) -> Operation {
    Operation::SetNat(SetNat { vm_id: vm.to_string(), enabled })
}

#[cfg(test)]
mod tests {
    use banger_proto::root::v1::VmHoldings;

    use super::*;
    use crate::platform::firecracker::tests::fixture;

    fn held(plan: &VmPlan) -> VmHoldings {
        let address = plan.address.expect("a plan of this platform has an address").to_bits();
        VmHoldings { vm_id: plan.id.to_string(), address, nat: plan.nat, pid: 7, ..VmHoldings::default() }
    }

    fn ready(vms: Vec<VmHoldings>) -> Holdings {
        Holdings { vms, network_ready: true, resolver_ready: true }
    }

    #[test]
    fn when_all_is_well_nothing_is_asked_for() {
        let plan = VmPlan { nat: true, ..fixture::plan(1) };
        let resting = VmHoldings { pid: 0, nat: false, ..held(&plan) };
        for holdings in [ready(vec![held(&plan)]), ready(vec![resting]), ready(Vec::new())] {
            assert_eq!(repairs(&holdings, std::slice::from_ref(&plan)), []);
        }
    }

    #[test]
    fn the_network_comes_before_the_links_and_the_resolver_last() {
        let plan = VmPlan { nat: true, ..fixture::plan(1) };
        let lost = VmHoldings { address: 0, nat: false, ..held(&plan) };
        let holdings = Holdings { vms: vec![lost], ..Holdings::default() };
        let address = plan.address.expect("it has one");
        assert_eq!(
            repairs(&holdings, std::slice::from_ref(&plan)),
            [
                Operation::EnsureNetwork(EnsureNetwork {}),
                attach_link(&plan.id, address),
                set_nat(&plan.id, true),
                Operation::SetResolver(SetResolver { enabled: true }),
            ]
        );
    }

    #[test]
    fn a_start_asks_only_for_what_is_not_there() {
        let plan = VmPlan { nat: true, ..fixture::plan(1) };
        let address = plan.address.expect("it has one");
        let before = |holdings: &Holdings| before_launch(holdings, &plan, address);
        let resting = VmHoldings { pid: 0, ..held(&plan) };
        assert_eq!(before(&ready(vec![resting.clone()])), []);
        let closed = VmHoldings { nat: false, ..resting.clone() };
        assert_eq!(before(&ready(vec![closed])), [set_nat(&plan.id, true)]);
        let rebooted = Holdings { network_ready: false, ..ready(vec![resting]) };
        assert_eq!(before(&rebooted), [attach_link(&plan.id, address)]);
        assert_eq!(before(&ready(Vec::new())).len(), 2);
    }

    #[test]
    fn a_guest_at_rest_keeps_no_way_to_the_outside() {
        let plan = VmPlan { nat: true, ..fixture::plan(1) };
        let resting = ready(vec![VmHoldings { pid: 0, ..held(&plan) }]);
        assert_eq!(repairs(&resting, std::slice::from_ref(&plan)), [set_nat(&plan.id, false)]);
    }

    #[test]
    fn a_way_out_that_nobody_granted_is_closed() {
        let plan = fixture::plan(1);
        let open = ready(vec![VmHoldings { nat: true, ..held(&plan) }]);
        assert_eq!(repairs(&open, std::slice::from_ref(&plan)), [set_nat(&plan.id, false)]);
        assert_eq!(repairs(&open, &[]), [], "a VM that is just being removed is its driver's business");
    }
}
