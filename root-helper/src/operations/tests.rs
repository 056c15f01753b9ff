//! Operations on a host made of sets, with a ledger on a real disk: order of things, and a failure of every call.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use banger_proto::install::{Install, tap};
use banger_proto::names::VmId;
use tempfile::TempDir;

use super::create_root_disk::Wanted;
use super::*;
use crate::host::fake::{FREE, Facts, Fails, Fake, PROCESS};
use crate::ledger::records::Records;
use crate::ledger::tests::full_holdings;
use crate::ledger::{Holdings, Ledger, Machine};
use crate::request::Switch;

const ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 2);
const BEFORE: &str = "forwarding";

struct Stage {
    world: World,
    facts: Arc<Facts>,
    disk: TempDir,
}

fn install() -> Install {
    let text = "[owner]\nname='dev'\nuid=1000\ngid=1000\nhome='/home/dev'\n[build]\nversion='1'\ncommit='c'\n\
                installed_unix_s=1\nupdated_unix_s=1\n[network]\nbridge='br-fc'\nsubnet='172.16.0.0/24'\n";
    Install::parse(text, Path::new("install.toml")).unwrap()
}

fn vm() -> VmId {
    "1".repeat(32).parse().unwrap()
}

fn stage() -> Stage {
    let (facts, disk) = (Arc::new(Facts::default()), tempfile::tempdir().unwrap());
    Stage { world: world(&facts, &disk), facts, disk }
}

fn world(facts: &Arc<Facts>, disk: &TempDir) -> World {
    World::load(install(), Box::new(Fake(Arc::clone(facts))), Records::at(disk.path())).unwrap()
}

impl Stage {
    /// The helper dies and another one starts.
    fn restart(&mut self) {
        self.world = world(&self.facts, &self.disk);
        *self.facts.fault.lock().expect(FREE) = None;
        assert_eq!(replay::perform(&mut self.world), Vec::<String>::new());
    }

    fn written(&self) -> Ledger {
        Records::at(self.disk.path()).load().unwrap()
    }

    fn objects(&self) -> BTreeSet<String> {
        self.facts.objects.lock().expect(FREE).clone()
    }

    fn create(&mut self) -> Result<(), String> {
        let disk = full_holdings().root_disk.unwrap();
        let wanted = Wanted { image: disk.image, build: disk.build, copy_on_write_mib: disk.copy_on_write_mib };
        create_root_disk::perform(&mut self.world, &vm(), wanted).map_err(|error| error.to_string())
    }

    fn launch(&mut self) -> Result<(), String> {
        let machine = Machine { process: None, root_device: None, ..full_holdings().machine.unwrap() };
        launch_vm::perform(&mut self.world, &vm(), machine).map(|_| ()).map_err(|error| error.to_string())
    }

    /// Everything a VM can have.
    fn run_all(&mut self) -> Result<(), String> {
        let text = |error: &dyn std::error::Error| error.to_string();
        ensure_network::perform(&mut self.world).map_err(|error| text(&error))?;
        set_resolver::perform(&mut self.world, Switch::On).map_err(|error| text(&error))?;
        attach_link::perform(&mut self.world, &vm(), ADDRESS).map_err(|error| text(&error))?;
        set_nat::perform(&mut self.world, &vm(), Switch::On).map_err(|error| text(&error))?;
        self.create()?;
        self.launch()?;
        teardown_vm::perform(&mut self.world, &vm()).map_err(|error| text(&error))
    }

    /// What exists and is not in the ledger on disk.
    fn unlisted(&self) -> Vec<String> {
        let ledger = self.written();
        let holdings = ledger.holdings(&vm()).cloned().unwrap_or_default();
        self.objects().into_iter().filter(|object| !is_listed(object, &ledger, &holdings)).collect()
    }
}

fn is_listed(object: &str, ledger: &Ledger, holdings: &Holdings) -> bool {
    match object.split(' ').next().unwrap() {
        "link" if object.ends_with("br-fc") => ledger.network.bridge,
        "link" => holdings.link.is_some(),
        "tables" => ledger.network.bridge,
        "resolver" => ledger.network.resolver,
        "store" => holdings.root_disk.is_some(),
        "disk" => holdings.disk_active,
        "machine" | "jail" => holdings.machine.is_some(),
        other => panic!("what is {other}?"),
    }
}

