//! A platform without virtual machines, for tests: directories and processes are entries in a [`World`]
//! that outlives the daemon under test, and the guest speaks the control protocol from a task.
//!
//! Any single call can be made to fail, to hang until cancelled, or to never return (a crash), before or
//! after it took effect.

mod guest;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use banger_proto::failure::Kind;
use banger_proto::guest::v1::{Network, Seed};
use banger_proto::install::Subnet;
use banger_proto::names::VmId;
use futures::future::BoxFuture;
use tokio::net::UnixStream;
use tokio::sync::watch;

pub use guest::GuestScript;

use super::{
    GuestDisks, GuestMachine, Notice, Observed, Platform, PlatformError, ProcessIdentity, Running, VmPlan, Wanted,
};
use crate::doctor::Finding;
use crate::reporter::Reporter;
use crate::vm::record::VmSpec;

/// A work disk this platform refuses.
pub const UNWANTED_DISK_MIB: u64 = 65;

/// What is to happen at one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    /// It fails without effect.
    Fail,
    /// The daemon dies before it has an effect.
    CrashBefore,
    /// The daemon dies when it has had its effect.
    CrashAfter,
}

/// The host, as the platform sees it.
#[derive(Debug, Default)]
pub struct World {
    inner: Mutex<Inner>,
    crashed: watch::Sender<bool>,
    entered: watch::Sender<Vec<&'static str>>,
}

#[derive(Debug, Default)]
struct Inner {
    directories: BTreeMap<VmId, std::path::PathBuf>,
    processes: BTreeMap<VmId, FakeProcess>,
    started: u32,
    calls: usize,
    mishap: Option<(usize, Mishap)>,
    hang: Option<&'static str>,
    script: GuestScript,
    ssh_address: Option<SocketAddr>,
    seeds: BTreeMap<VmId, Seed>,
    pool: Option<Subnet>,
    nat: BTreeMap<VmId, bool>,
    notices: Vec<Notice>,
}

#[derive(Debug)]
struct FakeProcess {
    identity: ProcessIdentity,
    script: GuestScript,
    alive: watch::Sender<bool>,
}

impl World {
    /// Every later start gets this guest.
    pub fn set_script(&self, script: GuestScript) {
        self.lock().script = script;
    }

    /// Something answers at the guest's port 22.
    pub fn set_ssh_address(&self, address: SocketAddr) {
        self.lock().ssh_address = Some(address);
    }

    /// Guests have addresses of this network.
    pub fn set_pool(&self, pool: Subnet) {
        self.lock().pool = Some(pool);
    }

    /// Whether the guest of `id` may reach the outside, if anybody said.
    pub fn nat(&self, id: &VmId) -> Option<bool> {
        self.lock().nat.get(id).copied()
    }

    /// The next look at the host finds this.
    pub fn notice(&self, notice: Notice) {
        self.lock().notices.push(notice);
    }

    /// The `nth` call from now (1 is the next) goes wrong.
    pub fn arm(&self, nth: usize, mishap: Mishap) {
        let mut inner = self.lock();
        inner.mishap = Some((inner.calls + nth, mishap));
    }

    /// No call goes wrong any more; tells whether one did.
    pub fn disarm(&self) -> bool {
        let mut inner = self.lock();
        let calls = inner.calls;
        inner.mishap.take().is_some_and(|(at, _)| at <= calls)
    }

    /// Calls of `method` hang until their operation is cancelled.
    pub fn hang_in(&self, method: &'static str) {
        self.lock().hang = Some(method);
    }

    /// Resolves when a crash has been reached.
    pub async fn crashed(&self) {
        let _ = self.crashed.subscribe().wait_for(|crashed| *crashed).await;
    }

    /// Resolves when `method` was called.
    pub async fn entered(&self, method: &'static str) {
        let _ = self.entered.subscribe().wait_for(|entered| entered.contains(&method)).await;
    }

    /// VMs with files.
    pub fn directories(&self) -> BTreeSet<VmId> {
        self.lock().directories.keys().cloned().collect()
    }

    /// VMs with a process.
    pub fn processes(&self) -> BTreeMap<VmId, ProcessIdentity> {
        self.lock().processes.iter().map(|(id, process)| (id.clone(), process.identity.clone())).collect()
    }

    /// Files and a process of a VM no store knows.
    pub fn plant_orphan(&self, id: &VmId) {
        let mut inner = self.lock();
        inner.directories.insert(id.clone(), std::path::PathBuf::new());
        start(&mut inner, id);
    }

