//! A served daemon and clients of it.

use std::sync::Arc;

use banger_proto::failure::Failure;
use banger_proto::v1;
use banger_proto::v1::image_service_client::ImageServiceClient;
use banger_proto::v1::operation_event::Event;
use banger_proto::v1::operation_service_client::OperationServiceClient;
use banger_proto::v1::system_service_client::SystemServiceClient;
use banger_proto::v1::vm_service_client::VmServiceClient;
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use crate::api::Api;
use crate::artifacts::Stores;
use crate::image::ImageStore;
use crate::kernel::KernelStore;
use crate::operation::Operations;
use crate::server::{self, listener::Connections};
use crate::vm::Vms;
use crate::vm::tests::harness::Site;

pub struct Served {
    pub site: Site,
    pub vms: Vms,
    pub channel: Channel,
    /// Ends the daemon.
    pub end: CancellationToken,
    pub server: JoinHandle<Result<(), tonic::transport::Error>>,
}

/// Serves `site`.
pub async fn serve(site: Site) -> Served {
    let vms = site.daemon().await;
    let paths = site.paths();
    let stores = Stores {
        images: ImageStore::open(paths.images(), paths.cache.clone()).unwrap(),
        kernels: KernelStore::open(paths.kernels(), paths.cache.clone()).unwrap(),
    };
    let end = CancellationToken::new();
    let api = Api::new(vms.clone(), Operations::default(), Arc::new(stores), end.clone());
    let listener = UnixListener::bind(paths.socket()).unwrap();
    let server = tokio::spawn(server::run(listener, api, Connections::default(), end.clone().cancelled_owned()));
    let socket = paths.socket();
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://banger").connect_with_connector(connector).await.unwrap();
    Served { site, vms, channel, end, server }
}

impl Served {
    pub fn vm(&self) -> VmServiceClient<Channel> {
        VmServiceClient::new(self.channel.clone())
    }

    pub fn image(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel.clone())
    }

    pub fn operation(&self) -> OperationServiceClient<Channel> {
        OperationServiceClient::new(self.channel.clone())
    }

    pub fn system(&self) -> SystemServiceClient<Channel> {
        SystemServiceClient::new(self.channel.clone())
    }

    /// Creates a VM and follows to the end.
    pub async fn create(&self, name: &str) -> Result<String, Failure> {
        finish(self.vm().create(create_request(name)).await.unwrap().into_inner()).await
    }
}

pub fn create_request(name: &str) -> v1::CreateVmRequest {
    v1::CreateVmRequest {
        name: name.into(),
        spec: Some(v1::VmSpec {
            vcpu_count: 1,
            memory_mib: 256,
            work_disk_mib: 64,
            nat: false,
            published_ports: vec![v1::PublishedPort { host_port: 8080, guest_port: 80 }],
        }),
        start: true,
        wait: v1::WaitFor::Booted.into(),
        ..v1::CreateVmRequest::default()
    }
}

/// Follows an operation to its end: its subject's id, or why it failed.
pub async fn finish(mut events: tonic::Streaming<v1::OperationEvent>) -> Result<String, Failure> {
    let mut first = true;
    loop {
        let event = events.message().await.unwrap().expect("an operation ends with `finished`").event.unwrap();
        assert_eq!(first, matches!(event, Event::Started(_)), "{event:?}");
        first = false;
        if let Event::Finished(finished) = event {
            assert_eq!(events.message().await.unwrap(), None, "`finished` is the last event");
            return finished.failure.map_or(Ok(finished.subject_id), |failure| Err(failure.into()));
        }
    }
}