#[test]
fn a_vm_comes_and_goes_without_a_trace() {
    let mut stage = stage();
    stage.run_all().unwrap();
    assert_eq!(stage.written().vms().count(), 0);
    assert_eq!(stage.objects(), BTreeSet::from(["link br-fc", "resolver", "tables"].map(str::to_owned)));
    assert_eq!(remove_network::perform(&mut stage.world), Vec::<String>::new());
    assert_eq!(stage.objects(), BTreeSet::new());
    assert_eq!(stage.written(), Ledger::default());
}

#[test]
fn whichever_call_fails_nothing_exists_that_is_not_written_down() {
    for fails in [Fails::Before, Fails::After] {
        for call in 1.. {
            let mut stage = stage();
            stage.facts.fail(call, fails);
            let outcome = stage.run_all();
            let failed = stage.facts.calls.lock().expect(FREE).last().cloned();
            assert_eq!(stage.unlisted(), Vec::<String>::new(), "call {call} ({failed:?}) failing {fails:?}");
            let is_over = stage.facts.fault.lock().expect(FREE).is_some();
            if is_over {
                assert_eq!(outcome, Ok(()), "no call was left to fail");
                break;
            }
            assert!(call < 100, "the fault never came");
        }
    }
}

#[test]
fn whichever_call_is_the_last_of_a_helper_the_next_one_can_clear_up() {
    for fails in [Fails::Before, Fails::After] {
        for call in 1..100 {
            let mut stage = stage();
            stage.facts.fail(call, fails);
            let _ = stage.run_all();
            if stage.facts.fault.lock().expect(FREE).is_some() {
                break;
            }
            stage.restart();
            assert_eq!(stage.unlisted(), Vec::<String>::new(), "call {call} failing {fails:?}");
            if stage.written().holdings(&vm()).is_some() {
                teardown_vm::perform(&mut stage.world, &vm()).unwrap();
            }
            assert_eq!(remove_network::perform(&mut stage.world), Vec::<String>::new());
            assert_eq!(stage.objects(), BTreeSet::new(), "call {call} failing {fails:?}");
            assert!(!stage.facts.is_forwarding.load(Ordering::SeqCst), "{BEFORE} after call {call} failing {fails:?}");
            assert_eq!(stage.written(), Ledger::default());
        }
    }
}

#[test]
fn a_launch_is_written_down_before_it_happens_and_its_process_after() {
    let mut stage = stage();
    attach_link::perform(&mut stage.world, &vm(), ADDRESS).unwrap();
    stage.create().unwrap();
    stage.launch().unwrap();
    let machine = stage.written().holdings(&vm()).unwrap().machine.clone().unwrap();
    assert_eq!((machine.process, machine.root_device), (Some(PROCESS), Some((253, 0))));
}

#[test]
fn a_launch_that_fails_leaves_the_disk_and_the_link_as_they_were() {
    let mut stage = stage();
    attach_link::perform(&mut stage.world, &vm(), ADDRESS).unwrap();
    stage.create().unwrap();
    let before = (stage.objects(), stage.written());
    // stop, jail, deactivate, activate, start.
    stage.facts.fail(5, Fails::After);
    assert!(stage.launch().is_err());
    assert_eq!((stage.objects(), stage.written()), before);
}

#[test]
fn a_machine_monitor_that_ended_leaves_no_devices() {
    let mut stage = stage();
    attach_link::perform(&mut stage.world, &vm(), ADDRESS).unwrap();
    stage.create().unwrap();
    let before = stage.objects();
    stage.launch().unwrap();
    assert_eq!(settle::perform(&mut stage.world, None), Vec::<String>::new());
    assert!(stage.objects().contains(&format!("machine {}", vm())), "it runs: nothing to settle");
    stage.facts.has_ended.store(true, Ordering::SeqCst);
    assert_eq!(settle::perform(&mut stage.world, None), Vec::<String>::new());
    assert_eq!(stage.objects(), before);
    assert!(!stage.world.holdings(&vm()).is_launched());
    stage.launch().unwrap();
}

