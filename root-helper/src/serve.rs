//! The service: `bangerd-root serve`.
//!
//! ```text
//! main thread     load install.toml, make directories, replay the ledger, bind, tell systemd, accept
//! one per client  read a packet, answer a packet            (serve/connection.rs), at most 16
//! ```
//! One operation at a time: the world is behind one lock. An operation that panics has answered "internal", the ledger
//! is read again, and the next request finds what is on disk.

mod connection;
mod notify;
mod socket;

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use banger_proto::failure::{Classified, Kind};
use banger_proto::install::{HELPER_RUNTIME_DIRECTORY, HELPER_STATE_DIRECTORY, Install, InstallError};

use crate::audit;
use crate::caller::Caller;
use crate::error::{Step, StepError, chain, step};
use crate::host::linux::Linux;
use crate::ledger::records::Records;
use crate::operations::replay;
use crate::world::World;

/// Clients at a time. The daemon is one.
const CLIENTS: usize = 16;

/// The helper cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Nothing is installed.
    #[error("cannot serve: banger is not installed on this host")]
    NotInstalled,
    /// The metadata cannot be used.
    #[error("cannot serve")]
    Install {
        /// Why.
        source: InstallError,
    },
    /// Another process has the ledger.
    #[error("cannot serve: another bangerd-root works on this host")]
    Busy,
    /// A step failed.
    #[error("cannot serve")]
    Step {
        /// Which and why.
        #[from]
        source: StepError,
    },
}

impl Classified for ServeError {
    fn kind(&self) -> Kind {
        match self {
            Self::NotInstalled => Kind::HostNotReady,
            Self::Busy => Kind::Conflict,
            Self::Install { source } => source.kind(),
            Self::Step { source } => source.kind(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NotInstalled => vec!["Install it with `sudo banger system install --owner USER`.".to_owned()],
            Self::Busy => vec!["Stop it first with `sudo systemctl stop bangerd-root`.".to_owned()],
            Self::Install { source } => source.hints(),
            Self::Step { .. } => Vec::new(),
        }
    }
}

/// Serves until it is killed: the ledger is on disk, so there is nothing to save at the end.
///
/// # Errors
/// [`ServeError`] if it cannot begin.
pub fn run() -> Result<std::convert::Infallible, ServeError> {
    // Whatever is made is root's alone unless a mode is given.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let mut world = open_world()?;
    for problem in replay::perform(&mut world) {
        audit::note(4, &format!("replay: {problem}"));
    }
    let owner = &world.install.owner;
    let listener = socket::listen(owner.uid, owner.gid)?;
    let world = Arc::new(Mutex::new(world));
    notify::ready().map_err(step("tell systemd that the service is ready"))?;
    accept(&listener, &world)
}

/// The world as the installation and the ledger describe it, with the directories it needs.
///
/// # Errors
/// [`ServeError`].
pub fn open_world() -> Result<World, ServeError> {
    let install = Install::load().map_err(|source| ServeError::Install { source })?.ok_or(ServeError::NotInstalled)?;
    let state = Path::new(HELPER_STATE_DIRECTORY);
    make_directory(state, 0o711)?;
    make_directory(&state.join("ledger"), 0o700)?;
    make_directory(&state.join("cow"), 0o700)?;
    make_directory(&state.join("jail"), 0o711)?;
    make_directory(&state.join("jail/firecracker"), 0o711)?;
    make_directory(Path::new(HELPER_RUNTIME_DIRECTORY), 0o711)?;
    let mut records = Records::at(state.join("ledger"));
    match records.lock() {
        Ok(true) => {}
        Ok(false) => return Err(ServeError::Busy),
        Err(source) => return Err(ServeError::Step { source: StepError::new("lock the ledger", source) }),
    }
    let host = Linux::observe(install.clone())?;
    Ok(World::load(install, Box::new(host), records)?)
}

/// With exactly this mode, whatever made it.
fn make_directory(path: &Path, mode: u32) -> Step<()> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    let attempt = || format!("make the directory {}", path.display());
    match std::fs::DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(StepError::new(attempt(), error));
        }
        _ => {}
    }
    if !path.symlink_metadata().map_err(step(attempt()))?.is_dir() {
        return Err(StepError::refused(attempt(), "something else is there"));
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(step(attempt()))
}

fn accept(listener: &OwnedFd, world: &Arc<Mutex<World>>) -> ! {
    let clients = Arc::new(AtomicUsize::new(0));
    loop {
        match socket::accept(listener) {
            Ok(client) => admit(client, world, &clients),
            Err(error) => {
                audit::note(4, &format!("accept: {}", chain(&error)));
                // Out of descriptors or memory: somebody else must give some back first.
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        }
    }
}

fn admit(client: OwnedFd, world: &Arc<Mutex<World>>, clients: &Arc<AtomicUsize>) {
    let caller = match Caller::observe(&client) {
        Ok(caller) => caller,
        Err(error) => return audit::note(4, &chain(&error)),
    };
    if clients.fetch_add(1, Ordering::SeqCst) >= CLIENTS {
        clients.fetch_sub(1, Ordering::SeqCst);
        let (uid, pid) = (caller.uid(), caller.pid());
        return audit::note(
            5,
            &format!("connection uid={uid} pid={pid} decision=refuse reason=\"{CLIENTS} are open\""),
        );
    }
    let (world, seat) = (Arc::clone(world), Seat(Arc::clone(clients)));
    let spawned = std::thread::Builder::new().name("client".to_owned()).spawn(move || {
        let _seat = seat;
        connection::serve(&client, caller, &world);
    });
    if let Err(error) = spawned {
        audit::note(4, &format!("cannot start a thread for a client: {error}"));
    }
}

/// One of the places, given back when dropped, also by a panic.
struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
