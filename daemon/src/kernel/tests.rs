//! Claims about the module above.