#[test]
fn teardown_goes_on_past_what_fails_and_keeps_the_entry_until_all_is_gone() {
    let mut stage = stage();
    attach_link::perform(&mut stage.world, &vm(), ADDRESS).unwrap();
    stage.create().unwrap();
    stage.launch().unwrap();
    // signal, stop, deactivate.
    stage.facts.fail(3, Fails::Before);
    let error = teardown_vm::perform(&mut stage.world, &vm()).unwrap_err();
    assert_eq!(error.left_behind.len(), 1, "{:?}", error.left_behind);
    let left = stage.objects();
    assert!(left.contains(&format!("disk {}", vm())) && !left.contains(&format!("store {}", vm())), "{left:?}");
    assert!(stage.written().holdings(&vm()).is_some());
    teardown_vm::perform(&mut stage.world, &vm()).unwrap();
    assert!(stage.written().holdings(&vm()).is_none());
}

#[test]
fn forwarding_is_on_only_while_a_guest_needs_it_and_then_as_before() {
    for before in [false, true] {
        let mut stage = stage();
        stage.facts.is_forwarding.store(before, Ordering::SeqCst);
        attach_link::perform(&mut stage.world, &vm(), ADDRESS).unwrap();
        assert_eq!(stage.facts.is_forwarding.load(Ordering::SeqCst), before);
        set_nat::perform(&mut stage.world, &vm(), Switch::On).unwrap();
        assert!(stage.facts.is_forwarding.load(Ordering::SeqCst));
        stage.restart();
        assert!(stage.facts.is_forwarding.load(Ordering::SeqCst));
        set_nat::perform(&mut stage.world, &vm(), Switch::Off).unwrap();
        assert_eq!(stage.facts.is_forwarding.load(Ordering::SeqCst), before);
    }
}

#[test]
fn what_is_not_bangers_is_not_taken_over() {
    for foreign in ["br-fc".to_owned(), tap(ADDRESS)] {
        let mut stage = stage();
        stage.facts.objects.lock().expect(FREE).insert(format!("link {foreign}"));
        assert!(attach_link::perform(&mut stage.world, &vm(), ADDRESS).is_err(), "{foreign}");
        assert!(stage.written().holdings(&vm()).is_none());
        assert!(stage.objects().contains(&format!("link {foreign}")));
    }
}

#[test]
fn a_link_is_closed_by_rules_before_it_opens() {
    let mut stage = stage();
    attach_link::perform(&mut stage.world, &vm(), ADDRESS).unwrap();
    let calls = stage.facts.calls.lock().expect(FREE).clone();
    let last_rules = calls.iter().rposition(|call| call == "apply rules").unwrap();
    let tap = calls.iter().position(|call| call.starts_with("ensure link fc-")).unwrap();
    assert!(last_rules < tap, "{calls:?}");
}

#[test]
fn the_inventory_tells_what_others_removed() {
    let mut stage = stage();
    attach_link::perform(&mut stage.world, &vm(), ADDRESS).unwrap();
    set_resolver::perform(&mut stage.world, Switch::On).unwrap();
    let ready = |stage: &Stage| {
        let holdings = inventory::perform(&stage.world);
        (holdings.network_ready, holdings.resolver_ready)
    };
    assert_eq!(ready(&stage), (true, true));
    for gone in ["link br-fc".to_owned(), format!("link {}", tap(ADDRESS))] {
        stage.facts.objects.lock().expect(FREE).remove(&gone);
        assert_eq!(ready(&stage), (false, true), "{gone}");
        ensure_network::perform(&mut stage.world).unwrap();
        assert_eq!(ready(&stage), (true, true));
    }
    *stage.facts.rules.lock().expect(FREE) = serde_json::Value::Null;
    assert_eq!(ready(&stage), (false, true));
    stage.facts.objects.lock().expect(FREE).remove("resolver");
    assert_eq!(ready(&stage), (false, false));
}
