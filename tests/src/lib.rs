//! What the repository's tests share: the harness (environment, daemon, sshd, trees).
//!
//! Never linked into a product binary. The tests themselves are in `suite/`.
