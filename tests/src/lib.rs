//! What the repository's tests share: a hermetic environment to run the real programs in.
//!
//! ```text
//! Artifacts   kernel and image, built once a machine ──hard links──▶ Env   home, state, runtime, programs of one test
//! Account     who runs it (root, an ordinary user)                    ├── Run ──▶ Outcome   one command, bounded
//! Repository  git trees of every awkward kind                         └── Pty               one command on a terminal
//! ```
//! Never linked into a product binary and knows none of their code: the contract is the command line.
//! The tests themselves are in `suite/`.

pub mod account;
pub mod artifacts;
pub mod bench;
pub mod busybox;
pub mod distributions;
pub mod env;
pub mod processes;
pub mod programs;
pub mod pty;
pub mod registry;
pub mod repository;
pub mod run;
pub mod slots;
pub mod wait;
