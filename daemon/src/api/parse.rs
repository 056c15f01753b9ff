//! Requests as they arrive → requests as the daemon understands them.

use std::str::FromStr;
use std::time::Duration;

use banger_proto::failure::{Classified, Kind};
use banger_proto::names::InvalidName;
use banger_proto::v1;

use crate::vm::create::{CreateRequest, StartOptions};
use crate::vm::record::{OwnerFile, OwnerMaterial, PublishedPort, VmSpec, Workspace};
use crate::vm::wait::Goal;

/// A request that does not make sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidRequest {
    /// A name breaks its rule.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// Something needed was not sent.
    #[error("the request lacks {what}")]
    Lacks {
        /// "a VM spec" …
        what: &'static str,
    },
    /// No such port.
    #[error("{port} is not a port: use 1 to 65535")]
    Port {
        /// What was sent.
        port: u32,
    },
}

impl Classified for InvalidRequest {
    fn kind(&self) -> Kind {
        match self {
            Self::Name(_) | Self::Lacks { .. } | Self::Port { .. } => Kind::Usage,
        }
    }
}

pub(super) fn create(request: v1::CreateVmRequest) -> Result<CreateRequest, InvalidRequest> {
    let start = request.start.then(|| start_options(request.wait(), request.wait_timeout_seconds));
    Ok(CreateRequest {
        name: optional(&request.name)?,
        image: optional(&request.image)?,
        kernel: optional(&request.kernel)?,
        spec: spec(&request.spec.ok_or(InvalidRequest::Lacks { what: "a VM spec" })?)?,
        owner: owner(request.owner.unwrap_or_default()),
        kernel_arguments: request.kernel_arguments,
        start,
    })
}

pub(super) fn start_options(wait: v1::WaitFor, timeout_seconds: u32) -> StartOptions {
    StartOptions {
        goal: match wait {
            v1::WaitFor::Unspecified | v1::WaitFor::Reachable => Goal::Reachable,
            v1::WaitFor::Booted => Goal::Booted,
        },
        patience: seconds(timeout_seconds),
    }
}

/// 0 stands for the default.
pub(super) fn seconds(seconds: u32) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(seconds.into()))
}

pub(super) fn name<T: FromStr<Err = InvalidName>>(text: &str) -> Result<T, InvalidRequest> {
    Ok(text.parse()?)
}

fn optional<T: FromStr<Err = InvalidName>>(text: &str) -> Result<Option<T>, InvalidRequest> {
    if text.is_empty() { Ok(None) } else { Ok(Some(text.parse()?)) }
}

fn spec(spec: &v1::VmSpec) -> Result<VmSpec, InvalidRequest> {
    let port = |port: u32| match u16::try_from(port) {
        Ok(valid) if valid > 0 => Ok(valid),
        _ => Err(InvalidRequest::Port { port }),
    };
    Ok(VmSpec {
        vcpu_count: spec.vcpu_count,
        memory_mib: spec.memory_mib,
        work_disk_mib: spec.work_disk_mib,
        nat: spec.nat,
        published_ports: spec
            .published_ports
            .iter()
            .map(|published| Ok(PublishedPort { host: port(published.host_port)?, guest: port(published.guest_port)? }))
            .collect::<Result<_, InvalidRequest>>()?,
    })
}

pub(super) fn owner(owner: v1::OwnerMaterial) -> OwnerMaterial {
    let git = owner.git_identity.unwrap_or_default();
    OwnerMaterial {
        authorized_keys: owner.authorized_keys,
        git_name: git.name,
        git_email: git.email,
        files: owner
            .files
            .into_iter()
            .map(|file| OwnerFile { path: file.path, mode: file.mode, content: file.content })
            .collect(),
    }
}

pub(super) fn workspace(workspace: Option<v1::Workspace>) -> Result<Workspace, InvalidRequest> {
    let workspace = workspace.ok_or(InvalidRequest::Lacks { what: "a workspace" })?;
    Ok(Workspace {
        guest_path: workspace.guest_path,
        source_path: workspace.source_path,
        head_commit: workspace.head_commit,
        tree_digest: workspace.tree_digest,
        prepared_unix_ms: workspace.prepared_unix_ms,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn request() -> v1::CreateVmRequest {
        v1::CreateVmRequest {
            spec: Some(v1::VmSpec { vcpu_count: 1, ..v1::VmSpec::default() }),
            ..v1::CreateVmRequest::default()
        }
    }

    #[test]
    fn empty_names_mean_that_the_daemon_chooses() {
        let parsed = create(request()).unwrap();
        assert_eq!((parsed.name, parsed.image, parsed.kernel), (None, None, None));
        assert_eq!(parsed.start, None);
    }

    #[test]
    fn a_bad_name_is_refused_with_its_rule() {
        let error = create(v1::CreateVmRequest { name: "Bad_Name".into(), ..request() }).unwrap_err();
        assert!(error.to_string().contains("Bad_Name") && error.kind() == Kind::Usage, "{error}");
    }

    #[test]
    fn ports_are_checked_before_they_are_narrowed() {
        for (host_port, guest_port, bad) in [(0, 80, 0), (8080, 65536, 65536), (70_000, 80, 70_000)] {
            let published_ports = vec![v1::PublishedPort { host_port, guest_port }];
            let spec = Some(v1::VmSpec { published_ports, ..v1::VmSpec::default() });
            let error = create(v1::CreateVmRequest { spec, ..request() }).unwrap_err();
            assert_eq!(error, InvalidRequest::Port { port: bad });
        }
    }
}
