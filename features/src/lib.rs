//! Has no code: its manifest keeps the features of shared dependencies equal, so that each is compiled once.
//!
//! Never known to `bangerd-root` and `banger-guest`: those two are built alone, with no more than they ask for themselves.