    /// The VMM of `id` ends by itself.
    pub fn end_process(&self, id: &VmId) {
        end(&mut self.lock(), id);
    }

    /// The host rebooted: nothing runs.
    pub fn reboot(&self) {
        let mut inner = self.lock();
        let all: Vec<VmId> = inner.processes.keys().cloned().collect();
        for id in all {
            end(&mut inner, &id);
        }
    }

    /// What the guest of `id` was last told.
    pub fn seed(&self, id: &VmId) -> Option<Seed> {
        self.lock().seeds.get(id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no test panics while holding the world")
    }
}

fn start(inner: &mut Inner, id: &VmId) -> ProcessIdentity {
    inner.started += 1;
    let identity = ProcessIdentity {
        pid: 100_000 + inner.started,
        start_time_ticks: u64::from(inner.started),
        host_boot_id: "fake".into(),
    };
    let process =
        FakeProcess { identity: identity.clone(), script: inner.script.clone(), alive: watch::Sender::new(true) };
    inner.processes.insert(id.clone(), process);
    identity
}

fn end(inner: &mut Inner, id: &VmId) {
    if let Some(process) = inner.processes.remove(id) {
        process.alive.send_replace(false);
    }
}

/// One daemon's view of a [`World`].
#[derive(Debug, Clone)]
pub struct FakePlatform {
    world: Arc<World>,
}

impl FakePlatform {
    /// On this host.
    pub fn new(world: Arc<World>) -> Self {
        Self { world }
    }

    /// Counts the call and lets it go wrong if it is its turn; then applies `effect`.
    async fn call<T>(
        &self,
        method: &'static str,
        reporter: Option<&Reporter>,
        effect: impl FnOnce(&mut Inner) -> T,
    ) -> Result<T, PlatformError> {
        self.world.entered.send_modify(|entered| entered.push(method));
        let (mishap, hang) = {
            let mut inner = self.world.lock();
            inner.calls += 1;
            let mishap = inner.mishap.filter(|(at, _)| *at == inner.calls).map(|(_, mishap)| mishap);
            (mishap, inner.hang == Some(method))
        };
        if hang && let Some(reporter) = reporter {
            reporter.cancellation().cancelled().await;
            return Err(error(method, "cancelled"));
        }
        match mishap {
            Some(Mishap::Fail) => return Err(error(method, "injected")),
            Some(Mishap::CrashBefore) => self.crash().await,
            Some(Mishap::CrashAfter) | None => {}
        }
        let result = effect(&mut self.world.lock());
        if mishap == Some(Mishap::CrashAfter) {
            self.crash().await;
        }
        Ok(result)
    }

    async fn crash(&self) {
        self.world.crashed.send_replace(true);
        std::future::pending().await
    }

    fn running(inner: &Inner, id: &VmId) -> Option<Running> {
        inner.processes.get(id).map(|process| Running {
            process: process.identity.clone(),
            agent_address: SocketAddr::from(([127, 0, 0, 1], 4022)),
            ssh_address: inner.ssh_address,
        })
    }
}

fn error(method: &str, why: &str) -> PlatformError {
    PlatformError {
        attempt: format!("fake {method} failed"),
        kind: Kind::Failed,
        hints: Vec::new(),
        source: Some(why.into()),
        left_behind: Vec::new(),
    }
}

impl Platform for FakePlatform {
    fn vmm_name(&self) -> &'static str {
        "fake"
    }

    fn guest_machine(&self, plan: &VmPlan) -> GuestMachine {
        let address = plan.address.map_or_else(|| "10.0.2.15".into(), |address| address.to_string());
        let network = Network { address, prefix_length: 24, ..Network::default() };
        GuestMachine { network, disks: GuestDisks { root: "root", work: "work", modules: "modules" } }
    }

    fn address_pool(&self) -> Option<Subnet> {
        self.world.lock().pool
    }

    fn check(&self, spec: &VmSpec) -> Result<(), PlatformError> {
        if spec.work_disk_mib == UNWANTED_DISK_MIB { Err(error("check", "no such disks here")) } else { Ok(()) }
    }

