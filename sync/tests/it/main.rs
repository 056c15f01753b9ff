//! Process tests: real repositories made by git, a real OpenSSH server, the receiver as its own process.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod crash;
mod difference;
mod export;
mod files;
mod full_copy;
mod hostile;
mod mutation;
mod overlay;
mod packed;
mod prepare;
mod repo;
mod resume;
mod scenarios;
mod seccomp;
mod ssh;
mod sshd;
mod tape;
mod verify;
mod watch;
