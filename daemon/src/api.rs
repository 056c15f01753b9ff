//! The gRPC services: parse the request, call what does the work, render the answer. Nothing is decided here.
//!
//! Generated types end in this module: [`parse`] makes requests into our own types, [`render`] the way back.

mod image;
mod kernel;
mod operation;
mod parse;
mod render;
mod system;
#[cfg(test)]
mod tests;
mod upload;
mod vm;

use std::sync::Arc;

use banger_proto::failure::{Classified, Failure};
use banger_proto::v1::OperationEvent;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status};

use crate::artifacts::Stores;
use crate::operation::{Attachment, Operations};
use crate::paths::Paths;
use crate::vm::Vms;

/// What every service works with. Clones share it.
#[derive(Clone)]
pub struct Api {
    vms: Vms,
    operations: Operations,
    stores: Arc<Stores>,
    uid: u32,
    end: CancellationToken,
}

type Events = BoxStream<'static, Result<OperationEvent, Status>>;

impl Api {
    /// `end` is cancelled when a client asks the daemon to end.
    pub fn new(vms: Vms, operations: Operations, stores: Arc<Stores>, end: CancellationToken) -> Self {
        Self { vms, operations, stores, uid: rustix::process::getuid().as_raw(), end }
    }

    /// Every VM.
    pub fn vms(&self) -> &Vms {
        &self.vms
    }

    /// Every job.
    pub fn operations(&self) -> &Operations {
        &self.operations
    }

    /// Who the daemon is, and whom it serves.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    fn paths(&self) -> &Paths {
        &self.vms.host().paths
    }
}

/// An error on its way out.
fn refuse<E: Classified>(error: &E) -> Status {
    Failure::from_error(error).into()
}

/// The events of an operation as a response.
fn stream(attachment: Attachment) -> Response<Events> {
    Response::new(attachment.map(Ok).boxed())
}

/// `a, b and c` for people.
fn names(users: &[banger_proto::names::VmName]) -> String {
    users.iter().map(|name| format!("{:?}", name.as_str())).collect::<Vec<_>>().join(", ")
}

/// `a b c` for a command line.
fn words(users: &[banger_proto::names::VmName]) -> String {
    users.iter().map(banger_proto::names::VmName::as_str).collect::<Vec<_>>().join(" ")
}
