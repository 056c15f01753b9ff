//! Rules of the repository that a machine can hold. Each test names the file and the way out.
//!
//! Reads the sources only; builds nothing. [`sources`] finds the files, the other modules hold one kind of rule.

mod dependencies;
mod generated;
mod rules;
mod sources;
