//! `rbee install`: the program and all that belongs to it, in their places.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::{ArgGroup, Args};
use serde_json::json;

use crate::commands::Context;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::install::{self, Layout, Scope, Settings, Unit, Written};
use crate::service::{self, Runner, Service};
use crate::table;

/// Put rbee, its services, completions and manual in their places
///
/// For one user (`--user`) below ~/.local and ~/.config, or for the whole machine (`--system`, as root) below /usr/local
/// and /etc. Given again it brings everything up to date, and leaves a configuration that was changed as it is. With
/// `--uninstall` all of it goes away; results, models and a changed configuration stay.
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("whom").args(["user", "system"]).required(true))]
#[command(after_long_help = "\
Examples:
  rbee install --user                          then ~/.local/bin/rbee is there
  rbee install --user --enable serve           and the server runs, also without a login
  sudo rbee install --system --enable worker
  rbee install --system --prefix /usr --root ./image     for packages
  rbee install --user --uninstall")]
pub struct InstallArgs {
    /// For this user
    #[arg(long)]
    pub user: bool,

    /// For the whole machine
    #[arg(long)]
    pub system: bool,

    /// Start this service now and with the machine; more than one may be given
    #[arg(long, value_name = "SERVICE", value_enum, conflicts_with_all = ["uninstall", "root"])]
    pub enable: Vec<Unit>,

    /// Remove what an installation wrote
    #[arg(long)]
    pub uninstall: bool,

    /// Where the program goes, in `bin` below it [default: ~/.local, /usr/local with --system]
    #[arg(long, value_name = "DIR")]
    pub prefix: Option<PathBuf>,

    /// Write everything below this directory, as an image of the machine; nothing is started
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,

    /// Take configuration and secrets from stdin, as `rbee deploy` sends them
    #[arg(long, hide = true, conflicts_with = "uninstall")]
    pub settings: bool,

    /// Print what was done as one JSON object
    #[arg(long)]
    pub json: bool,
}

impl InstallArgs {
    fn layout(&self) -> Result<Layout, Failure> {
        let scope = match self.system {
            true => Scope::System,
            false => Scope::User,
        };
        Ok(Layout::new(
            scope,
            self.prefix.as_deref(),
            self.root.as_deref(),
        )?)
    }
}

/// Installs or removes.
pub fn run(context: &Context, args: &InstallArgs) -> Outcome {
    let layout = args.layout()?;
    match args.uninstall {
        true => uninstall(context, &layout)?,
        false => install(context, args, &layout)?,
    }
    Ok(ExitCode::Success)
}

fn install(context: &Context, args: &InstallArgs, layout: &Layout) -> Result<(), Failure> {
    let settings = args.settings.then(Settings::from_stdin).transpose()?;
    let files = install::files(layout)?;
    let places = (files.iter().map(|file| &file.path)).chain([&layout.binary, &layout.config]);
    let places: Vec<PathBuf> = places.map(|path| layout.on_disk(path)).collect();
    may_write(layout, &places)?;
    let program = copy_program(layout)?;
    let mut changed = usize::from(program);
    for file in &files {
        changed += usize::from(install::write_file(
            &layout.on_disk(&file.path),
            &file.bytes,
            0o644,
        )?);
    }
    let (config, other_settings) = match &settings {
        Some(settings) => settings.write(layout)?,
        None => {
            let written = install::write_template(layout)?;
            (written, written == Written::Made)
        }
    };
    let talk = &context.talk;
    talk.note(&format!("program        {}", layout.binary.display()));
    let about_config = match config {
        Written::Made => "",
        Written::Same => ", as it was",
        Written::Kept => ", kept as somebody changed it",
    };
    talk.note(&format!(
        "configuration  {}{about_config}",
        layout.config.display()
    ));
    talk.note(&format!(
        "{} files beside them: units, completions, manual",
        files.len()
    ));
    let restart = program || other_settings;
    let runner = match layout.is_image() {
        true => None,
        false => start(context, args, layout, restart)?,
    };
    if !layout.is_image() {
        tell_path(context, layout);
    }
    if args.json {
        let value = json!({"binary": layout.binary, "config": config, "changed": changed, "restarted": restart, "runner": runner,
                           "version": env!("CARGO_PKG_VERSION")});
        table::print([value.to_string()])?;
    }
    Ok(())
}

