//! Follows one operation of the daemon to its end and shows it. Dropping the future ends the call, and with it,
//! daemon-side, the operation.

use std::future::Future;

use banger_proto::failure::{Failure, Kind};
use banger_proto::v1::{OperationEvent, ProgressUnit, operation_event::Event};
use tonic::{Response, Status, Streaming};

use crate::error::{CliError, OrFail as _};
use crate::ui::Ui;
use crate::ui::progress::{Progress, Unit};
use crate::view::event::RunEvent;

/// What is known about an operation so far; outlives the call that learned it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// For the daemon's log, for cancelling and for watching.
    pub operation_id: String,
    /// Name or id of what it works on.
    pub subject: String,
    /// Id of what it produced, once it ended.
    pub subject_id: String,
}

/// Where the events of an operation go.
#[derive(Clone, Copy)]
pub enum Reporting<'a> {
    /// Stages and bars on stderr.
    Progress(&'a Ui),
    /// Events on stdout.
    Events(&'a Ui),
    /// Only warnings: several operations run at once.
    Warnings(&'a Ui),
}

impl<'a> Reporting<'a> {
    /// Events for `--json`, else progress.
    pub fn for_stream(ui: &'a Ui) -> Self {
        if ui.is_json() { Self::Events(ui) } else { Self::Progress(ui) }
    }

    /// Progress, or with `--json` nothing: the command prints one object at the end.
    pub fn final_object(ui: &'a Ui) -> Self {
        if ui.is_json() { Self::Warnings(ui) } else { Self::Progress(ui) }
    }

    fn ui(self) -> &'a Ui {
        match self {
            Self::Progress(ui) | Self::Events(ui) | Self::Warnings(ui) => ui,
        }
    }
}

/// Follows the operation that `call` starts.
///
/// # Errors
/// The operation's failure, or why it could not be followed.
pub async fn follow<F>(call: F, reporting: Reporting<'_>, seen: &mut Seen) -> Result<(), CliError>
where
    F: Future<Output = Result<Response<Streaming<OperationEvent>>, Status>>,
{
    let mut stream = call.await.or_fail()?.into_inner();
    let mut progress = match reporting {
        Reporting::Progress(ui) => Some(ui.progress()),
        Reporting::Events(_) | Reporting::Warnings(_) => None,
    };
    loop {
        let next = stream.message().await.or_fail().map_err(|error| in_operation(error, seen))?;
        let Some(event) = next else {
            let error = CliError::new(Kind::Internal, "the daemon ended an operation without telling its result");
            return Err(in_operation(error, seen));
        };
        seen.operation_id.clone_from(&event.operation_id);
        if let Some(Event::Finished(finished)) = event.event {
            seen.subject_id = finished.subject_id;
            return match finished.failure {
                None => Ok(()),
                Some(failure) => {
                    let failure = Failure::from(failure).in_operation(&seen.operation_id);
                    Err(CliError::Failed(Box::new(failure)))
                }
            };
        }
        if let Some(Event::Started(started)) = &event.event {
            seen.subject.clone_from(&started.subject);
        }
        show(&event, reporting, progress.as_mut())?;
    }
}

fn in_operation(error: CliError, seen: &Seen) -> CliError {
    error.map(|failure| failure.in_operation(&seen.operation_id))
}

fn show(event: &OperationEvent, reporting: Reporting<'_>, progress: Option<&mut Progress<'_>>) -> Result<(), CliError> {
    if let Reporting::Events(ui) = reporting {
        return match RunEvent::of_operation(event) {
            Some(view) => ui.event(&view),
            None => Ok(()),
        };
    }
    match (&event.event, progress) {
        (Some(Event::Stage(stage)), Some(progress)) => {
            progress.stage(if stage.message.is_empty() { &stage.name } else { &stage.message });
        }
        (Some(Event::Progress(step)), Some(progress)) => {
            let unit = if step.unit() == ProgressUnit::Bytes { Unit::Bytes } else { Unit::Steps };
            progress.message(&step.message);
            progress.count(step.done, step.total, unit);
        }
        (Some(Event::Warning(warning)), _) => reporting.ui().warn(&warning.message),
        _ => {}
    }
    Ok(())
}
