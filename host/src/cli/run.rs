//! Dispatches the arguments to a command, and its result to the exit code.

use std::process::ExitCode;

use clap::Parser as _;

use super::args::{Cli, CliCommand};
use super::error::CliError;
use super::global::Global;
use super::operate::OperateGoal;
use super::plugin_args::PluginCommand;
use super::{
    adopt, approvals, audit, backup, bench, chat, config, init, operate, plugin, plugin_check,
    plugins, restarts, restore, resume, send, serve, sessions, status, store, tokens,
};
use crate::engine::{CompileArgs, run_compiler};

/// Runs the command that the arguments name. Prints the error if it fails, and returns the exit
/// code.
pub fn run() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    match dispatch(&global, command) {
        Ok(code) => code,
        Err(error) => {
            if !error.is_silent() {
                super::out::hint(format!("error: {error}"));
            }
            error.exit_code()
        }
    }
}

/// Runs a command. The exit code is 1 if the outcome is not the requested one and the command has
/// already reported why.
fn dispatch(global: &Global, command: CliCommand) -> Result<ExitCode, CliError> {
    let done = |()| true;
    let well = match command {
        CliCommand::Init(args) => init::run(global, &args).map(done),
        CliCommand::Serve(args) => return serve::serve(global, &args),
        CliCommand::Worker(args) => {
            install_tls();
            return serve::worker(global, &args);
        }
        CliCommand::Compile(args) => {
            return Ok(run_compiler(CompileArgs {
                memory_bytes: args.memory_bytes,
                cpu_seconds: args.cpu_seconds,
                niceness: args.niceness,
                parent: args.parent,
            }));
        }
        CliCommand::Config(command) => match config::offline(global, command)? {
            Some(args) => client(config::plan(global, args)).map(done),
            None => Ok(true),
        },
        CliCommand::Store(command) => store::run(global, command),
        CliCommand::Status(args) => client(status::run(global, args)).map(done),
        CliCommand::Chat(args) => client(chat::run(global, args)),
        CliCommand::Send(args) => client(send::run(global, args)),
        CliCommand::Sessions(command) => client(sessions::run(global, command)).map(done),
        CliCommand::Resume(args) => client(resume::run(global, args)).map(done),
        CliCommand::Approvals(args) => client(approvals::run(global, args)).map(done),
        CliCommand::Drain(args) => client(operate::run(global, args, OperateGoal::Stop)),
        CliCommand::Restart(args) => client(operate::run(global, args, OperateGoal::Restart)),
        CliCommand::Token(command) => client(tokens::run(global, command)).map(done),
        CliCommand::Audit(args) => client(audit::run(global, args)).map(done),
        CliCommand::Backup(args) => client(backup::run(global, args)).map(done),
        CliCommand::Restore(args) => restore::run(global, &args).map(done),
        CliCommand::Restarts(args) => client(restarts::run(global, args)).map(done),
        CliCommand::Plugin(PluginCommand::New(args)) => plugin::new(global, &args).map(done),
        CliCommand::Plugin(PluginCommand::Check(args)) => {
            client(plugin_check::run(global, args)).map(done)
        }
        CliCommand::Plugin(PluginCommand::Adopt(args)) => {
            client(adopt::adopt(global, args)).map(done)
        }
        CliCommand::Plugin(PluginCommand::Retire(args)) => {
            client(adopt::retire(global, args)).map(done)
        }
        CliCommand::Plugin(PluginCommand::List(args)) => {
            client(plugins::list(global, args)).map(done)
        }
        CliCommand::Bench(args) => {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            run_on(
                runtime.worker_threads(args.threads()),
                bench::run(global, args),
            )
        }
    }?;
    Ok(if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}

/// Installs the process-wide TLS implementation. Must be called before anything uses HTTP.
fn install_tls() {
    // A second installation is refused, which does no harm.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Runs a command that mostly waits for the daemon: one thread suffices.
fn client<T>(command: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    run_on(&mut tokio::runtime::Builder::new_current_thread(), command)
}

/// Runs a command on a runtime built for it.
fn run_on<T>(
    runtime: &mut tokio::runtime::Builder,
    command: impl Future<Output = Result<T, CliError>>,
) -> Result<T, CliError> {
    install_tls();
    runtime
        .enable_all()
        .build()
        .map_err(|error| {
            CliError::Failed(format!(
                "cannot start the async runtime: {error}; are threads or files exhausted?"
            ))
        })?
        .block_on(command)
}
