//! From the command line to a serving daemon, and back out: every step that can refuse, in order.
//!
//! ```text
//!  owner ▶ roots ▶ lock ▶ socket ▶ store ▶ image and kernel stores ▶ platform ▶ reconcile ▶ ready ▶ serve
//! ```
//! Whoever started the daemon learns the first refusal through [`crate::ready`]. The socket exists before the
//! store is opened, so that a second client waits in its queue instead of starting a second daemon.

mod installation;

use std::os::unix::net::UnixListener as StdListener;
use std::path::PathBuf;
use std::sync::Arc;

use banger_proto::failure::{Classified, Failure, Kind};
use banger_proto::install::Install;
use banger_proto::roots::Environment;
use rustix::fs::Mode as FileMode;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::args::Args;
use crate::artifact::bootstrap::Mmdebstrap;
use crate::artifacts::Stores;
use crate::catalog::Catalog;
use crate::dns;
use crate::image::{ImageStore, InPlace};
use crate::kernel::KernelStore;
use crate::lock::InstanceLock;
use crate::mode::Mode;
use crate::notify;
use crate::oci::cache::Prune;
use crate::oci::settings::Settings;
use crate::operation::Operations;
use crate::paths::Paths;
use crate::platform::Platform;
use crate::platform::firecracker::FirecrackerPlatform;
use crate::platform::qemu::QemuPlatform;
use crate::ready::Ready;
use crate::server::{self, idle::until_idle, listener};
use crate::store::{Origin, Store};
use crate::vm::Vms;
use crate::vm::host::{Host, Patience};
use crate::vm::watch;

/// Everything that was opened.
struct Opened {
    host: Host,
    stores: Arc<Stores>,
    origin: Origin,
    /// To serve names of VMs on, where VMs have addresses.
    names: Option<dns::Sockets>,
}

/// Runs the daemon to its end.
///
/// # Errors
/// Why it could not start, or why it could not go on serving.
pub fn run(args: &Args, ready: &mut Ready) -> Result<(), Failure> {
    rustix::process::umask(FileMode::from_raw_mode(0o077));
    let uid = rustix::process::getuid();
    let install = match args.mode() {
        Mode::Rootless => None,
        Mode::System => Some(installation::admit(Install::load(), uid.as_raw()).map_err(fail)?),
    };
    let paths = match &install {
        None => Paths::resolve(&Environment::observe()).map_err(fail)?,
        Some(_) => Paths::system(),
    };
    paths.ensure().map_err(fail)?;
    let lock = InstanceLock::acquire(&paths.lock()).map_err(fail)?;
    if uid.is_root() {
        tracing::info!("running as root: VMs and their files belong to root");
    }
    let socket = RemoveOnDrop(paths.socket());
    let listener = listener::bind(&socket.0, &lock).map_err(fail)?;
    let opened = open(&paths, install.as_ref())?;

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| {
        Failure::new(Kind::HostNotReady, "cannot start the daemon's threads").caused_by(error.to_string())
    })?;
    let outcome = runtime.block_on(serve(args, opened, listener, ready));
    // Blocking jobs of the stores may still run; the process must end all the same.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    drop(socket);
    drop(lock);
    outcome
}

fn open(paths: &Paths, install: Option<&Install>) -> Result<Opened, Failure> {
    let (store, origin) = Store::open(paths.database()).map_err(fail)?;
    let catalog = Arc::new(Catalog::load(&paths.config).map_err(fail)?);
    let images = ImageStore::open(paths.images(), paths.cache.clone()).map_err(fail)?;
    let images = match install {
        // The root helper derives an image's file from its id, and the service does not see its owner's home.
        Some(_) => images.with_mmdebstrap(Mmdebstrap::by_service()).with_in_place(InPlace::Refused),
        None => images,
    };
    let kernels = KernelStore::open(paths.kernels(), paths.cache.clone()).map_err(fail)?;
    let stores = Arc::new(Stores {
        images: images.with_catalog(Arc::clone(&catalog)).with_settings(Settings::load(&paths.config).map_err(fail)?),
        kernels: kernels.with_catalog(catalog),
    });
    let platform: Arc<dyn Platform> = match install {
        None => Arc::new(QemuPlatform::open(paths).map_err(fail)?),
        Some(install) => Arc::new(FirecrackerPlatform::open(paths, install).map_err(fail)?),
    };
    let (names, names_problem) = bind_names(platform.as_ref());
    let host = Host {
        mode: if install.is_some() { Mode::System } else { Mode::Rootless },
        names_problem,
        patience: Patience::with(platform.vmm_name()),
        platform,
        store,
        paths: paths.clone(),
        artifacts: stores.clone(),
        closing: CancellationToken::new(),
    };
    Ok(Opened { host, stores, origin, names })
}

