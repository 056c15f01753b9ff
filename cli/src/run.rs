//! `vm run`, the heart: a VM is made, the workspace goes in, a command or shell runs, and with `--rm` all is gone.
//!
//! ```text
//! observe repository ─▶ create + start ─▶ reach by SSH ─▶ files, workspace ─▶ session ─▶ (--rm) delete
//!                        │ fails: nothing stays      │ never answers: the VM stays, also with --rm
//!                        │ Ctrl-C: made undone       └ anything later fails, or Ctrl-C: --rm deletes
//! ```
//! [`plan`] is what was asked for, [`create`] makes and unmakes, [`reach`] connects, [`workspace`] observes and
//! prepares, [`files`] is `[[file_sync]]`, [`attach`] is the same for a VM that runs already, [`guest_work`] sees that nothing is lost with a VM,
//! [`cleanup`] deletes.

pub mod attach;
pub mod cleanup;
pub mod create;
pub mod files;
pub mod guest_work;
pub mod plan;
pub mod reach;
pub mod workspace;

use std::sync::Arc;
use std::time::Instant;

use banger_proto::v1::{GetVmRequest, Vm};
use banger_sync::files::{Files, Guest};
use banger_sync::overlay::Overlay;
use banger_sync::ssh::Connection;
use banger_sync::watch::Watch;

use crate::client::Client;
use crate::context::Context;
use crate::error::{CliError, CommandResult, OrFail as _};
use crate::follow::hosted::Telling;
use crate::follow::{Hosted, launch};
use crate::interrupt::Interrupts;
use crate::operation::Reporting;
use crate::session::{self, End, Request, command_line};
use crate::view::event::RunEvent;
use crate::view::time;
use plan::{Ending, Plan};

/// Why the VM was not used to the end.
enum Trouble {
    /// Its guest never answered: it is kept for a look, whatever was asked.
    NeverAnswered(CliError),
    /// Its guest may have work that could not be saved: it is kept as well.
    Unsaved(CliError),
    /// Anything later.
    Later(CliError),
}

impl From<CliError> for Trouble {
    fn from(error: CliError) -> Self {
        Self::Later(error)
    }
}

/// Runs it.
///
/// # Errors
/// Of any step; what could not be cleaned up is attached.
pub async fn run(context: &Context, plan: Plan) -> CommandResult {
    let mut interrupts = Interrupts::install()?;
    let overlay = match &plan.workspace {
        Some(wanted) => {
            let observing = workspace::observe(context, wanted);
            Some(interrupts.guard("reading the repository", observing).await?)
        }
        None => None,
    };
    let files = interrupts.guard("reading the files of file_sync", files::read(context, &plan.file_sync)).await?;
    context.notice_root();
    let began = Instant::now();
    if context.ui.is_json() {
        context.ui.event(&RunEvent::Spec(plan.spec.view()))?;
    } else {
        context.ui.status(&plan.spec.line());
    }
    let client = interrupts.guard("reaching bangerd", context.client()).await?;
    let request = plan.spec.request(context.owner()?);
    let reporting = Reporting::for_stream(&context.ui);
    let vm = create::create(context, &client, &mut interrupts, request, reporting).await?;
    let mut usage = Usage { context, client: &client, interrupts: &mut interrupts, plan: &plan, vm: &vm, began };
    let outcome = usage.go(overlay, &files).await;
    finish(context, &mut interrupts, &plan, &vm, outcome).await
}

/// The engine, and the task that takes care of it.
type Following = (Watch, tokio::task::JoinHandle<Result<(), CliError>>);

/// What using a VM that is up needs.
struct Usage<'a> {
    context: &'a Context,
    client: &'a Client,
    interrupts: &'a mut Interrupts,
    plan: &'a Plan,
    vm: &'a Vm,
    began: Instant,
}

