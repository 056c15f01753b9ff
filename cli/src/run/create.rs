//! Makes a VM and waits for it. When that fails or is interrupted, nothing half-made stays; only a VM whose guest
//! never answered is left by the daemon, on purpose, and the user is told.

use std::time::Duration;

use banger_proto::failure::Kind;
use banger_proto::v1::{CancelOperationRequest, CreateVmRequest, GetVmRequest, Vm, WatchOperationRequest};

use super::cleanup;
use crate::client::Client;
use crate::context::Context;
use crate::error::{CliError, OrFail as _};
use crate::interrupt::Interrupts;
use crate::operation::{Reporting, Seen, follow};
use crate::view::time::now_ms;

/// How long a cancelled creation may take to undo itself.
const UNDO_TIMEOUT: Duration = Duration::from_secs(30);

/// Makes it.
///
/// # Errors
/// The failure, with what became of the VM.
pub async fn create(
    context: &Context,
    client: &Client,
    interrupts: &mut Interrupts,
    request: CreateVmRequest,
    reporting: Reporting<'_>,
) -> Result<Vm, CliError> {
    let mut attempt = Attempt { began_unix_ms: now_ms(), name: request.name.clone(), seen: Seen::default() };
    let mut vms = client.vms();
    let creating = follow(vms.create(request), reporting, &mut attempt.seen);
    match interrupts.guard("creating the VM", creating).await {
        Ok(()) => {
            let request = GetVmRequest { reference: attempt.seen.subject_id.clone() };
            let vm = client.vms().get(request).await.or_fail().map_err(|error| {
                let name = &attempt.seen.subject;
                error.hint(format!("The VM {name} was made: see it with `banger vm show {name}`."))
            })?;
            let vm = vm.into_inner();
            context.remember_host_key(&vm);
            Ok(vm)
        }
        Err(error) if matches!(error.kind(), None | Some(Kind::Cancelled)) => {
            match unmake(context, client, interrupts, &attempt).await {
                Ok(()) => Err(error),
                Err(left) => Err(cleanup::attach(error, &left)),
            }
        }
        Err(error) => Err(tell_if_kept(client, &attempt, error).await),
    }
}

/// What is known of a VM that may have come into being.
struct Attempt {
    began_unix_ms: i64,
    /// As asked for; empty if generated.
    name: String,
    seen: Seen,
}

impl Attempt {
    /// The VM this attempt made, if it is there. A VM of the same name that was there before is not ours: the
    /// daemon's clock is this host's, so it is told by when it was made.
    async fn find(&self, client: &Client) -> Result<Option<Vm>, CliError> {
        let references = [&self.seen.subject_id, &self.seen.subject, &self.name];
        let Some(reference) = references.into_iter().find(|reference| !reference.is_empty()) else { return Ok(None) };
        let vms = client.list_vms().await?;
        let exact = vms.into_iter().find(|vm| vm.id == *reference || vm.name == *reference);
        Ok(exact.filter(|vm| vm.created_unix_ms >= self.began_unix_ms))
    }
}

/// Waits until the daemon has undone a cancelled creation, and deletes what it left.
async fn unmake(
    context: &Context,
    client: &Client,
    interrupts: &mut Interrupts,
    attempt: &Attempt,
) -> Result<(), CliError> {
    context.ui.status("cancelled; undoing what was begun");
    let undone = async {
        let waited = tokio::time::timeout(UNDO_TIMEOUT, wait_for_end(client, &attempt.seen.operation_id)).await;
        if waited.is_err() {
            context.ui.detail("the cancelled operation goes on; deleting its VM");
        }
        attempt.find(client).await
    };
    match interrupts.guard_stubbornly(&context.ui, undone).await? {
        Some(vm) => cleanup::delete(context, interrupts, &vm).await,
        None => Ok(()),
    }
}

async fn wait_for_end(client: &Client, operation_id: &str) {
    if operation_id.is_empty() {
        return;
    }
    let id = operation_id.to_owned();
    // Our watching it must not count as interest in its success, so it is cancelled in so many words.
    let _ = client.operations().cancel(CancelOperationRequest { id: id.clone() }).await;
    let Ok(events) = client.operations().watch(WatchOperationRequest { id }).await else { return };
    let mut events = events.into_inner();
    while let Ok(Some(_)) = events.message().await {}
}

/// The daemon keeps a VM whose guest never answered; all else it has undone.
async fn tell_if_kept(client: &Client, attempt: &Attempt, error: CliError) -> CliError {
    if error.kind() == Some(Kind::Conflict) {
        // The name is taken: whatever is found under it is somebody else's.
        return error;
    }
    match attempt.find(client).await {
        Ok(None) => error,
        Ok(Some(vm)) => {
            let name = &vm.name;
            error
                .hint(format!("The VM {name} is kept for a look: `banger vm logs {name}`, `banger vm show {name}`."))
                .hint(format!("Delete it with `banger vm delete {name}`."))
        }
        Err(_) => error.hint("See whether a VM was left with `banger vm list`."),
    }
}
