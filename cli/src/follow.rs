//! Sessions that keep a workspace in step with the user's edits (`banger_sync::watch`), and how commands find them.
//!
//! ```text
//!  vm workspace sync --watch, vm run --watch          vm workspace status | flush | pause | …, vm exec --synced
//!     hosted: engine + reach (the VM, each time anew)    control ──one line of JSON each way──▶ serve
//!     └ claim: a lock, for as long as it lives           └ record: who follows what, alive or not
//! ```
//! A session is an ordinary process of the user; [`launch`] starts one that outlives the command. Nothing but its lock
//! says that it lives: a record without one is what is left of a session that ended badly.

pub mod control;
pub mod hosted;
pub mod launch;
pub mod reach;
pub mod record;
pub mod serve;

pub use hosted::Hosted;
