//! The services of the test daemon.

use std::pin::Pin;

use banger_proto::failure::{Failure, Kind};
use banger_proto::v1::image_service_server::ImageService;
use banger_proto::v1::kernel_service_server::KernelService;
use banger_proto::v1::operation_event::Event;
use banger_proto::v1::operation_service_server::OperationService;
use banger_proto::v1::system_service_server::SystemService;
use banger_proto::v1::vm_service_server::VmService;
use banger_proto::v1::*;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Shared, State, lock, new_vm};

const OPERATION: &str = "op-00000001";

type Answer<T> = Result<Response<T>, Status>;
type Events<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn events(list: Vec<Event>) -> Events<OperationEvent> {
    Box::pin(tokio_stream::iter(list.into_iter().map(|event| Ok(wrap(event)))))
}

fn wrap(event: Event) -> OperationEvent {
    OperationEvent { operation_id: OPERATION.into(), elapsed_ms: 7, event: Some(event) }
}

fn started(subject: &str) -> Event {
    Event::Started(OperationStarted { kind: "test".into(), subject: subject.into() })
}

fn finished(outcome: Result<&str, &Failure>) -> Event {
    Event::Finished(OperationFinished {
        failure: outcome.err().map(Into::into),
        subject_id: outcome.unwrap_or_default().to_owned(),
    })
}

impl Shared {
    fn find(&self, reference: &str) -> Result<Vm, Status> {
        let state = lock(&self.0);
        let found = state.vms.iter().find(|vm| vm.id == reference || vm.name == reference).cloned();
        found.ok_or_else(|| {
            let hint = "See the VMs there are with `banger vm list`.";
            Failure::new(Kind::NotFound, format!("there is no VM {reference:?}")).hint(hint).into()
        })
    }

    /// A verb on a VM: remembered, failing if told to, else changing the VM.
    fn act(
        &self,
        verb: &str,
        reference: &str,
        change: impl FnOnce(&mut State, &str),
    ) -> Answer<Events<OperationEvent>> {
        let vm = self.find(reference)?;
        let mut state = lock(&self.0);
        state.calls.push(format!("{verb} {}", vm.name));
        let stage = Event::Stage(Stage { name: verb.into(), message: format!("{verb} {}", vm.name) });
        let failure = state.failures.get(&format!("{verb} {}", vm.name)).or_else(|| state.failures.get(verb)).cloned();
        let end = match &failure {
            Some(failure) => finished(Err(failure)),
            None => {
                change(&mut state, &vm.id);
                finished(Ok(&vm.id))
            }
        };
        Ok(Response::new(events(vec![started(&vm.name), stage, end])))
    }
}

fn set_state(state: &mut State, id: &str, to: VmState) {
    state.vms.iter_mut().filter(|vm| vm.id == id).for_each(|vm| vm.set_state(to));
}

#[tonic::async_trait]
impl VmService for Shared {
    type CreateStream = Events<OperationEvent>;
    type StartStream = Events<OperationEvent>;
    type StopStream = Events<OperationEvent>;
    type KillStream = Events<OperationEvent>;
    type DeleteStream = Events<OperationEvent>;
    type LogsStream = Events<LogChunk>;

