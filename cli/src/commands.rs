//! The commands, one module per family.

mod agents;
mod audit;
mod dev;
mod doctor;
mod eval;
mod executions;
mod graph;
mod import;
mod listing;
mod recovery;
mod replay;
mod run;
mod transfer;
mod validate;
mod verify;
mod workflows;

use millstream_model::schema;

use crate::arguments::{Agents, Audit, Command, Executions, Import, Workflows};
use crate::outcome::Exit;
use crate::{demo, output};

/// Carries out a command.
pub(crate) fn perform(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Validate(arguments) => validate::validate(&arguments),
        Command::Graph(arguments) => graph::graph(&arguments),
        Command::Import(Import::Wfformat(arguments)) => import::wfformat(&arguments),
        Command::Eval(arguments) => eval::eval(&arguments),
        Command::Schema => {
            output::json(&schema::definition_schema())?;
            Ok(Exit::Success)
        }
        Command::Dev(arguments) => waiting(dev::dev(arguments)),
        Command::Demo(arguments) => waiting(demo::demo(arguments)),
        Command::Run(arguments) => waiting(run::run(arguments)),
        Command::Executions(Executions::List(arguments)) => waiting(listing::list(*arguments)),
        Command::Executions(Executions::Show(arguments)) => waiting(executions::show(arguments)),
        Command::Executions(Executions::Events(arguments)) => waiting(executions::events(arguments)),
        Command::Executions(Executions::Watch(arguments)) => waiting(executions::watch(arguments)),
        Command::Executions(Executions::Cancel(arguments)) => waiting(recovery::cancel(arguments)),
        Command::Executions(Executions::Resume(arguments)) => waiting(recovery::resume(arguments)),
        Command::Executions(Executions::Fork(arguments)) => waiting(recovery::fork(arguments)),
        Command::Executions(Executions::Export(arguments)) => waiting(transfer::export(arguments)),
        Command::Executions(Executions::Import(arguments)) => waiting(transfer::import(arguments)),
        Command::Replay(arguments) => waiting(replay::replay(arguments)),
        Command::Workflows(Workflows::List(arguments)) => waiting(workflows::list(arguments)),
        Command::Workflows(Workflows::Get(arguments)) => waiting(workflows::get(arguments)),
        Command::Workflows(Workflows::Delete(arguments)) => waiting(workflows::delete(arguments)),
        Command::Audit(Audit::Verify(arguments)) => waiting(audit::verify(arguments)),
        Command::Audit(Audit::List(arguments)) => waiting(audit::list(arguments)),
        Command::Agents(Agents::List(arguments)) => waiting(agents::list(arguments)),
        Command::Agents(Agents::Apply(arguments)) => waiting(agents::apply(arguments)),
        Command::Doctor(arguments) => waiting(doctor::doctor(arguments)),
        Command::Verify(arguments) => waiting(verify::verify(arguments)),
        Command::VerifyUpgrade(arguments) => waiting(verify::verify_upgrade(arguments)),
    }
}

/// Runs what waits for others.
fn waiting(command: impl Future<Output = anyhow::Result<Exit>>) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(command);
    // What still blocks, as a read of stdin does, must not hold the end up.
    runtime.shutdown_background();
    outcome
}
