//! Permission to perform one operation, once.
//!
//! A [`Permit`] is made only by [`policy::decide`](crate::policy::decide) and is used up by performing it, so
//! no path through the program reaches the kernel without a decision.

use crate::request::Operation;

/// One operation that may be performed. Not `Clone`: performing consumes it.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a permit that is dropped was decided for nothing"]
pub struct Permit {
    operation: Operation,
}

impl Permit {
    /// Only for the policy.
    pub(crate) fn grant(operation: Operation) -> Self {
        Self { operation }
    }

    /// Uses the permit up.
    pub fn into_operation(self) -> Operation {
        self.operation
    }
}
