//! What a new start owes an entry that an earlier one wrote. Pure.
//!
//! Half-done work is undone, half-undone work is finished: both lead to a state somebody asked for, and the client of
//! the crashed helper has no answer it could rely on. After a reboot only files are left.

use std::net::Ipv4Addr;

use super::{Holdings, Intent};

/// What to take away before the entry is true again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Undo {
    /// The machine monitor's unit and its jail.
    Machine,
    /// Device-mapper and loop devices.
    ActiveDisk,
    /// The copy-on-write file.
    Store,
    /// The tap of the guest with this address.
    Link(Ipv4Addr),
    /// Everything, entry included.
    All,
}

/// The entry as it will be, and what has to go for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// The entry afterwards.
    pub holdings: Holdings,
    /// In this order.
    pub undo: Vec<Undo>,
}

/// Decides for one entry.
pub fn plan(written: &Holdings, boot_id: &str) -> Replay {
    let mut holdings = Holdings { intent: None, ..written.clone() };
    let mut undo = Vec::new();
    if written.boot_id != boot_id {
        // The kernel that had them is gone; a jail is files, and so is still there.
        if holdings.machine.take().is_some() {
            undo.push(Undo::Machine);
        }
        holdings.disk_active = false;
        holdings.link = None;
        holdings.nat = false;
        boot_id.clone_into(&mut holdings.boot_id);
    }
    match written.intent {
        None => {}
        Some(Intent::AttachLink | Intent::DetachLink) => {
            holdings.link = None;
            holdings.nat = false;
            undo.extend(written.link.map(Undo::Link));
        }
        Some(Intent::CreateRootDisk) => {
            holdings.root_disk = None;
            undo.push(Undo::Store);
        }
        Some(Intent::LaunchVm) => {
            holdings.machine = None;
            holdings.disk_active = false;
            undo.extend([Undo::Machine, Undo::ActiveDisk]);
        }
        Some(Intent::TeardownVm) => undo = vec![Undo::All],
    }
    undo.dedup();
    Replay { holdings, undo }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::tests::full_holdings;
    use super::*;

    fn written(intent: Option<Intent>) -> Holdings {
        Holdings { intent, ..full_holdings() }
    }

    #[test]
    fn what_was_complete_stays() {
        let replay = plan(&written(None), "boot");
        assert_eq!(replay, Replay { holdings: written(None), undo: vec![] });
    }

    #[test]
    fn what_was_half_done_is_undone() {
        let address = full_holdings().link.unwrap();
        for (intent, undo) in [
            (Intent::AttachLink, vec![Undo::Link(address)]),
            (Intent::DetachLink, vec![Undo::Link(address)]),
            (Intent::CreateRootDisk, vec![Undo::Store]),
            (Intent::LaunchVm, vec![Undo::Machine, Undo::ActiveDisk]),
            (Intent::TeardownVm, vec![Undo::All]),
        ] {
            let replay = plan(&written(Some(intent)), "boot");
            assert_eq!(replay.undo, undo, "{intent:?}");
            assert_eq!(replay.holdings.intent, None, "{intent:?}");
        }
    }

    #[test]
    fn after_a_reboot_only_the_disk_is_left() {
        let replay = plan(&written(None), "another boot");
        let expected =
            Holdings { boot_id: "another boot".into(), root_disk: full_holdings().root_disk, ..Holdings::default() };
        assert_eq!(replay, Replay { holdings: expected, undo: vec![Undo::Machine] });
    }

    #[test]
    fn a_teardown_survives_a_reboot() {
        assert_eq!(plan(&written(Some(Intent::TeardownVm)), "another boot").undo, vec![Undo::All]);
    }

    #[test]
    fn replaying_twice_changes_nothing_more() {
        for intent in [None, Some(Intent::AttachLink), Some(Intent::CreateRootDisk), Some(Intent::LaunchVm)] {
            for boot in ["boot", "another boot"] {
                let once = plan(&written(intent), boot).holdings;
                let twice = plan(&once, boot);
                assert_eq!((twice.holdings, twice.undo), (once, vec![]), "{intent:?} {boot}");
            }
        }
    }
}
