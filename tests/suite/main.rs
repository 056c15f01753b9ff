//! The one test binary of what belongs to no single crate: repository rules, build scripts and the product end to end.

mod e2e;
mod install_deps;
mod tidy;
