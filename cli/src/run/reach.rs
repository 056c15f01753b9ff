//! An SSH connection to a guest: retried until the guest answers, its VM stops, or patience ends.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use banger_proto::failure::{Classified, Kind};
use banger_proto::v1::{GetVmRequest, Vm, VmState};
use banger_sync::ssh::{ConnectError, Connection, SshTarget};

use crate::client::Client;
use crate::context::Context;
use crate::error::CliError;
use crate::view::vm::state_word;

/// For a VM that is known to have been up.
pub const ALREADY_RUNNING: Duration = Duration::from_secs(20);
const DEFAULT: Duration = Duration::from_secs(90);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// The daemon names no usable address.
    #[error("VM {name} has no address to connect to")]
    NoAddress {
        /// Of the VM.
        name: String,
    },
    /// It did not answer in time.
    #[error("VM {name} did not answer at {address} within {} s", waited.as_secs())]
    NoAnswer {
        /// Of the VM.
        name: String,
        /// Of its agent.
        address: SocketAddr,
        /// How long it was tried.
        waited: Duration,
        /// The last try.
        source: ConnectError,
    },
    /// Trying again cannot help.
    #[error("cannot connect to VM {name}")]
    Refused {
        /// Of the VM.
        name: String,
        /// Why.
        source: ConnectError,
    },
    /// It ended while we tried.
    #[error("VM {name} is {state} and does not answer any more")]
    Ended {
        /// Of the VM.
        name: String,
        /// Its state now.
        state: &'static str,
        /// The last try.
        source: ConnectError,
    },
}

impl Classified for ReachError {
    fn kind(&self) -> Kind {
        match self {
            Self::NoAddress { .. } => Kind::Internal,
            Self::NoAnswer { .. } | Self::Ended { .. } => Kind::Failed,
            Self::Refused { source, .. } => source.kind(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NoAddress { name } => vec![format!("See what is known of it with `banger vm show {name}`.")],
            Self::NoAnswer { name, .. } | Self::Ended { name, .. } => {
                vec![format!("See what it said last with `banger vm logs {name}`.")]
            }
            Self::Refused { source, .. } => source.hints(),
        }
    }
}

/// How long to try for a new VM; 0 is the default.
pub fn patience(wait_timeout_seconds: u32) -> Duration {
    match wait_timeout_seconds {
        0 => DEFAULT,
        seconds => Duration::from_secs(seconds.into()),
    }
}

/// Connects to the VM's agent.
///
/// # Errors
/// [`ReachError`].
pub async fn connect(context: &Context, client: &Client, vm: &Vm, patience: Duration) -> Result<Connection, CliError> {
    let no_address = || ReachError::NoAddress { name: vm.name.clone() };
    let target = target(context.paths()?.identity(), vm).ok_or_else(no_address)?;
    context.ui.detail(&format!("connecting to {} as {}", target.address, target.user));
    let began = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let error = match Connection::connect(&target).await {
            Ok(connection) => return Ok(connection),
            Err(error) => error,
        };
        let name = vm.name.clone();
        match &error {
            ConnectError::Transport { .. } | ConnectError::Timeout { .. } => {}
            ConnectError::InvalidHostKey { .. }
            | ConnectError::Identity { .. }
            | ConnectError::HostKeyMismatch { .. }
            | ConnectError::Denied { .. } => return Err(ReachError::Refused { name, source: error }.into()),
        }
        let waited = began.elapsed();
        if waited >= patience {
            return Err(ReachError::NoAnswer { name, address: target.address, waited, source: error }.into());
        }
        if let Some(state) = ended(client, vm).await {
            return Err(ReachError::Ended { name, state: state_word(state), source: error }.into());
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// The state of a VM that will not answer any more. A daemon that cannot be asked is no reason to give up.
async fn ended(client: &Client, vm: &Vm) -> Option<VmState> {
    let answer = client.vms().get(GetVmRequest { reference: vm.id.clone() }).await.ok()?;
    let state = answer.into_inner().state();
    matches!(state, VmState::Stopped | VmState::Stopping | VmState::Broken).then_some(state)
}

/// Where its agent listens, if the daemon says so.
pub fn target(identity: PathBuf, vm: &Vm) -> Option<SshTarget> {
    let connection = vm.connection.as_ref()?;
    let host: IpAddr = connection.agent_host.parse().ok()?;
    let port = u16::try_from(connection.agent_port).ok().filter(|&port| port != 0)?;
    Some(SshTarget {
        address: SocketAddr::new(host, port),
        user: connection.user.clone(),
        host_key: connection.host_key.clone(),
        identity,
    })
}
