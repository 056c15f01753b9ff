//! Which build this is. The same text in every binary, so that a mismatch can be told.

/// Semantic version of the whole product.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Git commit the build was made from, or "unknown" (set by the Makefile).
pub const COMMIT: &str = match option_env!("BANGER_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// Version of the control and sync protocols spoken with the guest.
pub const GUEST_PROTOCOL_VERSION: u32 = 1;
