//! The daemon itself over gRPC.

use banger_proto::failure::{Classified, Kind};
use banger_proto::v1::system_service_server::SystemService;
use banger_proto::v1::{
    Check, CheckStatus, DoctorRequest, DoctorResponse, GetVersionRequest, GetVersionResponse, ShutdownRequest,
    ShutdownResponse,
};
use banger_proto::version::{COMMIT, VERSION};
use tonic::{Request, Response, Status};

use super::{Api, refuse};
use crate::doctor::{self, Finding, Verdict};

/// The daemon has work to do.
#[derive(Debug, thiserror::Error)]
#[error("bangerd cannot end now: {} under way", operations.join(", "))]
struct BusyError {
    operations: Vec<String>,
}

impl Classified for BusyError {
    fn kind(&self) -> Kind {
        Kind::Conflict
    }

    fn hints(&self) -> Vec<String> {
        vec!["Wait for them, or cancel them with Ctrl-C where they were started.".into()]
    }
}

#[tonic::async_trait]
impl SystemService for Api {
    async fn get_version(&self, _: Request<GetVersionRequest>) -> Result<Response<GetVersionResponse>, Status> {
        Ok(Response::new(GetVersionResponse {
            version: VERSION.to_owned(),
            commit: COMMIT.to_owned(),
            pid: std::process::id(),
            mode: self.vms().host().mode.name().to_owned(),
            uid: self.uid(),
        }))
    }

    async fn doctor(&self, _: Request<DoctorRequest>) -> Result<Response<DoctorResponse>, Status> {
        let findings = doctor::examine(self.vms()).await;
        Ok(Response::new(DoctorResponse { checks: findings.into_iter().map(check).collect() }))
    }

    async fn shutdown(&self, _: Request<ShutdownRequest>) -> Result<Response<ShutdownResponse>, Status> {
        let running = self.operations().running();
        if !running.is_empty() {
            let operations =
                running.iter().map(|one| format!("{} of {} ({})", one.kind, one.subject, one.id)).collect();
            return Err(refuse(&BusyError { operations }));
        }
        tracing::info!("ending on request");
        self.end.cancel();
        Ok(Response::new(ShutdownResponse {}))
    }
}

fn check(finding: Finding) -> Check {
    let status = match finding.verdict {
        Verdict::Pass => CheckStatus::Pass,
        Verdict::Warn => CheckStatus::Warn,
        Verdict::Fail => CheckStatus::Fail,
    };
    Check {
        title: finding.title.to_owned(),
        status: status.into(),
        details: finding.details,
        hint: finding.hint.unwrap_or_default(),
    }
}
