//! `banger`: the command line. It reads the user's files, talks to bangerd and to guests, and prints.
//!
//! [`args`] is what may be typed, [`commands`] one file per command, [`client`] the daemon, [`run`](mod@run) the heart
//! (`vm run`), [`session`] a command or shell in a guest, [`install`] what root does once per host, [`view`] what things
//! look like, [`ui`] the only place that prints. Nothing here owns state of a VM; only [`install`] needs privileges.

pub mod args;
pub mod client;
pub mod commands;
pub mod completer;
pub mod config;
pub mod context;
mod entry;
pub mod error;
pub mod follow;
pub mod git;
pub mod install;
pub mod interrupt;
pub mod known_hosts;
pub mod mode;
pub mod operation;
pub mod paths;
pub mod reference;
pub mod resolve;
pub mod run;
pub mod session;
pub mod sizing;
pub mod ui;
pub mod view;
pub mod workspace_record;

pub use entry::run_program;
