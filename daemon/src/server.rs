//! Serves the API on a bound socket until told to stop, then ends everything in a written order.
//!
//! ```text
//!  1 no new connections     2 waits end, nothing undone   3 jobs are cancelled and settle (bounded)
//!  4 streams drain (bounded) 5 drivers let go of their VMs 6 the store's thread ends
//! ```
//! VMs are in none of these steps: they keep running and are found again at the next start.

pub mod idle;
pub mod listener;

use std::future::Future;
use std::time::Duration;

use banger_proto::v1::image_service_server::ImageServiceServer;
use banger_proto::v1::kernel_service_server::KernelServiceServer;
use banger_proto::v1::operation_service_server::OperationServiceServer;
use banger_proto::v1::system_service_server::SystemServiceServer;
use banger_proto::v1::vm_service_server::VmServiceServer;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::api::Api;
use listener::Connections;

/// How long cancelled jobs get to undo what they did.
const SETTLE: Duration = Duration::from_secs(20);
/// How long open streams get to end.
const DRAIN: Duration = Duration::from_secs(3);
/// The owner's files travel inside a request.
const REQUEST_LIMIT: usize = 24 << 20;

/// Serves `api` to the uid it runs as until `shutdown` resolves.
///
/// # Errors
/// If the transport fails.
pub async fn run(
    listener: UnixListener,
    api: Api,
    connections: Connections,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let no_more = CancellationToken::new();
    let incoming = listener::accept(listener, api.uid(), connections);
    let serving = Server::builder()
        .add_service(VmServiceServer::new(api.clone()).max_decoding_message_size(REQUEST_LIMIT))
        .add_service(ImageServiceServer::new(api.clone()))
        .add_service(KernelServiceServer::new(api.clone()))
        .add_service(OperationServiceServer::new(api.clone()))
        .add_service(SystemServiceServer::new(api.clone()))
        .serve_with_incoming_shutdown(incoming, no_more.clone().cancelled_owned());
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        ended = &mut serving => return ended,
        () = shutdown => {}
    }

    no_more.cancel();
    let ending = async {
        api.vms().host().closing.cancel();
        api.operations().cancel_all();
        if tokio::time::timeout(SETTLE, api.operations().settled()).await.is_err() {
            tracing::warn!("some operations did not end in time; the next start takes up what they left");
        }
    };
    // Streams must be polled while jobs end, or nobody would see their last events.
    let mut ending = std::pin::pin!(ending);
    let mut served = None;
    loop {
        tokio::select! {
            ended = &mut serving, if served.is_none() => served = Some(ended),
            () = &mut ending => break,
        }
    }
    let served = match served {
        Some(ended) => Ok(ended),
        None => tokio::time::timeout(DRAIN, serving).await,
    };
    api.vms().close().await;
    served.unwrap_or_else(|_| {
        tracing::debug!("some connections were cut");
        Ok(())
    })
}
