//! Measurements of the product beside what it is made of, in one run and interleaved, so that a slow minute of the
//! machine hits both.

pub mod boot;
mod by_hand;
pub mod first_output;
pub mod image;
pub mod latency;
mod session;
mod sshd;
pub mod sync;
