//! The platform against a helper on a real SOCK_SEQPACKET socket and a VMM on a real unix socket, both played here.

pub(super) mod fixture;
mod life;
mod provisioning;
mod root_client;
mod starting;
