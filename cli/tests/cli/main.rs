//! The real program against a daemon made for the test, and against a real sshd where a session is involved.

mod daemon;
mod environment;
mod follow;
mod launch;
mod output;
mod run;
mod session;
mod terminal;
mod verbs;
