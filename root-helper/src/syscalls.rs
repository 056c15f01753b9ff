//! The system calls that neither std nor rustix offers in a safe form: every `unsafe` of the helper is below here.
//!
//! Each file is one kernel interface, takes descriptors and plain values, and decides nothing.

pub mod device_mapper;
pub mod file_access;
pub mod loop_device;
pub mod tap;
