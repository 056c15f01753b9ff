//! VMs over gRPC.

mod logs;

use std::future::Future;

use banger_proto::failure::{Classified, Failure, Kind};
use banger_proto::guest;
use banger_proto::names::VmId;
use banger_proto::v1::vm_service_server::VmService;
use banger_proto::v1::{
    CreateVmRequest, DeleteVmRequest, GetVmRequest, KillVmRequest, ListPortsRequest, ListPortsResponse, ListVmsRequest,
    ListVmsResponse, LogChunk, LogsRequest, SetVmRequest, SetWorkspaceRequest, StartVmRequest, StopVmRequest, Vm,
    WaitVmRequest,
};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tonic::{Request, Response, Status};

use super::{Api, Events, parse, refuse, render, stream};
use crate::operation::{Description, WhenUnattended};
use crate::reporter::Reporter;
use crate::vm::Vms;
use crate::vm::control::ControlError;
use crate::vm::driver::{Change, DriverHandle};

/// What a list call returns at most, unless asked for less.
const PAGE_LIMIT: usize = 500;

/// The guest cannot be asked.
#[derive(Debug, thiserror::Error)]
enum PortsError {
    #[error("the VM {name:?} is not running")]
    NotRunning { name: String },
    #[error("cannot list the ports of the VM {name:?}")]
    Control { name: String, source: ControlError },
}

impl Classified for PortsError {
    fn kind(&self) -> Kind {
        match self {
            Self::NotRunning { .. } => Kind::Conflict,
            Self::Control { source, .. } => source.kind(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NotRunning { name } => vec![format!("Run `banger vm start {name}` first.")],
            Self::Control { name, .. } => vec![format!("Run `banger vm logs {name}` to read its console.")],
        }
    }
}

impl Api {
    /// Runs `work` on the VM a reference means, as an operation.
    fn operate<F, Work>(
        &self,
        (kind, reference): (&'static str, &str),
        when_unattended: WhenUnattended,
        work: F,
    ) -> Result<Response<Events>, Status>
    where
        F: FnOnce(Vms, VmId, Reporter) -> Work + Send + 'static,
        Work: Future<Output = Result<(), Failure>> + Send,
    {
        let record = self.vms().find(reference)?.snapshot().record;
        let description = Description { kind, subject: record.name.to_string(), when_unattended };
        let (vms, id) = (self.vms().clone(), record.id.clone());
        Ok(stream(self.operations().begin(description, move |reporter| async move {
            work(vms, id.clone(), reporter).await?;
            Ok(id.to_string())
        })))
    }

    fn rendered(&self, handle: &DriverHandle) -> Response<Vm> {
        Response::new(render::vm(&handle.snapshot(), self.paths()))
    }
}

#[tonic::async_trait]
impl VmService for Api {
    type CreateStream = Events;
    type StartStream = Events;
    type StopStream = Events;
    type KillStream = Events;
    type DeleteStream = Events;
    type LogsStream = BoxStream<'static, Result<LogChunk, Status>>;

    async fn create(&self, request: Request<CreateVmRequest>) -> Result<Response<Events>, Status> {
        let mut request = parse::create(request.into_inner()).map_err(|error| refuse(&error))?;
        // Named here already, so that the operation can be told by its name.
        let generated = request.name.is_none();
        let name = request.name.get_or_insert_with(|| self.vms().propose_name()).clone();
        let description =
            Description { kind: "vm.create", subject: name.to_string(), when_unattended: WhenUnattended::Cancel };
        let vms = self.vms().clone();
        Ok(stream(self.operations().begin(description, move |reporter| async move {
            let mut request = request;
            if generated && vms.find(name.as_str()).is_ok() {
                request.name = None;
            }
            vms.create(request, &reporter).await.map(|id| id.to_string())
        })))
    }

    async fn start(&self, request: Request<StartVmRequest>) -> Result<Response<Events>, Status> {
        let request = request.into_inner();
        let options = parse::start_options(request.wait(), request.wait_timeout_seconds);
        let owner = request.owner.map(parse::owner);
        self.operate(("vm.start", &request.reference), WhenUnattended::Cancel, move |vms, id, reporter| async move {
            vms.start(&id, owner, options, &reporter).await
        })
    }

    async fn stop(&self, request: Request<StopVmRequest>) -> Result<Response<Events>, Status> {
        let request = request.into_inner();
        let patience = parse::seconds(request.timeout_seconds);
        self.operate(("vm.stop", &request.reference), WhenUnattended::Continue, move |vms, id, reporter| async move {
            vms.stop(&id, patience, &reporter).await
        })
    }

