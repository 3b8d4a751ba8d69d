//! `POST /v1/schedules`: a schedule is made, and its prompts are kept where the server may not read them later.

use super::super::auth::Admin;
use super::super::error::ApiError;
use super::super::spool::{Spool, Waiting, again};
use super::super::submit::{broken, next_part, read_json, silent, unresolved, why_not_told};
use super::super::types::{NewScheduleSpec, PART_INPUT, PART_SCHEDULE, ScheduleMade, WantedSource};
use super::super::{Server, UPLOAD_SILENCE};
use super::{body, view};
use crate::coordinator::{PLACEHOLDERS, RunPlace, ScheduleSettings, expand, uploaded_file};
use crate::roots::{RootsError, is_pattern, would_name};
use crate::schedule::{CronSchedule, Zone};
use axum::Json;
use axum::body::Bytes;
use axum::extract::multipart::{Field, Multipart};
use axum::extract::{FromRequest, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use rbee_queue::file::StoredFile;
use rbee_queue::schedule::{Missed, Overlap, PromptSource, SchedulePlan};
use rbee_queue::store::{MAX_SCHEDULES, NewSchedule, ScheduleAdded};
use rbee_queue::{FileId, ScheduleId};
use std::io::Read;
use std::path::Path;

/// Bytes of prompts that are kept with a schedule.
const MAX_KEPT_BYTES: u64 = 256 << 20;
/// Bytes of one piece of them in the store.
const PIECE_BYTES: u64 = 1 << 20;
/// Characters of a name.
const MAX_NAME: usize = 64;
/// Characters of a path.
const MAX_PATH: usize = 4_096;
/// How far back one run makes up for missed ticks, if nothing else is said.
const USUAL_WINDOW_S: u64 = 3_600;
/// The longest that may be said.
const MAX_WINDOW_S: u64 = 366 * 86_400;

/// Makes a schedule.
pub async fn add(
    State(server): State<Server>,
    _: Admin,
    request: Request,
) -> Result<Response, ApiError> {
    let kind = request.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let made = if kind.starts_with("multipart/form-data") {
        let mut form = match Multipart::from_request(request, &server).await {
            Ok(form) => form,
            Err(rejection) => return Ok(rejection.into_response()),
        };
        let wanted: NewScheduleSpec = read_json(&mut form, PART_SCHEDULE).await?;
        make(&server, wanted, Prompts::Form(&mut form)).await?
    } else {
        let (wanted, prompts) = body::read(&server, request.into_body()).await?;
        make(&server, wanted, Prompts::Whole(prompts)).await?
    };
    Ok((StatusCode::CREATED, Json(made)).into_response())
}

/// Where prompts come from that are kept.
enum Prompts<'f> {
    /// The next part of a form.
    Form(&'f mut Multipart),
    /// They are here.
    Whole(Option<Bytes>),
}

async fn make(
    server: &Server,
    wanted: NewScheduleSpec,
    prompts: Prompts<'_>,
) -> Result<ScheduleMade, ApiError> {
    let settings = server.schedule_settings()?;
    let mut warnings = Vec::new();
    let cron = judge(server, settings, &wanted, &mut warnings).await?;
    let id = ScheduleId::generate();
    let source = match &wanted.source {
        WantedSource::Files { pattern } => PromptSource::Files {
            pattern: pattern.clone(),
        },
        WantedSource::Kept { name } => PromptSource::Kept {
            bytes: keep(server, &id, &wanted, prompts).await?,
            name: name.clone(),
        },
        WantedSource::Uploaded { file } => {
            let found = uploaded(server, file).await?;
            warnings.extend(found.expires_at_us.map(|ends| {
                let ends = Zone::UTC.local(ends);
                format!("the file {file} goes at {ends}: runs after that will fail")
            }));
            PromptSource::Uploaded {
                file: file.clone(),
                name: found.filename,
            }
        }
    };
    let store = server.batches.store();
    let next_tick_us = next_tick(server, &cron).await?;
    let name = wanted.name.clone();
    let added = store
        .schedule_add(NewSchedule {
            id,
            name: name.clone(),
            plan: plan(wanted, source, cron.zone()),
            next_tick_us,
        })
        .await?;
    let schedule = match added {
        ScheduleAdded::Added(schedule) => schedule,
        ScheduleAdded::NameTaken => {
            let message = format!(
                "there is a schedule {name} already: give this one another name, or remove that one"
            );
            return Err(ApiError::conflict("name_taken", message).about("name"));
        }
        ScheduleAdded::TooMany => {
            let message = format!("there are {MAX_SCHEDULES} schedules already: remove some");
            return Err(ApiError::conflict("too_many_schedules", message));
        }
    };
    server.coordinator.wake_schedules();
    let schedule = view(&schedule, super::NEXT_SHOWN, None);
    Ok(ScheduleMade { schedule, warnings })
}

/// A file that was sent for batches, and belongs to whom the schedule's batches will.
async fn uploaded(server: &Server, id: &FileId) -> Result<StoredFile, ApiError> {
    let found = uploaded_file(server.batches.store(), id).await?;
    found.ok_or_else(|| {
        let message = format!(
            "there is no file {id} that schedules may read: it must have been sent for batches, with the server's own \
             token or an admin's"
        );
        ApiError::bad("source_not_readable", message).about("source")
    })
}

fn plan(wanted: NewScheduleSpec, source: PromptSource, zone: Zone) -> SchedulePlan {
    SchedulePlan {
        cron: wanted.cron,
        tz: zone.name().to_owned(),
        overlap: wanted.overlap.unwrap_or(Overlap::Skip),
        missed: wanted.missed.unwrap_or(Missed::Once),
        missed_window_s: wanted.missed_window_s.unwrap_or(USUAL_WINDOW_S),
        source,
        spec: wanted.spec,
        priority: wanted.priority,
        node: wanted.node,
        models: wanted.models,
        output: wanted.output,
        on_done: wanted.on_done,
        command: wanted.command,
    }
}

fn wrong(param: &'static str, message: String) -> ApiError {
    ApiError::bad("invalid_schedule", message).about(param)
}

/// Everything that can be judged without the prompts.
async fn judge(
    server: &Server,
    settings: &ScheduleSettings,
    wanted: &NewScheduleSpec,
    warnings: &mut Vec<String>,
) -> Result<CronSchedule, ApiError> {
    check_name(&wanted.name)?;
    let zone = Zone::named(wanted.tz.as_deref().unwrap_or("UTC"));
    let zone = zone.map_err(|error| wrong("tz", error.to_string()))?;
    let cron = CronSchedule::read(&wanted.cron, zone);
    let cron = cron.map_err(|error| wrong("cron", error.to_string()))?;
    if wanted
        .missed_window_s
        .is_some_and(|window| window > MAX_WINDOW_S)
    {
        let message = format!("the window for missed runs is more than {MAX_WINDOW_S} seconds");
        return Err(wrong("missed_window_s", message));
    }
    (wanted.spec.options.validate()).map_err(|error| wrong("spec", error.to_string()))?;
    if let WantedSource::Files { pattern } = &wanted.source {
        check_files(settings, pattern, warnings)?;
    }
    if wanted.output.is_some() {
        check_output(settings, wanted, zone, next_tick(server, &cron).await?)?;
    }
    check_told(server, settings, wanted).await?;
    let usual = &wanted.spec.options.model;
    if !wanted.models.iter().any(|model| model.requested == *usual) {
        match settings.models.resolve(usual).await {
            Err(error) if error.transient => warnings.push(error.message),
            Err(error) => return Err(unresolved(error)),
            Ok(_) => {}
        }
    }
    Ok(cron)
}

/// The first tick from now on, by the store's clock.
async fn next_tick(server: &Server, cron: &CronSchedule) -> Result<i64, ApiError> {
    let next = cron.next_after(server.batches.store().clock_us().await?);
    next.ok_or_else(|| wrong("cron", "the expression never comes again".to_owned()))
}

/// A name is a word on the command line and in the paths of results.
fn check_name(name: &str) -> Result<(), ApiError> {
    let plain = |sign: char| sign.is_ascii_alphanumeric() || matches!(sign, '-' | '_' | '.');
    let good = name.starts_with(|sign: char| sign.is_ascii_alphanumeric())
        && name.chars().all(plain)
        && name.len() <= MAX_NAME
        && !name.starts_with("sched_")
        // A path of its own.
        && name != "calendar";
    match good {
        true => Ok(()),
        false => Err(wrong(
            "name",
            format!(
                "a name has 1 to {MAX_NAME} letters, digits, `-`, `_` and `.`, begins with a letter or digit, and is \
                 neither an id nor `calendar`"
            ),
        )),
    }
}

fn check_files(
    settings: &ScheduleSettings,
    pattern: &str,
    warnings: &mut Vec<String>,
) -> Result<(), ApiError> {
    if pattern.chars().count() > MAX_PATH {
        return Err(wrong(
            "source",
            format!("the path has more than {MAX_PATH} characters"),
        ));
    }
    let found = settings.roots.matches(pattern).map_err(|error| {
        let refused = match error {
            RootsError::NoRoots | RootsError::Outside { .. } | RootsError::Hidden { .. } => {
                ApiError::not_allowed("source_not_allowed", error.to_string())
            }
            RootsError::NotThere { .. } | RootsError::NoFolder { .. } => {
                ApiError::not_found(error.to_string())
            }
            error => ApiError::bad("source_not_readable", error.to_string()),
        };
        refused.about("source")
    })?;
    if found.is_empty() {
        warnings.push(format!("no file is named by {pattern} yet"));
    }
    Ok(())
}

/// Whether the results of a run could be written, and destroy nothing.
fn check_output(
    settings: &ScheduleSettings,
    wanted: &NewScheduleSpec,
    zone: Zone,
    tick_us: i64,
) -> Result<(), ApiError> {
    let template = wanted.output.as_deref().unwrap_or_default();
    let refused =
        |message: String| ApiError::not_allowed("output_not_allowed", message).about("output");
    if template.chars().count() > MAX_PATH {
        return Err(refused(format!(
            "the path has more than {MAX_PATH} characters"
        )));
    }
    let place = RunPlace {
        tick_us,
        zone,
        name: &wanted.name,
        id: "sched_0",
    };
    let path = expand(template, place).map_err(refused)?;
    let path = settings.roots.writable(Path::new(&path));
    let path = path.map_err(|error| match error {
        error @ RootsError::NoFolder { .. } => {
            refused(format!("{error} (an output may hold {PLACEHOLDERS})"))
        }
        error => refused(error.to_string()),
    })?;
    let WantedSource::Files { pattern } = &wanted.source else {
        return Ok(());
    };
    let named = settings.roots.matches(pattern).unwrap_or_default();
    if named.contains(&path) || would_name(pattern, &path) {
        let message = match is_pattern(pattern) {
            true => format!(
                "{pattern} would name the results {} as prompts of the next run: write them elsewhere",
                path.display()
            ),
            false => format!("{pattern} holds the prompts: write the results elsewhere"),
        };
        return Err(refused(message));
    }
    Ok(())
}

async fn check_told(
    server: &Server,
    settings: &ScheduleSettings,
    wanted: &NewScheduleSpec,
) -> Result<(), ApiError> {
    if let (Some(_), Some(_)) = (&wanted.on_done, &wanted.command) {
        let message = "a URL and a command exclude each other: the command can tell the URL";
        return Err(wrong("on_done", message.to_owned()));
    }
    if let Some(url) = &wanted.on_done {
        let refused = why_not_told(server, url).await;
        refused.map_err(|message| {
            ApiError::not_allowed("on_done_not_allowed", message).about("on_done")
        })?;
    }
    if let Some(name) = &wanted.command
        && !settings.commands.contains_key(name)
    {
        let known: Vec<&str> = settings.commands.keys().map(String::as_str).collect();
        let known = match known.is_empty() {
            true => "it has none".to_owned(),
            false => format!("it has {}", known.join(", ")),
        };
        let message = format!(
            "this server has no command {name}, {known}: `rbee serve --schedule-command NAME=PROGRAM` names them"
        );
        return Err(ApiError::not_found(message).about("command"));
    }
    Ok(())
}

/// Prompts as they come.
enum Pieces<'f> {
    Part(Box<Field<'f>>),
    Whole(Option<Bytes>),
}

impl Pieces<'_> {
    async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        match self {
            Pieces::Part(part) => tokio::time::timeout(UPLOAD_SILENCE, part.chunk())
                .await
                .map_err(|_| silent())?
                .map_err(broken),
            Pieces::Whole(text) => Ok(text.take()),
        }
    }
}

