//! Bringing the program to a machine.

use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow};

use crate::commands::Context;
use crate::progress::ByteProgress;
use crate::remote::{Far, Host, Input, Program, quote, sha256_hex};

/// Where a program lies until it has installed itself, below the home directory. Not a temporary directory: those may
/// forbid programs.
const ARRIVING: &str = ".cache/rbee";
/// Digits of a digest that tell programs apart.
const DIGITS: usize = 16;

/// The programs that may be brought: those that were named, then this one.
pub fn programs(named: &[PathBuf]) -> Result<Vec<Program>> {
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    named
        .iter()
        .chain([&own])
        .map(|path| Program::read(path))
        .collect()
}

/// The first program that can run there.
pub fn fitting<'a>(programs: &'a [Program], far: &Far) -> Result<&'a Program> {
    let mut why = Vec::new();
    for program in programs {
        match program.misfit(far) {
            None => return Ok(program),
            Some(reason) => why.push(format!("{}: {reason}", program.path.display())),
        }
    }
    Err(anyhow!(
        "no program fits that machine; build rbee for it and name the file with --binary ({})",
        why.join("; ")
    ))
}

/// Sees to it that the program is there; where it can be called.
pub async fn bring(context: &Context, host: &Host, far: &Far, program: &Program) -> Result<String> {
    let digest = sha256_hex(&program.bytes);
    if digest == far.installed_sha256 {
        return Ok(far.usual_place());
    }
    let folder = format!("{}/{ARRIVING}", far.home);
    let place = format!("{folder}/rbee-{}", &digest[..DIGITS]);
    let (shown, quoted) = (quote(&folder), quote(&place));
    // Whole or not at all, also when the connection breaks; `cat` ends with the connection.
    let script = format!(
        "mkdir -p {shown} && chmod 700 {shown} && cat > {quoted}.part && \
         test \"$(wc -c < {quoted}.part)\" -eq {} && chmod 755 {quoted}.part && mv {quoted}.part {quoted}",
        program.bytes.len()
    );
    let label = format!("{}: copying rbee", host.name());
    let progress = ByteProgress::new(&context.talk, &label, program.bytes.len() as u64);
    let sent = host
        .run(
            &["sh", "-c", &script],
            Input::Bytes(&program.bytes, progress),
        )
        .await?;
    sent.success("copying rbee")?;
    Ok(place)
}

/// Removes what was brought, once it has installed itself.
pub async fn clear(host: &Host, far: &Far, place: &str) -> Result<()> {
    if place == far.usual_place() {
        return Ok(());
    }
    let script = format!("rm -f {}", quote(place));
    host.run(&["sh", "-c", &script], Input::Nothing)
        .await
        .map(drop)
}
