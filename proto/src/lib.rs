//! The only vocabulary between banger's processes: messages, validated names, failure kinds.
//!
//! Wire types are in [`v1`] (CLI ↔ daemon), [`guest`] (host ↔ guest) and [`root`] (daemon ↔ helper);
//! they stop at each program's edge. [`names`] are what untrusted text is parsed into.
//! This crate imports no other banger crate, and never does I/O but for reading the `install` metadata and making the `roots`.

pub mod failure;
pub mod frame;
pub mod guest_contract;
#[cfg(feature = "install")]
pub mod install;
pub mod names;
#[cfg(feature = "roots")]
pub mod roots;
pub mod size;
pub mod version;

/// CLI ↔ daemon (gRPC).
#[allow(clippy::all, clippy::pedantic, rust_2018_idioms, missing_docs)]
pub mod v1 {
    include!("gen/banger.v1.rs");
}

/// Host ↔ guest.
pub mod guest {
    /// Version 1 of the seed, control and sync messages.
    #[allow(clippy::all, clippy::pedantic, rust_2018_idioms, missing_docs)]
    pub mod v1 {
        include!("gen/banger.guest.v1.rs");
    }
}

/// Daemon ↔ root helper.
pub mod root {
    /// Version 1 of the boundary.
    #[allow(clippy::all, clippy::pedantic, rust_2018_idioms, missing_docs)]
    pub mod v1 {
        include!("gen/banger.root.v1.rs");
    }
}
