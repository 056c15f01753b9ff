//! Calls to bangerd: gRPC over its unix socket. This user's own is started on demand: [`launch`] starts it,
//! [`detached`] is the one place that needs `unsafe` for it. [`installed`] reaches the one that systemd keeps.
//! Everything else in the CLI sees the generated clients this hands out.

pub mod detached;
pub mod installed;
pub mod launch;

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use banger_proto::failure::{Failure, Kind};
use banger_proto::v1::image_service_client::ImageServiceClient;
use banger_proto::v1::kernel_service_client::KernelServiceClient;
use banger_proto::v1::operation_service_client::OperationServiceClient;
use banger_proto::v1::system_service_client::SystemServiceClient;
use banger_proto::v1::vm_service_client::VmServiceClient;
use banger_proto::v1::{GetVersionRequest, GetVersionResponse, ListVmsRequest, ShutdownRequest, Vm};
use banger_proto::version::{COMMIT, VERSION};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use crate::error::{CliError, OrFail as _};
use crate::paths::Paths;
use crate::ui::Ui;
use launch::{Launched, launch};

/// A daemon that listens answers its version at once.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long somebody else's daemon may take from holding the lock to listening, or from agreeing to end to ending.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(15);
const SETTLE_STEP: Duration = Duration::from_millis(50);
const LAUNCH_ATTEMPTS: u32 = 3;
const PAGE_SIZE: u32 = 200;

/// A connection to a daemon that has answered.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
    daemon: GetVersionResponse,
}

impl Client {
    /// What the daemon said about itself.
    pub fn daemon(&self) -> &GetVersionResponse {
        &self.daemon
    }

    /// VMs.
    pub fn vms(&self) -> VmServiceClient<Channel> {
        VmServiceClient::new(self.channel.clone())
    }

    /// Images.
    pub fn images(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel.clone())
    }

    /// Kernels.
    pub fn kernels(&self) -> KernelServiceClient<Channel> {
        KernelServiceClient::new(self.channel.clone())
    }

    /// Operations.
    pub fn operations(&self) -> OperationServiceClient<Channel> {
        OperationServiceClient::new(self.channel.clone())
    }

    /// The daemon itself.
    pub fn system(&self) -> SystemServiceClient<Channel> {
        SystemServiceClient::new(self.channel.clone())
    }

    /// Every VM.
    ///
    /// # Errors
    /// The daemon's failure.
    pub async fn list_vms(&self) -> Result<Vec<Vm>, CliError> {
        let mut vms = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListVmsRequest { page_size: PAGE_SIZE, page_token };
            let page = self.vms().list(request).await.or_fail()?.into_inner();
            vms.extend(page.vms);
            if page.next_page_token.is_empty() {
                return Ok(vms);
            }
            page_token = page.next_page_token;
        }
    }
}

/// The daemon, if one listens.
///
/// # Errors
/// [`Kind::Unreachable`] if something is there that does not answer as a daemon does.
pub async fn connect_running(socket: &Path) -> Result<Option<Client>, CliError> {
    let unreachable = |why: String| {
        let message = format!("cannot reach bangerd at {}", socket.display());
        CliError::Failed(Box::new(Failure::new(Kind::Unreachable, message).caused_by(why)))
    };
    match UnixStream::connect(socket).await {
        Ok(_) => {}
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(unreachable(error.to_string())),
    }
    let path = socket.to_owned();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    // The connector ignores the address; a URI is only needed for the request headers.
    let channel = Endpoint::from_static("http://bangerd").connect_with_connector_lazy(connector);
    let mut system = SystemServiceClient::new(channel.clone());
    match tokio::time::timeout(ANSWER_TIMEOUT, system.get_version(GetVersionRequest {})).await {
        Ok(Ok(answer)) => Ok(Some(Client { channel, daemon: answer.into_inner() })),
        Ok(Err(status)) => {
            match Failure::from(status) {
                // It was on its way out: nobody listens any more.
                failure if failure.kind == Kind::Unreachable => Ok(None),
                failure => Err(CliError::Failed(Box::new(failure))
                    .context(format!("cannot talk to bangerd at {}", socket.display()))),
            }
        }
        Err(_) => Err(unreachable(format!("it does not answer within {} s", ANSWER_TIMEOUT.as_secs()))),
    }
}

/// The daemon of this version, started if need be.
///
/// # Errors
/// Why it cannot be reached or started.
pub async fn ensure_daemon(paths: &Paths, ui: &Ui) -> Result<Client, CliError> {
    paths.ensure_runtime()?;
    let socket = paths.socket();
    let mut may_replace = true;
    for _ in 0..LAUNCH_ATTEMPTS {
        if let Some(client) = connect_running(&socket).await? {
            if is_same_build(client.daemon()) {
                return Ok(client);
            }
            if !(may_replace && replace(&client, &socket, ui).await?) {
                return Ok(client);
            }
            may_replace = false;
        }
        ui.detail("starting bangerd");
        match launch(paths).await? {
            Launched::Ready | Launched::AnotherRuns => {}
        }
        if let Some(client) = wait_for(&socket).await? {
            return Ok(client);
        }
    }
    let message = format!("bangerd was started but nobody listens at {}", socket.display());
    Err(CliError::new(Kind::Unreachable, message)
        .hint(format!("See its log with `tail {}`.", paths.daemon_log().display())))
}

/// Builds without a known commit (development) are compared by version alone.
pub(crate) fn is_same_build(daemon: &GetVersionResponse) -> bool {
    let unknown = COMMIT == "unknown" || daemon.commit == "unknown" || daemon.commit.is_empty();
    daemon.version == VERSION && (unknown || daemon.commit == COMMIT)
}

/// Asks a daemon of another version to end. False: it stays, and the user was told.
async fn replace(client: &Client, socket: &Path, ui: &Ui) -> Result<bool, CliError> {
    let other = &client.daemon().version;
    if let Err(status) = client.system().shutdown(ShutdownRequest {}).await {
        let why = Failure::from(status);
        ui.warn(&format!("bangerd {other} is running, this is banger {VERSION}, and it cannot be replaced now: {why}"));
        return Ok(false);
    }
    ui.detail(&format!("replacing bangerd {other}"));
    let began = Instant::now();
    while began.elapsed() < SETTLE_TIMEOUT {
        if connect_running(socket).await?.is_none() {
            return Ok(true);
        }
        tokio::time::sleep(SETTLE_STEP).await;
    }
    ui.warn(&format!("bangerd {other} agreed to end but is still running; using it"));
    Ok(false)
}

async fn wait_for(socket: &Path) -> Result<Option<Client>, CliError> {
    let began = Instant::now();
    loop {
        if let Some(client) = connect_running(socket).await? {
            return Ok(Some(client));
        }
        if began.elapsed() >= SETTLE_TIMEOUT {
            return Ok(None);
        }
        tokio::time::sleep(SETTLE_STEP).await;
    }
}
