//! One file a command: its flags, and what it does with them.

pub mod bench;
pub mod cancel;
pub mod completions;
pub mod config;
pub mod deploy;
pub mod diff;
pub mod doctor;
pub mod export;
pub mod infer;
pub mod install;
pub mod list;
pub mod logs;
pub mod man;
pub mod models;
pub mod nodes;
pub mod pause;
pub mod plan;
pub mod pool;
pub mod purge;
pub mod rerun;
pub mod resume;
pub mod retry;
pub mod run;
pub mod schedule;
pub mod serve;
pub mod service;
pub mod status;
pub mod submit;
pub mod token;
pub mod verify;
pub mod watch;
pub mod worker;

use std::path::PathBuf;

use crate::args::{Cli, Command, Global};
use crate::batches_home::BatchesHome;
use crate::failure::{Failure, Outcome};
use crate::paths::DataDir;
use crate::signals::Interrupt;
use crate::supervisor::Child;
use crate::talk::Talk;

/// What every command is handed beside its own flags.
pub struct Context {
    pub global: Global,
    pub talk: Talk,
    pub interrupt: Interrupt,
    /// The process that the user started: this one, or the parent that supervises it.
    process: u32,
}

impl Context {
    /// The server that the user named, if one was.
    pub fn server(&self) -> Option<&str> {
        self.global.server()
    }

    /// The process that listings name as the one that runs what this one runs.
    pub fn process(&self) -> u32 {
        self.process
    }

    /// The data directory, made if it is not there.
    pub fn data(&self) -> Result<DataDir, Failure> {
        Ok(DataDir::open(self.global.data_dir.as_deref())?)
    }

    /// Where the results are kept.
    pub fn database(&self) -> Result<PathBuf, Failure> {
        match &self.global.store {
            Some(path) if path.to_string_lossy().contains("://") => Err(Failure::usage(
                "--store takes the path of a SQLite file, no URL",
            )),
            Some(path) => Ok(path.clone()),
            None => Ok(self.data()?.database()),
        }
    }

    /// Opens the store, making it if it is not there.
    pub async fn open_store(&self) -> Result<BatchesHome, Failure> {
        BatchesHome::open(self.database()?, self.process).await
    }
}

/// Runs the command that the user gave.
pub async fn dispatch(cli: Cli, talk: &Talk) -> Outcome {
    let global = cli.global;
    let child = Child::from_parent()?;
    let context = |child: Option<&Child>| -> Result<Context, Failure> {
        Ok(Context {
            global: global.clone(),
            talk: talk.clone(),
            interrupt: Interrupt::listen(talk, child)?,
            process: match child {
                Some(_) => std::os::unix::process::parent_id(),
                None => std::process::id(),
            },
        })
    };
    match (cli.command, child) {
        (Command::Run(args), None) => run::supervise(&global, &args, talk).await,
        (Command::Run(args), Some(child)) => {
            let (context, traces) = (context(Some(&child))?, args.traces.clone());
            (traces.around("run", run::run(&context, *args, child))).await
        }
        (Command::Rerun(args), None) if global.server().is_some() => {
            rerun::submit(&context(None)?, *args).await
        }
        (Command::Rerun(args), None) => rerun::supervise(&global, &args, talk).await,
        (Command::Rerun(args), Some(child)) => {
            rerun::run(&context(Some(&child))?, *args, child).await
        }
        (Command::Worker(args), None) => worker::supervise(&args, talk).await,
        (Command::Worker(args), Some(child)) => {
            let (context, traces) = (context(Some(&child))?, args.traces.clone());
            (traces.around("worker", worker::run(&context, *args, child))).await
        }
        (Command::Plan(args), _) => plan::run(&context(None)?, *args).await,
        (Command::Infer(args), _) => infer::run(&context(None)?, *args).await,
        (Command::Serve(args), child) => {
            if child.is_none()
                && let Some(code) = serve::supervise(&args, talk).await?
            {
                return Ok(code);
            }
            let (context, traces) = (context(child.as_ref())?, args.traces.clone());
            (traces.around("serve", serve::run(&context, *args, child))).await
        }
        (Command::Submit(args), _) => submit::run(&context(None)?, *args).await,
        (Command::Watch(args), _) => watch::run(&context(None)?, args).await,
        (Command::Bench(args), _) => bench::run(&context(None)?, *args).await,
        (Command::Cancel(args), _) => cancel::run(&context(None)?, args).await,
        (Command::Retry(args), _) => retry::run(&context(None)?, args).await,
        (Command::Pause(args), _) => pause::run(&context(None)?, args).await,
        (Command::Resume(args), _) => resume::run(&context(None)?, args).await,
        (Command::Purge(args), _) => purge::run(&context(None)?, args).await,
        (Command::Logs(args), _) => logs::run(&context(None)?, args).await,
        (Command::Schedule(args), _) => schedule::run(&context(None)?, args).await,
        (Command::Nodes(args), _) => nodes::run(&context(None)?, args).await,
        (Command::List(args), _) => list::run(&context(None)?, args).await,
        (Command::Status(args), _) => status::run(&context(None)?, args).await,
        (Command::Export(args), _) => export::run(&context(None)?, args).await,
        (Command::Diff(args), _) => diff::run(&context(None)?, args).await,
        (Command::Verify(args), _) => verify::run(&context(None)?, args).await,
        (Command::Token(args), _) => token::run(&context(None)?, args).await,
        (Command::Models(args), _) => models::run(&context(None)?, args).await,
        (Command::Config(args), _) => config::run(&context(None)?, &args),
        (Command::Doctor(args), _) => doctor::run(&context(None)?, args).await,
        (Command::Install(args), _) => install::run(&context(None)?, &args),
        (Command::Service(args), _) => service::run(&context(None)?, &args),
        (Command::Deploy(args), _) => deploy::run(&context(None)?, *args).await,
        (Command::Pool(args), _) => pool::run(&context(None)?, args).await,
        (Command::Man(args), _) => man::run(&context(None)?, &args),
        (Command::Completions(args), _) => completions::run(&args),
    }
}