impl Usage<'_> {
    /// Everything between creation and clean-up. `None`: detached.
    async fn go(&mut self, overlay: Option<Overlay>, files: &Files) -> Result<Option<End>, Trouble> {
        let detached = self.plan.ending == Ending::Detach;
        if detached && overlay.is_none() && files.is_empty() {
            self.announce_ready()?;
            self.say_ready();
            return Ok(None);
        }
        let patience = reach::patience(self.plan.spec.wait_timeout_seconds);
        let connecting = async { Ok(reach::connect(self.context, self.client, self.vm, patience).await) };
        // A signal is no answer of the guest: only the connection's own failure keeps the VM.
        let connected = self.interrupts.guard("connecting to the VM", connecting).await?;
        let connection = connected.map_err(Trouble::NeverAnswered)?;
        self.announce_ready()?;
        let delivering = files::deliver(self.context, &connection, files, (self.vm, Guest::Fresh));
        let delivered = self.interrupts.guard("delivering the files of file_sync", delivering).await?;
        if let (Some(view), true) = (delivered, self.context.ui.is_json()) {
            self.context.ui.event(&RunEvent::Files(view))?;
        }
        if let (Some(overlay), Some(wanted)) = (&overlay, &self.plan.workspace) {
            let destination = workspace::Destination {
                client: self.client,
                connection: &connection,
                vm: self.vm,
                guest_path: &wanted.guest_path,
                options: &wanted.options,
            };
            let preparing = workspace::prepare(self.context, overlay, destination);
            let view = self.interrupts.guard("preparing the workspace", preparing).await?;
            if self.context.ui.is_json() {
                self.context.ui.event(&RunEvent::Workspace(view))?;
            } else {
                self.context.ui.status(&view.line());
            }
        }
        self.say_ready();
        if detached {
            connection.close().await;
            self.follow_in_background().await?;
            return Ok(None);
        }
        let following = self.follow().await?;
        let request = self.request();
        let end = session::run(&connection, &request, &self.context.ui, self.interrupts).await;
        if let Some((watch, tending)) = following {
            watch.stop();
            // Its failures were told while it lived.
            let _ = tending.await;
        }
        let saved = self.save_work(&connection).await;
        connection.close().await;
        match (end, saved) {
            (Ok(end), Ok(())) => Ok(Some(end)),
            (Ok(_), Err(unsaved)) => Err(Trouble::Unsaved(unsaved)),
            (Err(broke), Ok(())) => Err(Trouble::Later(broke)),
            // A guest that is gone cannot be asked: whatever it holds stays where it is.
            (Err(broke), Err(unsaved)) => {
                if let CliError::Failed(failure) = unsaved {
                    self.context.ui.warn(&failure.to_string());
                }
                Err(Trouble::Unsaved(broke))
            }
        }
    }

    /// Begins to follow edits, and says which tree the command begins with.
    async fn follow(&mut self) -> Result<Option<Following>, CliError> {
        let (Some(mode), Some(wanted)) = (self.plan.watch, &self.plan.workspace) else { return Ok(None) };
        let starting = Hosted::start(self.context, self.client, self.vm, wanted, mode);
        let hosted = self.interrupts.guard("reading the repository", starting).await?;
        let watch = hosted.watch.clone();
        let tending = tokio::spawn(hosted.tend(Arc::clone(&self.context.ui), Telling::Nothing));
        let waiting = async { Ok(watch.flush().await?) };
        let flushed = self.interrupts.guard("waiting for both sides to be equal", waiting).await?;
        if self.context.ui.is_json() {
            self.context.ui.event(&RunEvent::Tree { tree_digest: &flushed.guest.to_string() })?;
        } else {
            self.context.ui.status(&format!("tree {}", flushed.guest));
        }
        Ok(Some((watch, tending)))
    }

    async fn follow_in_background(&mut self) -> Result<(), CliError> {
        let (Some(mode), Some(wanted)) = (self.plan.watch, &self.plan.workspace) else { return Ok(()) };
        let starting = launch::in_background(self.context, self.vm, wanted, mode);
        let (_, status) = self.interrupts.guard("bringing the guest in step", starting).await?;
        self.context.ui.status(&format!("{} is followed into {}", status.root, status.guest_path));
        Ok(())
    }

    /// Nothing is lost with `--rm`. After a session that broke off there may be nobody left to ask: an error, too.
    async fn save_work(&mut self, connection: &Connection) -> Result<(), CliError> {
        if self.plan.ending != Ending::Delete || self.plan.workspace.is_none() || self.plan.discard {
            return Ok(());
        }
        let fresh = GetVmRequest { reference: self.vm.id.clone() };
        let saving = async {
            let vm = self.client.vms().get(fresh).await.or_fail()?.into_inner();
            guest_work::spool(self.context, connection, &vm).await
        };
        let saved = self.interrupts.guard_stubbornly(&self.context.ui, saving).await;
        if let Some(kept) = saved.map_err(|error| error.context("cannot save the work done in the guest"))? {
            self.context.ui.status(&format!("work done in the guest is kept in {}", kept.patch.display()));
            if let Some(bundle) = kept.bundle {
                let bundle = bundle.display();
                self.context.ui.status(&format!("its commits are kept in {bundle}: `git fetch {bundle} HEAD`"));
            }
        }
        Ok(())
    }

    /// For programs: the VM answers.
    fn announce_ready(&self) -> Result<(), CliError> {
        if self.context.ui.is_json() {
            self.context.ui.event(&RunEvent::ready(self.vm, self.began.elapsed()))?;
        }
        Ok(())
    }

    /// For people: what comes next is theirs.
    fn say_ready(&self) {
        self.context.ui.dim_status(&format!("ready in {}", time::seconds(self.began.elapsed())));
    }

    fn request(&self) -> Request {
        let directory = self.plan.workspace.as_ref().map(|workspace| workspace.guest_path.as_str());
        let command = match (self.plan.command.as_slice(), directory) {
            ([], None) => None,
            ([], Some(directory)) => Some(command_line::shell_in(directory)),
            (words, directory) => Some(command_line::command(directory, words)),
        };
        Request { command, terminal: self.plan.terminal, user: self.plan.user.clone() }
    }
}

