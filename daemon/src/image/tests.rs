//! Claims about the image store, with a fake builder.