/// Looks at the prompts while they come in, and keeps them.
async fn keep(
    server: &Server,
    id: &ScheduleId,
    wanted: &NewScheduleSpec,
    prompts: Prompts<'_>,
) -> Result<u64, ApiError> {
    let mut input = match prompts {
        Prompts::Form(form) => {
            let part = next_part(form, PART_INPUT).await?;
            Pieces::Part(Box::new(part))
        }
        Prompts::Whole(text) => Pieces::Whole(text),
    };
    let spool = Spool::begin(&server.spool, wanted.spec.options.clone())
        .map_err(|error| ApiError::internal(format!("an upload cannot be kept: {error}")))?;
    let mut bytes = 0u64;
    loop {
        let Some(piece) = input.next().await? else {
            break;
        };
        bytes += piece.len() as u64;
        if bytes > MAX_KEPT_BYTES {
            return Err(ApiError::too_large(format!(
                "the prompts have more than {MAX_KEPT_BYTES} bytes: put them where the server may read them"
            )));
        }
        if !spool.push(piece).await {
            break;
        }
    }
    let (file, _) = spool.end().await?;
    let client = Waiting::new();
    let failed = |error: std::io::Error| {
        ApiError::internal(format!("an upload cannot be read again: {error}"))
    };
    let mut reader = again(file, &client.watched()).map_err(failed)?;
    for piece in 0.. {
        let mut part = Vec::new();
        // Short reads of a file that was just written.
        let count = (&mut reader).take(PIECE_BYTES).read_to_end(&mut part);
        if count.map_err(failed)? == 0 {
            break;
        }
        let store = server.batches.store();
        store.schedule_keep(id, piece, part).await?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_words() {
        for good in ["nightly", "a", "Every_2.hours-x", "7"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        let long = "x".repeat(65);
        for bad in [
            "", ".x", "-x", "a/b", "a b", "sched_1", "calendar", "é", &long,
        ] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn results_in_the_way_of_a_pattern_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let pattern = root.join("*.jsonl").display().to_string();
        let named = |name: &str| would_name(&pattern, &root.join(name));
        assert!(named("results.jsonl"));
        assert!(!named("results.json"));
    }
}
