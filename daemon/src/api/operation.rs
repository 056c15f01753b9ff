//! Operations over gRPC.

use banger_proto::v1::operation_service_server::OperationService;
use banger_proto::v1::{
    CancelOperationRequest, CancelOperationResponse, ListOperationsRequest, ListOperationsResponse,
    WatchOperationRequest,
};
use tonic::{Request, Response, Status};

use super::{Api, Events, refuse, render, stream};

#[tonic::async_trait]
impl OperationService for Api {
    type WatchStream = Events;

    async fn list(&self, request: Request<ListOperationsRequest>) -> Result<Response<ListOperationsResponse>, Status> {
        let include_done = request.into_inner().include_done;
        let mut all = self.operations().list();
        all.retain(|overview| include_done || overview.outcome.is_none());
        Ok(Response::new(ListOperationsResponse { operations: all.into_iter().map(render::operation).collect() }))
    }

    async fn watch(&self, request: Request<WatchOperationRequest>) -> Result<Response<Events>, Status> {
        Ok(stream(self.operations().attach(&request.into_inner().id).map_err(|error| refuse(&error))?))
    }

    async fn cancel(
        &self,
        request: Request<CancelOperationRequest>,
    ) -> Result<Response<CancelOperationResponse>, Status> {
        self.operations().cancel(&request.into_inner().id).map_err(|error| refuse(&error))?;
        Ok(Response::new(CancelOperationResponse {}))
    }
}