/// VMs work without their names: doctor tells why they have none.
fn bind_names(platform: &dyn Platform) -> (Option<dns::Sockets>, Option<Failure>) {
    let Some(pool) = platform.address_pool() else { return (None, None) };
    match dns::bind_gateway(pool.gateway()) {
        Ok(sockets) => (Some(sockets), None),
        Err(error) => {
            let failure = fail(error);
            tracing::warn!("{failure}");
            (None, Some(failure))
        }
    }
}

async fn serve(args: &Args, opened: Opened, listener: StdListener, ready: &mut Ready) -> Result<(), Failure> {
    let internal = |what: &'static str| {
        move |error: std::io::Error| Failure::new(Kind::Internal, what).caused_by(error.to_string())
    };
    // Before anything can be interrupted half way.
    let mut terminate = signal(SignalKind::terminate()).map_err(internal("cannot listen for SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(internal("cannot listen for SIGINT"))?;
    let listener = tokio::net::UnixListener::from_std(listener).map_err(internal("cannot listen on the socket"))?;

    let socket = opened.host.paths.socket();
    let vms = Vms::new(Arc::new(opened.host));
    vms.reconcile(opened.origin).await.map_err(fail)?;
    opened.stores.prune_old_builds(&vms.boot_sources(), Prune::Remove);
    look_after_network(&vms, opened.names);

    let end = CancellationToken::new();
    let operations = Operations::default();
    let connections = listener::Connections::default();
    let api = Api::new(vms.clone(), operations.clone(), opened.stores, end.clone());
    ready.announce(&socket);
    notify::ready();
    tracing::info!(socket = %socket.display(), version = banger_proto::version::VERSION, "serving");

    let busy = {
        let (connections, vms) = (connections.clone(), vms.clone());
        move || connections.open() > 0 || !operations.running().is_empty() || vms.any_alive()
    };
    let shutdown = async move {
        let why = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
            () = end.cancelled() => "a request to end",
            () = until_idle(args.idle_exit(), busy) => "nothing to do",
        };
        tracing::info!("ending: {why}");
        notify::stopping();
        // New clients must start a new daemon rather than find this one closing.
        let _ = std::fs::remove_file(&socket);
    };
    let served = server::run(listener, api, connections, shutdown).await;
    served.map_err(|error| Failure::new(Kind::Internal, "serving the socket failed").caused_by(error.to_string()))
}

/// Where VMs have addresses: their names are served, and the host's side of the network is watched. Both end by
/// themselves with the daemon.
fn look_after_network(vms: &Vms, names: Option<dns::Sockets>) {
    let Some(pool) = vms.host().platform.address_pool() else { return };
    tokio::spawn(vms.clone().watch(watch::INTERVAL));
    let Some(sockets) = names else { return };
    let observed = vms.clone();
    let observe = Arc::new(move || dns::Table::observe(&observed, pool));
    let serving = dns::run(sockets, observe, Arc::new(dns::host_resolver), vms.host().closing.clone());
    tokio::spawn(async move {
        if let Err(error) = serving.await {
            tracing::error!("names of VMs are not served: {error}");
        }
    });
}

/// A failure as the command line shows its own.
pub fn render(failure: &Failure) -> String {
    let mut lines = vec![format!("error: {}", failure.chain[0])];
    lines.extend(failure.chain[1..].iter().map(|cause| format!("  caused by: {cause}")));
    lines.extend(failure.hints.iter().map(|hint| format!("  hint: {hint}")));
    lines.join("\n") + "\n"
}

fn fail<E: Classified>(error: E) -> Failure {
    Failure::from_error(&error)
}

/// The socket goes with the daemon, also when the start fails.
struct RemoveOnDrop(PathBuf);

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
