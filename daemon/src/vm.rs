//! Virtual machines: who they are, what they are doing, and everything that can be done to them.
//!
//! ```text
//!  api ──▶ Vms ──▶ driver (one task per VM) ──▶ platform + store
//!            └──▶ wait (watches a driver's snapshots)
//! ```
//! [`Vms`] finds VMs and reserves names; [`driver`] alone changes a VM; [`state`], [`plan`], [`spec`] and
//! [`reference`] decide without touching anything; [`reconcile`] makes store and host agree at start.

mod address;
pub mod boot_source;
pub mod control;
pub mod create;
pub mod driver;
pub mod guest;
pub mod host;
mod host_key;
pub mod name;
pub mod observe;
pub mod plan;
mod reconcile;
pub mod record;
pub mod reference;
mod seed;
pub mod spec;
mod start;
pub mod state;
#[cfg(test)]
pub(crate) mod tests;
pub mod wait;
pub mod watch;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use banger_proto::failure::Failure;
use banger_proto::names::{ImageName, KernelName, VmId, VmName};
use tokio_util::task::TaskTracker;

use driver::{Driver, DriverHandle, Origin, Snapshot};
use host::Host;
use record::{BootSource, VmRecord};

/// How long drivers get to finish what they are in the middle of when the daemon ends.
const LET_GO: Duration = Duration::from_secs(5);

/// Every VM of this daemon. Clones share it.
#[derive(Clone)]
pub struct Vms {
    host: Arc<Host>,
    drivers: Arc<Mutex<BTreeMap<VmId, DriverHandle>>>,
    /// Held while a name is checked and its row inserted; nothing slow happens under it.
    reserving: Arc<tokio::sync::Mutex<()>>,
    /// Read while a new VM comes to depend on an image, written while one is deleted.
    artifact_use: Arc<tokio::sync::RwLock<()>>,
    tasks: TaskTracker,
}

impl Vms {
    /// No VMs yet; see [`Vms::reconcile`].
    pub fn new(host: Arc<Host>) -> Self {
        Self {
            host,
            drivers: Arc::default(),
            reserving: Arc::default(),
            artifact_use: Arc::default(),
            tasks: TaskTracker::new(),
        }
    }

    /// Every VM, oldest first.
    pub fn list(&self) -> Vec<Snapshot> {
        let mut all = self.snapshots();
        all.retain(|snapshot| !snapshot.removed);
        all.sort_by(|one, other| {
            (one.record.created_unix_ms, &one.record.id).cmp(&(other.record.created_unix_ms, &other.record.id))
        });
        all
    }

    /// Of every VM, those on their way out included.
    fn snapshots(&self) -> Vec<Snapshot> {
        self.lock().values().map(DriverHandle::snapshot).collect()
    }

    /// The VM a text means.
    ///
    /// # Errors
    /// None or several.
    pub fn find(&self, reference: &str) -> Result<DriverHandle, Failure> {
        let all = self.list();
        let known = all.iter().map(|snapshot| (&snapshot.record.id, &snapshot.record.name));
        let id = reference::resolve(reference, known).map_err(|error| Failure::from_error(&error))?;
        self.handle(&id)
    }

    /// Whether a VMM of any VM runs.
    pub fn any_alive(&self) -> bool {
        self.list().iter().any(Snapshot::is_alive)
    }

    /// What every VM boots from.
    pub fn boot_sources(&self) -> Vec<Arc<BootSource>> {
        self.list().iter().map(|snapshot| Arc::clone(&snapshot.record.boot)).collect()
    }

    /// What every VM shares.
    pub fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// Runs `remove` unless a VM depends on the image, and keeps new ones from coming to depend on it meanwhile.
    pub async fn unless_image_used<T>(
        &self,
        image: &ImageName,
        remove: impl Future<Output = T>,
    ) -> Result<T, Vec<VmName>> {
        let _exclusive = self.artifact_use.write().await;
        self.unless_used(|record| &record.boot.image == image, remove).await
    }

    /// The same for a kernel.
    pub async fn unless_kernel_used<T>(
        &self,
        kernel: &KernelName,
        remove: impl Future<Output = T>,
    ) -> Result<T, Vec<VmName>> {
        let _exclusive = self.artifact_use.write().await;
        self.unless_used(|record| &record.boot.kernel == kernel, remove).await
    }

    /// Runs `remove`, told what VMs boot from, and keeps new ones from coming to depend on anything meanwhile.
    pub async fn while_nothing_comes_into_use<T>(&self, remove: impl FnOnce(&[Arc<BootSource>]) -> T) -> T {
        let _exclusive = self.artifact_use.write().await;
        remove(&self.boot_sources())
    }

    async fn unless_used<T>(
        &self,
        uses: impl Fn(&VmRecord) -> bool,
        remove: impl Future<Output = T>,
    ) -> Result<T, Vec<VmName>> {
        let users: Vec<VmName> = self
            .list()
            .iter()
            .filter(|snapshot| uses(&snapshot.record))
            .map(|snapshot| snapshot.record.name.clone())
            .collect();
        if users.is_empty() { Ok(remove.await) } else { Err(users) }
    }

    /// Lets go of every VM. Their VMMs run on.
    pub async fn close(&self) {
        self.lock().clear();
        self.tasks.close();
        if tokio::time::timeout(LET_GO, self.tasks.wait()).await.is_err() {
            tracing::warn!("some VMs are still being worked on; the next start takes up what is left");
        }
    }

    fn handle(&self, id: &VmId) -> Result<DriverHandle, Failure> {
        let found = self.lock().get(id).cloned();
        found.ok_or_else(|| {
            let error = reference::ReferenceError::NotFound { reference: id.to_string() };
            Failure::from_error(&error)
        })
    }

    fn name_taken(&self, name: &str) -> bool {
        self.list().iter().any(|snapshot| snapshot.record.name.as_str() == name)
    }

    fn spawn_driver(&self, record: VmRecord, origin: Origin) -> DriverHandle {
        let id = record.id.clone();
        let (driver, handle) = Driver::new(Arc::clone(&self.host), record, origin);
        self.lock().insert(id.clone(), handle.clone());
        let drivers = Arc::clone(&self.drivers);
        self.tasks.spawn(async move {
            driver.run().await;
            drivers.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        });
        handle
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<VmId, DriverHandle>> {
        // A map of handles cannot be left half changed.
        self.drivers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