    async fn create(&self, request: Request<CreateVmRequest>) -> Answer<Self::CreateStream> {
        let request = request.into_inner();
        let shared = self.clone();
        let (sender, receiver) = mpsc::channel(4);
        let vm = {
            let mut state = lock(&self.0);
            state.created = Some(request.clone());
            if state.vms.iter().any(|vm| vm.name == request.name) {
                let failure = Failure::new(Kind::Conflict, format!("VM {} exists already", request.name));
                return Err(failure.hint("Choose another with `--name`.").into());
            }
            let vm = new_vm(&state, &request.name, VmState::Created);
            state.calls.push(format!("create {}", vm.name));
            state.vms.push(vm.clone());
            vm
        };
        tokio::spawn(async move {
            let _ = sender.send(Ok(wrap(started(&vm.name)))).await;
            for stage in ["image", "disks", "boot"] {
                let event = Event::Stage(Stage { name: stage.into(), message: format!("stage {stage}") });
                let _ = sender.send(Ok(wrap(event))).await;
                let hangs = lock(&shared.0).hang_at.contains(stage);
                if hangs {
                    sender.closed().await;
                    let mut state = lock(&shared.0);
                    state.calls.push(format!("cancelled {}", vm.name));
                    if !state.forgets_to_undo {
                        state.vms.retain(|known| known.id != vm.id);
                    }
                    return;
                }
            }
            let warning = Event::Warning(Warning { message: "no KVM".into() });
            let _ = sender.send(Ok(wrap(warning))).await;
            let end = {
                let mut state = lock(&shared.0);
                match state.failures.get("create").cloned() {
                    Some(failure) => {
                        if !state.keeps_failed {
                            state.vms.retain(|known| known.id != vm.id);
                        }
                        finished(Err(&failure))
                    }
                    None => {
                        let to = if request.start { VmState::Running } else { VmState::Created };
                        set_state(&mut state, &vm.id, to);
                        finished(Ok(&vm.id))
                    }
                }
            };
            let _ = sender.send(Ok(wrap(end))).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn start(&self, request: Request<StartVmRequest>) -> Answer<Self::StartStream> {
        self.act("start", &request.into_inner().reference, |state, id| set_state(state, id, VmState::Running))
    }

    async fn stop(&self, request: Request<StopVmRequest>) -> Answer<Self::StopStream> {
        self.act("stop", &request.into_inner().reference, |state, id| set_state(state, id, VmState::Stopped))
    }

    async fn kill(&self, request: Request<KillVmRequest>) -> Answer<Self::KillStream> {
        self.act("kill", &request.into_inner().reference, |state, id| set_state(state, id, VmState::Stopped))
    }

    async fn delete(&self, request: Request<DeleteVmRequest>) -> Answer<Self::DeleteStream> {
        self.act("delete", &request.into_inner().reference, |state, id| state.vms.retain(|vm| vm.id != id))
    }

    async fn get(&self, request: Request<GetVmRequest>) -> Answer<Vm> {
        self.find(&request.into_inner().reference).map(Response::new)
    }

    async fn list(&self, request: Request<ListVmsRequest>) -> Answer<ListVmsResponse> {
        // One a page, so that paging is really used.
        let at: usize = request.into_inner().page_token.parse().unwrap_or(0);
        let state = lock(&self.0);
        let next = if at + 1 < state.vms.len() { (at + 1).to_string() } else { String::new() };
        Ok(Response::new(ListVmsResponse {
            vms: state.vms.get(at).cloned().into_iter().collect(),
            next_page_token: next,
        }))
    }

    async fn set_workspace(&self, request: Request<SetWorkspaceRequest>) -> Answer<Vm> {
        self.find(&request.into_inner().reference).map(Response::new)
    }

    async fn list_ports(&self, request: Request<ListPortsRequest>) -> Answer<ListPortsResponse> {
        let vm = self.find(&request.into_inner().reference)?;
        if let Some(failure) = lock(&self.0).failures.get(&format!("ports {}", vm.name)) {
            return Err(failure.into());
        }
        let port = ListeningPort { protocol: "tcp".into(), address: "::".into(), port: 22, ..ListeningPort::default() };
        Ok(Response::new(ListPortsResponse { ports: vec![port] }))
    }

    async fn logs(&self, request: Request<LogsRequest>) -> Answer<Self::LogsStream> {
        let request = request.into_inner();
        self.find(&request.reference)?;
        let chunks = ["Linux version\r\n", "\u{1b}[31mred\n"].map(|text| Ok(LogChunk { data: text.into() }));
        let chunks = tokio_stream::iter(chunks);
        if request.follow {
            use tokio_stream::StreamExt as _;
            return Ok(Response::new(Box::pin(chunks.chain(tokio_stream::pending()))));
        }
        Ok(Response::new(Box::pin(chunks)))
    }

    async fn set(&self, request: Request<SetVmRequest>) -> Answer<Vm> {
        let request = request.into_inner();
        let vm = self.find(&request.reference)?;
        let mut state = lock(&self.0);
        state
            .calls
            .push(format!("set {} {:?} {:?} {:?}", vm.name, request.nat, request.vcpu_count, request.memory_mib));
        Ok(Response::new(vm))
    }

    async fn wait(&self, request: Request<WaitVmRequest>) -> Answer<Vm> {
        self.find(&request.into_inner().reference).map(Response::new)
    }
}

#[tonic::async_trait]
impl OperationService for Shared {
    type WatchStream = Events<OperationEvent>;

    async fn list(&self, _: Request<ListOperationsRequest>) -> Answer<ListOperationsResponse> {
        Ok(Response::new(ListOperationsResponse::default()))
    }

    async fn watch(&self, request: Request<WatchOperationRequest>) -> Answer<Self::WatchStream> {
        lock(&self.0).calls.push(format!("watch {}", request.into_inner().id));
        let cancelled = Failure::new(Kind::Cancelled, "cancelled");
        Ok(Response::new(events(vec![started("x"), finished(Err(&cancelled))])))
    }

    async fn cancel(&self, request: Request<CancelOperationRequest>) -> Answer<CancelOperationResponse> {
        lock(&self.0).calls.push(format!("cancel {}", request.into_inner().id));
        Ok(Response::new(CancelOperationResponse {}))
    }
}

#[tonic::async_trait]
impl SystemService for Shared {
    async fn get_version(&self, _: Request<GetVersionRequest>) -> Answer<GetVersionResponse> {
        let version = lock(&self.0).version.clone();
        Ok(Response::new(GetVersionResponse {
            version: version.unwrap_or_else(|| banger_proto::version::VERSION.into()),
            commit: "unknown".into(),
            pid: std::process::id(),
            mode: "rootless".into(),
            uid: 0,
        }))
    }

    async fn doctor(&self, _: Request<DoctorRequest>) -> Answer<DoctorResponse> {
        let check = Check {
            title: "KVM".into(),
            status: CheckStatus::Warn.into(),
            details: vec!["emulating".into()],
            hint: "Look with `ls -l /dev/kvm`.".into(),
        };
        Ok(Response::new(DoctorResponse { checks: vec![check] }))
    }

    async fn shutdown(&self, _: Request<ShutdownRequest>) -> Answer<ShutdownResponse> {
        lock(&self.0).calls.push("shutdown".into());
        Err(Failure::new(Kind::Conflict, "an operation is under way").into())
    }
}

#[tonic::async_trait]
impl ImageService for Shared {
    type PullStream = Events<OperationEvent>;

    async fn pull(&self, request: Request<PullImageRequest>) -> Answer<Self::PullStream> {
        let name = request.into_inner().reference;
        let progress = Progress { done: 1, total: 2, unit: ProgressUnit::Bytes.into(), message: String::new() };
        Ok(Response::new(events(vec![started(&name), Event::Progress(progress), finished(Ok(&name))])))
    }

    async fn list(&self, request: Request<ListImagesRequest>) -> Answer<ListImagesResponse> {
        let image = Image { name: "debian-bookworm".into(), id: "debian-bookworm".into(), ..Image::default() };
        let more = Image { name: "alpine".into(), available_only: true, ..Image::default() };
        let images = if request.into_inner().include_available { vec![image, more] } else { vec![image] };
        Ok(Response::new(ListImagesResponse { images, ..ListImagesResponse::default() }))
    }

    async fn get(&self, request: Request<GetImageRequest>) -> Answer<Image> {
        Ok(Response::new(Image { name: request.into_inner().name, ..Image::default() }))
    }

    async fn delete(&self, request: Request<DeleteImageRequest>) -> Answer<Image> {
        Ok(Response::new(Image { name: request.into_inner().name, ..Image::default() }))
    }

    type ImportStream = Events<OperationEvent>;
    type ExportStream = Events<ExportImageResponse>;
    type BuildStream = Events<OperationEvent>;
    type PromoteStream = Events<OperationEvent>;

    async fn promote(&self, _: Request<PromoteImageRequest>) -> Answer<Self::PromoteStream> {
        Err(tonic::Status::unimplemented("the tests against this daemon promote no image"))
    }

    async fn import(&self, _: Request<tonic::Streaming<ImportImageRequest>>) -> Answer<Self::ImportStream> {
        Err(tonic::Status::unimplemented("the tests against this daemon import no image"))
    }

    async fn export(&self, _: Request<ExportImageRequest>) -> Answer<Self::ExportStream> {
        Err(tonic::Status::unimplemented("the tests against this daemon export no image"))
    }

    async fn build(&self, _: Request<BuildImageRequest>) -> Answer<Self::BuildStream> {
        Err(tonic::Status::unimplemented("the tests against this daemon build no image"))
    }

    async fn prune_cache(&self, _: Request<PruneImageCacheRequest>) -> Answer<PruneImageCacheResponse> {
        Ok(Response::new(PruneImageCacheResponse::default()))
    }
}

#[tonic::async_trait]
impl KernelService for Shared {
    type PullStream = Events<OperationEvent>;

    async fn pull(&self, request: Request<PullKernelRequest>) -> Answer<Self::PullStream> {
        let name = request.into_inner().name;
        Ok(Response::new(events(vec![started(&name), finished(Ok(&name))])))
    }

    async fn list(&self, _: Request<ListKernelsRequest>) -> Answer<ListKernelsResponse> {
        let kernel = Kernel { name: "generic-6.12".into(), ..Kernel::default() };
        Ok(Response::new(ListKernelsResponse { kernels: vec![kernel] }))
    }

    async fn get(&self, request: Request<GetKernelRequest>) -> Answer<Kernel> {
        Ok(Response::new(Kernel { name: request.into_inner().name, ..Kernel::default() }))
    }

    async fn delete(&self, request: Request<DeleteKernelRequest>) -> Answer<Kernel> {
        Ok(Response::new(Kernel { name: request.into_inner().name, ..Kernel::default() }))
    }

    type ImportStream = Events<OperationEvent>;

    async fn import(&self, _: Request<tonic::Streaming<ImportKernelRequest>>) -> Answer<Self::ImportStream> {
        Err(tonic::Status::unimplemented("the tests against this daemon import no kernel"))
    }
}