    async fn kill(&self, request: Request<KillVmRequest>) -> Result<Response<Events>, Status> {
        let reference = request.into_inner().reference;
        self.operate(("vm.kill", &reference), WhenUnattended::Continue, |vms, id, reporter| async move {
            vms.kill(&id, &reporter).await
        })
    }

    async fn delete(&self, request: Request<DeleteVmRequest>) -> Result<Response<Events>, Status> {
        let reference = request.into_inner().reference;
        self.operate(("vm.delete", &reference), WhenUnattended::Continue, |vms, id, reporter| async move {
            vms.delete(&id, &reporter).await
        })
    }

    async fn get(&self, request: Request<GetVmRequest>) -> Result<Response<Vm>, Status> {
        Ok(self.rendered(&self.vms().find(&request.into_inner().reference)?))
    }

    async fn list(&self, request: Request<ListVmsRequest>) -> Result<Response<ListVmsResponse>, Status> {
        let request = request.into_inner();
        let all = self.vms().list();
        let size = match request.page_size as usize {
            0 => PAGE_LIMIT,
            size => size.min(PAGE_LIMIT),
        };
        // The token is the last VM of the page before. If it was deleted since, start over: seeing one twice
        // is better than missing one.
        let from =
            all.iter().position(|snapshot| snapshot.record.id.as_str() == request.page_token).map_or(0, |at| at + 1);
        let page = &all[from..all.len().min(from + size)];
        let more = from + page.len() < all.len();
        Ok(Response::new(ListVmsResponse {
            vms: page.iter().map(|snapshot| render::vm(snapshot, self.paths())).collect(),
            next_page_token: page.last().filter(|_| more).map(|last| last.record.id.to_string()).unwrap_or_default(),
        }))
    }

    async fn set_workspace(&self, request: Request<SetWorkspaceRequest>) -> Result<Response<Vm>, Status> {
        let request = request.into_inner();
        let workspace = parse::workspace(request.workspace).map_err(|error| refuse(&error))?;
        let handle = self.vms().find(&request.reference)?;
        handle.record_workspace(workspace).await.map_err(|error| refuse(&error))?;
        Ok(self.rendered(&handle))
    }

    async fn list_ports(&self, request: Request<ListPortsRequest>) -> Result<Response<ListPortsResponse>, Status> {
        let snapshot = self.vms().find(&request.into_inner().reference)?.snapshot();
        let name = snapshot.record.name.to_string();
        let Some(control) = snapshot.control else {
            return Err(refuse(&PortsError::NotRunning { name }));
        };
        let question = guest::v1::host_frame::Request::ListPorts(guest::v1::ListPorts {});
        let answered = control.request(question, self.vms().host().patience.answer).await;
        match answered.map_err(|source| refuse(&PortsError::Control { name: name.clone(), source }))? {
            guest::v1::guest_frame::Body::Ports(ports) => {
                Ok(Response::new(render::ports(ports.ports, &snapshot.record)))
            }
            _ => Err(refuse(&PortsError::Control { name, source: ControlError::Mismatch })),
        }
    }

    async fn logs(&self, request: Request<LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        let request = request.into_inner();
        let handle = self.vms().find(&request.reference)?;
        let until = if request.follow { logs::Until::Gone } else { logs::Until::EndOfFile };
        let closing = self.vms().host().closing.clone();
        Ok(Response::new(logs::chunks(&handle, self.paths(), until, closing).await?.boxed()))
    }

    async fn set(&self, request: Request<SetVmRequest>) -> Result<Response<Vm>, Status> {
        let request = request.into_inner();
        let handle = self.vms().find(&request.reference)?;
        let change = Change { nat: request.nat, vcpu_count: request.vcpu_count, memory_mib: request.memory_mib };
        handle.set(change).await.map_err(|error| refuse(&error))?;
        Ok(self.rendered(&handle))
    }

    async fn wait(&self, request: Request<WaitVmRequest>) -> Result<Response<Vm>, Status> {
        let request = request.into_inner();
        let handle = self.vms().find(&request.reference)?;
        let options = parse::start_options(request.wait(), request.timeout_seconds);
        self.vms().wait(&handle.snapshot().record.id, options).await?;
        Ok(self.rendered(&handle))
    }
}
