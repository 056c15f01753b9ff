//! Decisions, as tables.

use super::*;
use crate::platform::{ProcessIdentity, Running};
use crate::store::Action;
use crate::vm::record::RuntimeRecord;

fn running() -> Running {
    Running {
        process: ProcessIdentity { pid: 7, start_time_ticks: 1, host_boot_id: "b".into() },
        agent_address: ([127, 0, 0, 1], 1).into(),
        ssh_address: None,
    }
}

fn record(state: VmState, alive: bool) -> VmRecord {
    VmRecord { state, runtime: alive.then(|| RuntimeRecord::from(running())), ..crate::vm::record::sample("box") }
}

#[test]
fn only_what_ends_a_vm_interrupts_what_is_under_way() {
    use Verb as V;
    let all = [V::Provision, V::Launch, V::Stop, V::Kill, V::Remove, V::Note];
    let preempting: Vec<(V, V)> = all
        .into_iter()
        .flat_map(|busy| all.map(|arriving| (busy, arriving)))
        .filter(|(busy, arriving)| admit(*busy, *arriving) == Admission::Preempt)
        .collect();
    assert_eq!(
        preempting,
        [
            (V::Provision, V::Stop),
            (V::Provision, V::Kill),
            (V::Provision, V::Remove),
            (V::Launch, V::Stop),
            (V::Launch, V::Kill),
            (V::Launch, V::Remove),
            (V::Stop, V::Kill),
            (V::Stop, V::Remove),
        ]
    );
}

#[test]
fn a_vm_is_launched_only_at_rest() {
    for (state, alive, allowed) in [
        (VmState::Created, false, false),
        (VmState::Provisioned, false, true),
        (VmState::Booting, true, false),
        (VmState::Running, true, false),
        (VmState::Stopping, true, false),
        (VmState::Stopped, false, true),
        (VmState::Broken, false, true),
        (VmState::Broken, true, false),
    ] {
        assert_eq!(may_launch(&record(state, alive)).is_ok(), allowed, "{state} {alive}");
    }
}

#[test]
fn half_made_and_half_removed_vms_are_removed_whatever_is_found() {
    for action in [Action::Create, Action::Remove] {
        for observed in [Observed::Gone, Observed::Running(running())] {
            let found = recover(&record(VmState::Created, false), Some(action), observed);
            assert_eq!(found, Recovery::Remove);
        }
    }
}

#[test]
fn what_runs_is_watched_again() {
    for (action, stop_again) in [(None, false), (Some(Action::Launch), false), (Some(Action::Stop), true)] {
        let found = recover(&record(VmState::Running, true), action, Observed::Running(running()));
        assert_eq!(found, Recovery::Attach { running: running(), stop_again });
    }
}

#[test]
fn what_runs_no_longer_is_stopped_and_what_never_ran_is_as_it_was() {
    for (before, after, unclean) in [
        (VmState::Booting, VmState::Stopped, true),
        (VmState::Running, VmState::Stopped, true),
        (VmState::Stopping, VmState::Stopped, false),
        (VmState::Stopped, VmState::Stopped, false),
        (VmState::Provisioned, VmState::Provisioned, false),
        (VmState::Broken, VmState::Broken, false),
    ] {
        let mut record = record(before, true);
        record.unclean = false;
        let found = recover(&record, None, Observed::Gone);
        assert_eq!(found, Recovery::Rest { state: after, unclean, note: None }, "{before}");
    }
}
