//! A verb on several VMs: resolved from one list, duplicates removed, run at the same time, told in order.

use std::future::Future;

use banger_proto::v1::{OperationEvent, Vm};
use futures::future::join_all;
use tonic::{Response, Status, Streaming};

use crate::client::Client;
use crate::context::Context;
use crate::error::{CliError, CommandResult};
use crate::interrupt::Interrupts;
use crate::operation::{Reporting, Seen, follow};
use crate::resolve::resolve;
use crate::ui::Ui;
use crate::view::outcome::{Outcome, OutcomesView};

/// What a streaming call of the daemon answers.
pub type Started = Result<Response<Streaming<OperationEvent>>, Status>;

/// What is done to each VM, and how its success is told.
#[derive(Debug, Clone, Copy)]
pub struct Verb {
    /// "stopped" …
    pub done: &'static str,
    /// "stopping VMs" …
    pub doing: &'static str,
}

/// Does it to every VM that is named.
///
/// # Errors
/// The first failure, after all have been tried.
pub async fn on_each<Act, Done>(context: &Context, references: &[String], verb: Verb, act: Act) -> CommandResult
where
    Act: Fn(Work, Vm) -> Done,
    Done: Future<Output = Result<(), CliError>>,
{
    let mut interrupts = Interrupts::install()?;
    let listed = async {
        let client = context.client().await?;
        let vms = client.list_vms().await?;
        Ok((client, vms))
    };
    let (client, vms) = interrupts.guard("listing VMs", listed).await?;
    let targets = Targets::of(&vms, references);
    act_on(context, &mut interrupts, (client, targets), verb, act).await
}

/// Does it to VMs that are known already.
///
/// # Errors
/// As [`on_each`].
pub async fn act_on<Act, Done>(
    context: &Context,
    interrupts: &mut Interrupts,
    (client, targets): (Client, Targets),
    verb: Verb,
    act: Act,
) -> CommandResult
where
    Act: Fn(Work, Vm) -> Done,
    Done: Future<Output = Result<(), CliError>>,
{
    let reporting = if targets.0.len() == 1 { Stages::Shown } else { Stages::Hidden };
    let running = targets.0.into_iter().map(|target| {
        let work = Work { client: client.clone(), ui: std::sync::Arc::clone(&context.ui), stages: reporting };
        let started = target.vm.map(|vm| (Some((vm.id.clone(), vm.name.clone())), act(work, vm)));
        async move {
            match started {
                Ok((vm, done)) => Outcome { reference: target.reference, vm, result: done.await },
                Err(error) => Outcome { reference: target.reference, vm: None, result: Err(error) },
            }
        }
    });
    let outcomes = interrupts.guard(verb.doing, async { Ok(join_all(running).await) }).await?;
    tell(&context.ui, outcomes, verb)
}

/// VMs to act on, in the order they were named.
pub struct Targets(Vec<Target>);

struct Target {
    reference: String,
    vm: Result<Vm, CliError>,
}

impl Targets {
    /// What the references mean; a VM named twice counts once.
    pub fn of(vms: &[Vm], references: &[String]) -> Self {
        let mut targets: Vec<Target> = Vec::new();
        for reference in references {
            let vm = resolve(vms, reference).cloned().map_err(CliError::from);
            let known = targets.iter().any(|target| match (&target.vm, &vm) {
                (Ok(one), Ok(other)) => one.id == other.id,
                _ => target.reference == *reference,
            });
            if !known {
                targets.push(Target { reference: reference.clone(), vm });
            }
        }
        Self(targets)
    }

    /// These VMs.
    pub fn all(vms: Vec<Vm>) -> Self {
        Self(vms.into_iter().map(|vm| Target { reference: vm.name.clone(), vm: Ok(vm) }).collect())
    }
}

/// What acting on one VM needs.
pub struct Work {
    /// The daemon.
    pub client: Client,
    ui: std::sync::Arc<Ui>,
    stages: Stages,
}

/// Bars of several operations at once would fight for the same line.
#[derive(Debug, Clone, Copy)]
enum Stages {
    Shown,
    Hidden,
}

impl Work {
    /// Follows an operation to its end.
    ///
    /// # Errors
    /// Its failure.
    pub async fn follow(&self, call: impl Future<Output = Started>) -> Result<(), CliError> {
        let reporting = match self.stages {
            Stages::Shown => Reporting::Progress(&self.ui),
            Stages::Hidden => Reporting::Warnings(&self.ui),
        };
        follow(call, reporting, &mut Seen::default()).await
    }
}

fn tell(ui: &Ui, mut outcomes: Vec<Outcome>, verb: Verb) -> CommandResult {
    if ui.is_json() {
        ui.json(&OutcomesView::new(&outcomes))?;
    }
    let first = outcomes.iter().position(|outcome| outcome.result.is_err());
    for (at, outcome) in outcomes.iter().enumerate() {
        match &outcome.result {
            Ok(()) => {
                let name = outcome.vm.as_ref().map_or(outcome.reference.as_str(), |(_, name)| name);
                ui.status(&format!("{} {name}", verb.done));
            }
            // The first failure is the command's own and is told last, by whoever ends the process.
            Err(CliError::Failed(failure)) if Some(at) != first => ui.error(failure),
            Err(_) => {}
        }
    }
    match first {
        None => Ok(0),
        Some(at) => Err(match outcomes.swap_remove(at).result {
            Err(error) => error,
            Ok(()) => CliError::new(banger_proto::failure::Kind::Internal, "a failed target has no failure"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_named_twice_counts_once_and_the_order_is_kept() {
        let vm = |name: &str, id: &str| Vm { name: name.into(), id: id.into(), ..Vm::default() };
        let vms = [vm("box", "aa"), vm("web", "bb")];
        let references: Vec<String> = ["web", "nope", "bb", "box", "nope", "web"].map(String::from).into();
        let targets = Targets::of(&vms, &references);
        let order: Vec<&str> = targets.0.iter().map(|target| target.reference.as_str()).collect();
        assert_eq!(order, ["web", "nope", "box"]);
        assert_eq!(targets.0.iter().filter(|target| target.vm.is_err()).count(), 1);
    }
}
