//! Why a VM's unit ended before it became the jailer, from that unit to the service that started it.
//!
//! A file beside the jail, where only root can write: the journal is not the owner's to read.

use std::fs;

use banger_proto::failure::{Classified as _, Kind};
use banger_proto::names::VmId;

use crate::error::{StepError, chain};
use crate::kernel_names;

/// Leaves it for [`take`].
pub fn write(vm: &VmId, error: &StepError) {
    // The journal has it too; without this file the answer is only less helpful.
    let _ = fs::write(kernel_names::failure_file(vm), render(error));
}

/// What was left, and removes it.
pub fn take(vm: &VmId, attempt: String) -> Option<StepError> {
    let path = kernel_names::failure_file(vm);
    let text = fs::read_to_string(&path).ok()?;
    let _ = fs::remove_file(&path);
    parse(&text, attempt)
}

fn render(error: &StepError) -> String {
    format!("{}\n{}", error.kind().name(), chain(error))
}

fn parse(text: &str, attempt: String) -> Option<StepError> {
    let (kind, reason) = text.split_once('\n')?;
    Some(if kind == Kind::Refused.name() {
        StepError::refused(attempt, reason)
    } else if kind == Kind::NotFound.name() {
        StepError::not_found(attempt, reason)
    } else {
        StepError::new(attempt, reason)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_what_is_taken() {
        for error in [
            StepError::new("mount it", "no room"),
            StepError::refused("use it", "it is a link"),
            StepError::not_found("use it", "it is not there"),
        ] {
            let taken = parse(&render(&error), "start it".to_owned()).unwrap();
            assert_eq!(taken.kind(), error.kind());
            assert_eq!(chain(&taken), format!("cannot start it: {}", chain(&error)));
        }
    }
}
