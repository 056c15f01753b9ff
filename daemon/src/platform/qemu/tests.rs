//! Against real QEMU. The guests are kernels of a few bytes, written by [`tiny_kernel`].

#![allow(clippy::unwrap_used)]

mod fixture;
mod found_again;
mod life;
mod provisioning;
mod starting;
mod tiny_kernel;
