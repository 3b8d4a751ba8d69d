//! One file a command: its flags, and what it does with them.

pub mod completions;
pub mod export;
pub mod infer;
pub mod list;
pub mod models;
pub mod run;
pub mod status;
pub mod verify;

use crate::args::{Cli, Command, Global};
use crate::failure::Outcome;
use crate::signals::Interrupt;
use crate::talk::Talk;

/// What every command is handed beside its own flags.
pub struct Context {
    pub global: Global,
    pub talk: Talk,
    pub interrupt: Interrupt,
}

/// Runs the command that the user gave.
pub async fn dispatch(cli: Cli, talk: &Talk) -> Outcome {
    let context = Context {
        global: cli.global,
        talk: talk.clone(),
        interrupt: Interrupt::listen(talk)?,
    };
    match cli.command {
        Command::Run(args) => run::run(&context, *args).await,
        Command::Infer(args) => infer::run(&context, *args).await,
        Command::List(args) => list::run(&context, args).await,
        Command::Status(args) => status::run(&context, args).await,
        Command::Export(args) => export::run(&context, args).await,
        Command::Verify(args) => verify::run(&context, args).await,
        Command::Models(args) => models::run(&context, args).await,
        Command::Completions(args) => completions::run(&args),
    }
}
