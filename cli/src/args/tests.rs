//! Tables of what parses and what does not.
