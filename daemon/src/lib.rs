//! bangerd: state, lifecycle of VMs, images and kernels, and the network plan. Never root.
//!
//! [`server`] binds the API to the pieces; [`vm`] owns the state of every VM; [`platform`] is the seam
//! behind which a virtual machine monitor lives; [`image`] and [`kernel`] make what guests boot from.

pub mod paths;
pub mod platform;
pub mod reporter;
