//! How a session reaches its VM: the daemon is asked each time, as the address changes with every start.

use std::path::PathBuf;
use std::sync::Arc;

use banger_proto::failure::{Failure, Kind};
use banger_proto::v1::{GetVmRequest, VmState};
use banger_sync::ssh::Connection;
use banger_sync::watch::{Reach, Reaching, Unreachable};
use tokio::sync::Notify;

use crate::client::Client;
use crate::run::reach::target;
use crate::view::vm::state_word;

/// See the module.
pub struct VmReach {
    /// The daemon.
    pub client: Client,
    /// Of the VM.
    pub vm_id: String,
    /// Our private key.
    pub identity: PathBuf,
    /// Told when there is no such VM any more.
    pub gone: Arc<Notify>,
}

impl Reach for VmReach {
    fn connect(&self) -> Reaching<'_> {
        Box::pin(async {
            let request = GetVmRequest { reference: self.vm_id.clone() };
            let vm = match self.client.vms().get(request).await {
                Ok(vm) => vm.into_inner(),
                Err(status) => {
                    let failure = Failure::from(status);
                    if failure.kind == Kind::NotFound {
                        self.gone.notify_one();
                    }
                    return Err(Unreachable { why: failure.to_string() });
                }
            };
            if !matches!(vm.state(), VmState::Running | VmState::Booting) {
                return Err(Unreachable { why: format!("VM {} is {}", vm.name, state_word(vm.state())) });
            }
            let no_address = || Unreachable { why: format!("VM {} has no address to connect to", vm.name) };
            let target = target(self.identity.clone(), &vm).ok_or_else(no_address)?;
            Connection::connect(&target)
                .await
                .map_err(|error| Unreachable { why: Failure::from_error(&error).to_string() })
        })
    }
}
