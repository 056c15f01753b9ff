//! bangerd: state, lifecycle of VMs, images and kernels, and the network plan. Never root.
//!
//! [`server`] binds the API to the pieces; [`vm`] owns the state of every VM; [`platform`] is the seam
//! behind which a virtual machine monitor lives; [`image`] and [`kernel`] make what guests boot from.

pub mod api;
pub mod args;
pub mod artifact;
pub mod artifacts;
pub mod catalog;
pub mod clock;
pub mod dns;
pub mod doctor;
pub mod image;
pub mod kernel;
pub mod lock;
pub mod mode;
pub mod notify;
pub mod oci;
pub mod operation;
pub mod paths;
pub mod platform;
pub mod ready;
pub mod reporter;
pub mod server;
pub mod startup;
pub mod store;
pub mod vm;
