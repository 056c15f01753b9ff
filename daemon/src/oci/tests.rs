//! Claims about layers, flattening and registries. Real tools judge where they are installed.

mod flattening;
mod hostile;
mod mutation;
mod registries;
mod support;
mod tls;
mod umoci;