async fn finish(
    context: &Context,
    interrupts: &mut Interrupts,
    plan: &Plan,
    vm: &Vm,
    outcome: Result<Option<End>, Trouble>,
) -> CommandResult {
    if let Ok(Some(end)) = &outcome
        && context.ui.is_json()
    {
        // Where nobody reads any more there is still a VM to delete.
        let _ = context.ui.event(&RunEvent::Exit { status: end.exit_status(), signal: end.signal() });
    }
    let keep = plan.ending != Ending::Delete || matches!(outcome, Err(Trouble::NeverAnswered(_) | Trouble::Unsaved(_)));
    if keep {
        return keep_vm(context, plan, vm, outcome);
    }
    let deleted = cleanup::delete(context, interrupts, vm).await;
    let outcome = outcome.map_err(|trouble| match trouble {
        Trouble::NeverAnswered(error) | Trouble::Unsaved(error) | Trouble::Later(error) => error,
    });
    match (outcome, deleted) {
        (Ok(end), Ok(())) => Ok(end.map_or(0, |end| end.exit_status())),
        (Err(error), Ok(())) => Err(error),
        (Err(error), Err(left)) => Err(cleanup::attach(error, &left)),
        // The command's own failure is what scripts look for; ours is told, and counts where the command succeeded.
        (Ok(Some(end)), Err(left)) if end.exit_status() != 0 => {
            if let CliError::Failed(failure) = &left {
                context.ui.error(failure);
            }
            Ok(end.exit_status())
        }
        (Ok(_), Err(left)) => Err(left),
    }
}

fn keep_vm(context: &Context, plan: &Plan, vm: &Vm, outcome: Result<Option<End>, Trouble>) -> CommandResult {
    let name = &vm.name;
    match outcome {
        Ok(None) => {
            if !context.ui.is_json() {
                context.ui.data(&format!("{}\n", crate::ui::style::escape(name)))?;
            }
            Ok(0)
        }
        Ok(Some(end)) => {
            attach::remind(context, vm);
            Ok(end.exit_status())
        }
        Err(Trouble::Later(error)) => Err(error
            .hint(format!("The VM {name} is still running: `banger vm ssh {name}`, or `banger vm delete {name}`."))),
        Err(Trouble::Unsaved(error)) => Err(error
            .hint(format!("The VM {name} is kept: `banger vm workspace export {name} -o {name}.patch`."))
            .hint(format!("Delete it with everything in it: `banger vm delete --discard {name}`."))),
        Err(Trouble::NeverAnswered(error)) => {
            let why = if plan.ending == Ending::Delete { ", in spite of --rm" } else { "" };
            Err(error
                .hint(format!(
                    "The VM {name} is kept for a look{why}: `banger vm logs {name}`, `banger vm show {name}`."
                ))
                .hint(format!("Delete it with `banger vm delete {name}`.")))
        }
    }
}
