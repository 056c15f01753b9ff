//! Keeps the host's side of the network as it should be while the daemon runs, and passes on what it finds.
//!
//! Others may flush rules, restart the resolver or fill the disk at any time. What to put back is the platform's to
//! know; here is only when, and whom to tell.

use std::time::Duration;

use banger_proto::failure::Failure;
use tokio::time::MissedTickBehavior;

use super::Vms;
use super::driver::{Snapshot, Trouble};
use super::plan::vm_plan;
use crate::platform::VmPlan;

/// Between two looks. A look is one question to the helper.
pub const INTERVAL: Duration = Duration::from_secs(5);

impl Vms {
    /// Looks every `interval`, the first time at once, until the daemon ends.
    pub async fn watch(self, interval: Duration) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = None;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.host.closing.cancelled() => return,
            }
            let problem = self.look_after_host().await.err().map(|failure| failure.to_string());
            // The same trouble again is no news.
            if problem != told {
                match &problem {
                    Some(text) => tracing::error!("the host cannot be put right: {text}"),
                    None => tracing::info!("the host is as it should be again"),
                }
                told = problem;
            }
        }
    }

    /// Puts right what can be, once.
    ///
    /// # Errors
    /// What could not be.
    pub async fn look_after_host(&self) -> Result<(), Failure> {
        let wanted = || -> Vec<VmPlan> {
            let plan = |snapshot: &Snapshot| vm_plan(&snapshot.record, &self.host.paths);
            self.list().iter().map(plan).collect()
        };
        let noticed = self.host.platform.reassert(&wanted).await;
        for notice in noticed.map_err(|error| Failure::from_error(&error))? {
            tracing::warn!(vm = %notice.vm, "{}", notice.text);
            if let Ok(handle) = self.handle(&notice.vm) {
                handle.note_trouble(Trouble::Incomplete, notice.text).await;
            }
        }
        Ok(())
    }
}