/// Whether everything can be written, before anything is.
fn may_write(layout: &Layout, places: &[PathBuf]) -> Result<(), Failure> {
    install::check_writable(places.iter().map(PathBuf::as_path)).map_err(|folder| {
        let advice = match layout.scope {
            Scope::System => "run it as root (sudo), or for yourself with --user",
            Scope::User => "give the folder to this user",
        };
        Failure::Program(anyhow!(
            "{} cannot be written by this user, and nothing was changed: {advice}",
            folder.display()
        ))
    })
}

/// Puts this program in its place; `false`: it is there, or is that file itself.
fn copy_program(layout: &Layout) -> Result<bool, Failure> {
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    let place = layout.on_disk(&layout.binary);
    if std::fs::canonicalize(&place).is_ok_and(|there| there == own) {
        return Ok(false);
    }
    let bytes = std::fs::read(&own).with_context(|| format!("cannot read {}", own.display()))?;
    Ok(install::write_file(&place, &bytes, 0o755)?)
}

/// Starts what shall run, and what runs already once more if it has changed.
fn start(
    context: &Context,
    args: &InstallArgs,
    layout: &Layout,
    restart: bool,
) -> Result<Option<Runner>, Failure> {
    if layout.scope == Scope::System {
        return start_system(context, args, layout, restart).map(|()| None);
    }
    let runner = Runner::of_user();
    for unit in Unit::ALL {
        let service = Service {
            unit,
            layout,
            runner,
        };
        let wanted = args.enable.contains(&unit);
        if restart && service.is_running()? {
            service.stop()?;
            service.start()?;
            context
                .talk
                .note(&format!("{} was started again", unit.name()));
        } else if wanted {
            service.start()?;
        }
        if wanted {
            context
                .talk
                .note(&format!("{} runs, by {}", unit.name(), runner.name()));
            if let Some(why) = service.keep_alive() {
                context.talk.warn(&why);
            }
        }
    }
    Ok(Some(runner))
}

fn start_system(
    context: &Context,
    args: &InstallArgs,
    layout: &Layout,
    restart: bool,
) -> Result<(), Failure> {
    let Some(system) = service::System::running() else {
        if !args.enable.is_empty() {
            return Err(anyhow!(
                "systemd does not run this machine: the files are in place, and nothing was started"
            )
            .into());
        }
        return Ok(());
    };
    if let Some(users) = layout.users() {
        system.learn(users)?;
    }
    for unit in Unit::ALL {
        if args.enable.contains(&unit) {
            system.enable(unit)?;
            context.talk.note(&format!("{} runs", unit.name()));
        }
        if restart {
            system.restart(unit)?;
        }
    }
    Ok(())
}

/// A shell finds the program only in the folders of PATH.
fn tell_path(context: &Context, layout: &Layout) {
    let folder = layout.binary.parent().unwrap_or(Path::new("/"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    if !std::env::split_paths(&path).any(|one| one == folder) {
        context
            .talk
            .warn(&format!("{} is not on PATH", folder.display()));
    }
}

fn uninstall(context: &Context, layout: &Layout) -> Result<(), Failure> {
    let files = install::files(layout)?;
    let config = layout.on_disk(&layout.config);
    let mut places: Vec<PathBuf> = files
        .iter()
        .map(|file| layout.on_disk(&file.path))
        .collect();
    places.push(layout.on_disk(&layout.binary));
    let untouched = std::fs::read_to_string(&config).is_ok_and(|text| install::is_untouched(&text));
    if untouched {
        places.push(config.clone());
        let secrets = std::fs::read_dir(layout.on_disk(&layout.secrets()));
        places.extend(
            secrets
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.path()),
        );
    }
    places.retain(|path| path.exists());
    may_write(layout, &places)?;
    if !layout.is_image() {
        stop(layout)?;
    }
    let mut gone = 0;
    for place in &places {
        gone += usize::from(install::remove(place)?);
    }
    context.talk.note(&format!("{gone} files are gone"));
    if config.exists() {
        context
            .talk
            .note(&format!("{} was changed and stays", config.display()));
    }
    context
        .talk
        .note("results and models stay in the data directory");
    Ok(())
}

fn stop(layout: &Layout) -> Result<(), Failure> {
    for unit in Unit::ALL {
        match layout.scope {
            Scope::System => {
                if let Some(system) = service::System::running() {
                    system.disable(unit);
                }
            }
            Scope::User => {
                let runner = Runner::of_user();
                Service {
                    unit,
                    layout,
                    runner,
                }
                .end()?;
            }
        }
    }
    Ok(())
}
