//! The API as a client sees it: real gRPC on a real socket, with a fake platform behind it.
#![allow(clippy::unwrap_used)]

mod client;
mod services;
