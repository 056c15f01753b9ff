//! Measures banger beside what it is made of.

fn main() {}