    fn provision<'a>(&'a self, plan: &'a VmPlan, reporter: &'a Reporter) -> BoxFuture<'a, Result<(), PlatformError>> {
        Box::pin(self.call("provision", Some(reporter), |inner| {
            std::fs::create_dir_all(&plan.directory).expect("the scratch directory is writable");
            inner.directories.insert(plan.id.clone(), plan.directory.clone());
        }))
    }

    fn launch<'a>(
        &'a self,
        plan: &'a VmPlan,
        seed: &'a Seed,
        reporter: &'a Reporter,
    ) -> BoxFuture<'a, Result<Running, PlatformError>> {
        Box::pin(self.call("launch", Some(reporter), |inner| {
            assert!(!inner.processes.contains_key(&plan.id), "a VM must never run twice");
            assert!(inner.directories.contains_key(&plan.id), "a VM must have disks when it starts");
            inner.seeds.insert(plan.id.clone(), seed.clone());
            let console = crate::vm::observe::console_log(plan);
            std::fs::write(console, "fake kernel\nKernel panic - not syncing\n").expect("the directory exists");
            start(inner, &plan.id);
            Self::running(inner, &plan.id).expect("just started")
        }))
    }

    fn inspect<'a>(
        &'a self,
        plan: &'a VmPlan,
        _: Option<&'a ProcessIdentity>,
    ) -> BoxFuture<'a, Result<Observed, PlatformError>> {
        Box::pin(
            self.call("inspect", None, |inner| {
                Self::running(inner, &plan.id).map_or(Observed::Gone, Observed::Running)
            }),
        )
    }

    fn connect_control<'a>(&'a self, plan: &'a VmPlan) -> BoxFuture<'a, Result<UnixStream, PlatformError>> {
        Box::pin(async move {
            let script = self.world.lock().processes.get(&plan.id).map(|process| process.script.clone());
            let script = script.ok_or_else(|| error("connect_control", "no process"))?;
            let (host, guest) = UnixStream::pair().map_err(|_| error("connect_control", "no pair"))?;
            let (world, id) = (Arc::clone(&self.world), plan.id.clone());
            tokio::spawn(async move {
                if guest::converse(guest, script).await == guest::Then::PowerOff {
                    world.end_process(&id);
                }
            });
            Ok(host)
        })
    }

    fn wait_gone<'a>(&'a self, process: &'a ProcessIdentity) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let alive = {
                let inner = self.world.lock();
                let found = inner.processes.values().find(|candidate| candidate.identity == *process);
                found.map(|found| found.alive.subscribe())
            };
            if let Some(mut alive) = alive {
                // An error means the process is gone as well.
                let _ = alive.wait_for(|alive| !alive).await;
            }
        })
    }

    fn kill<'a>(
        &'a self,
        plan: &'a VmPlan,
        _: Option<&'a ProcessIdentity>,
    ) -> BoxFuture<'a, Result<(), PlatformError>> {
        Box::pin(self.call("kill", None, |inner| end(inner, &plan.id)))
    }

    fn set_nat<'a>(&'a self, plan: &'a VmPlan) -> BoxFuture<'a, Result<(), PlatformError>> {
        Box::pin(self.call("set_nat", None, |inner| {
            inner.nat.insert(plan.id.clone(), plan.nat);
        }))
    }

    fn reassert<'a>(&'a self, wanted: Wanted<'a>) -> BoxFuture<'a, Result<Vec<Notice>, PlatformError>> {
        Box::pin(self.call("reassert", None, |inner| {
            inner.nat = wanted().into_iter().map(|plan| (plan.id, plan.nat)).collect();
            inner.notices.drain(..).collect()
        }))
    }

    fn examine(&self) -> BoxFuture<'_, Vec<Finding>> {
        Box::pin(std::future::ready(vec![Finding::pass("fake", "there")]))
    }

    fn teardown<'a>(&'a self, plan: &'a VmPlan) -> BoxFuture<'a, Vec<PlatformError>> {
        Box::pin(async move {
            let done = self.call("teardown", None, |inner| {
                inner.directories.remove(&plan.id);
                let _ = std::fs::remove_dir_all(&plan.directory);
            });
            done.await.err().into_iter().collect()
        })
    }

    fn inventory(&self) -> BoxFuture<'_, Result<Vec<VmId>, PlatformError>> {
        Box::pin(self.call("inventory", None, |inner| {
            let all: BTreeSet<VmId> = inner.directories.keys().chain(inner.processes.keys()).cloned().collect();
            all.into_iter().collect()
        }))
    }

    fn remove_orphan<'a>(&'a self, id: &'a VmId) -> BoxFuture<'a, Vec<PlatformError>> {
        Box::pin(async move {
            let done = self.call("remove_orphan", None, |inner| {
                end(inner, id);
                if let Some(directory) = inner.directories.remove(id) {
                    let _ = std::fs::remove_dir_all(directory);
                }
            });
            done.await.err().into_iter().collect()
        })
    }
}
