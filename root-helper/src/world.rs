//! What an operation works with: the installation, the ledger with its files, and the host.
//!
//! The only way to change the ledger, so that memory and disk never differ: the file first.

use banger_proto::install::Install;
use banger_proto::names::VmId;

use crate::error::{Step, chain, step};
use crate::host::Host;
use crate::ledger::records::Records;
use crate::ledger::{Holdings, Intent, Ledger, NetworkHoldings};
use crate::policy::Scope;

/// The helper's whole state.
pub struct World {
    /// Whose installation this is.
    pub install: Install,
    /// The host.
    pub host: Box<dyn Host>,
    ledger: Ledger,
    records: Records,
}

impl World {
    /// From what an earlier helper wrote down.
    ///
    /// # Errors
    /// If the ledger cannot be read.
    pub fn load(install: Install, host: Box<dyn Host>, records: Records) -> Step<Self> {
        let ledger = records.load().map_err(step("read the ledger"))?;
        Ok(Self { install, host, ledger, records })
    }

    /// What exists.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What the policy looks at.
    pub fn scope(&self) -> Scope<'_> {
        Scope { install: &self.install, ledger: &self.ledger }
    }

    /// The entry of a VM; empty if there is none.
    pub fn holdings(&self, vm: &VmId) -> Holdings {
        self.ledger.holdings(vm).cloned().unwrap_or_default()
    }

    /// Changes a VM's entry, on disk and then in memory. One that has become empty is removed.
    pub fn change(&mut self, vm: &VmId, change: impl FnOnce(&mut Holdings)) -> Step<()> {
        let mut holdings = self.holdings(vm);
        change(&mut holdings);
        if holdings.is_empty() {
            self.records.remove_vm(vm).map_err(step(format!("write the ledger's entry of {vm}")))?;
            self.ledger.remove(vm);
        } else {
            self.host.boot_id().clone_into(&mut holdings.boot_id);
            self.records.save_vm(vm, &holdings).map_err(step(format!("write the ledger's entry of {vm}")))?;
            *self.ledger.entry(vm.clone()) = holdings;
        }
        Ok(())
    }

    /// Writes down what is about to be asked of the kernel.
    pub fn begin(&mut self, vm: &VmId, intent: Intent, change: impl FnOnce(&mut Holdings)) -> Step<()> {
        self.change(vm, |holdings| {
            holdings.intent = Some(intent);
            change(holdings);
        })
    }

    /// Writes down that it was done, or undone.
    pub fn end(&mut self, vm: &VmId, change: impl FnOnce(&mut Holdings)) -> Step<()> {
        self.change(vm, |holdings| {
            holdings.intent = None;
            change(holdings);
        })
    }

    /// Changes what is written about the network.
    pub fn change_network(&mut self, change: impl FnOnce(&mut NetworkHoldings)) -> Step<()> {
        let mut network = self.ledger.network.clone();
        change(&mut network);
        if network == self.ledger.network {
            return Ok(());
        }
        self.host.boot_id().clone_into(&mut network.boot_id);
        if !network.bridge && !network.resolver && network.forwarding_before.is_none() {
            self.records.remove_network().map_err(step("write the ledger's entry of the network"))?;
        } else {
            self.records.save_network(&network).map_err(step("write the ledger's entry of the network"))?;
        }
        self.ledger.network = network;
        Ok(())
    }

    /// Reads the ledger again: after a panic nobody knows what memory holds.
    pub fn reload(&mut self) -> Step<()> {
        self.ledger = self.records.load().map_err(step("read the ledger"))?;
        Ok(())
    }
}

/// Things that were tried one after the other, none of them stopped by another's failure.
#[derive(Debug, Default)]
pub struct CleanUp {
    /// What could not be taken away, and why.
    pub left_behind: Vec<String>,
}

impl CleanUp {
    /// Remembers a failure; true if there was none.
    pub fn attempt(&mut self, outcome: Step<()>) -> bool {
        if let Err(error) = &outcome {
            self.left_behind.push(chain(error));
        }
        outcome.is_ok()
    }
}
