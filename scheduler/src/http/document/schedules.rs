//! The body with which a schedule is made: its form for the document.

use super::bodies::InferRequest;
use chrono_tz::TZ_VARIANTS;
use rbee_queue::schedule::{Missed, Overlap};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};

/// Five fields, or the word for them. What else cron knows (lists, ranges, names, seconds) is read too.
const CRON: &str = r"^(@(yearly|annually|monthly|weekly|daily|midnight|hourly)|(\*|\*/[1-9]|[1-5]?[0-9]) (\*|\*/[1-9]|1?[0-9]|2[0-3]) (\*|[1-9]|1[0-9]|2[0-8]) (\*|[1-9]|1[0-2]) (\*|[0-7]))$";

fn one_of(words: impl Iterator<Item = &'static str>) -> Schema {
    let words = ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(words));
    words.into()
}

fn zones() -> Schema {
    one_of(TZ_VARIANTS.iter().map(|zone| zone.name()))
}

fn overlaps() -> Schema {
    one_of(Overlap::ALL.iter().map(|overlap| overlap.as_str()))
}

fn catch_ups() -> Schema {
    one_of(Missed::ALL.iter().map(|missed| missed.as_str()))
}

fn cron() -> Schema {
    let text = ObjectBuilder::new().schema_type(Type::String);
    text.pattern(Some(CRON)).into()
}

/// A schedule to be made.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewScheduleRequest {
    /// Its name: no other has it. It does not begin as ids do, and is not `calendar`.
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    name: String,
    /// When it runs: five cron fields or a word such as `@daily`.
    #[schema(schema_with = cron)]
    cron: Value,
    /// The zone of its clock; UTC where it is missing.
    #[schema(schema_with = zones, required = false)]
    tz: Value,
    /// What becomes of a tick while a run is under way.
    #[schema(schema_with = overlaps, required = false)]
    overlap: Value,
    /// What becomes of missed ticks.
    #[schema(schema_with = catch_ups, required = false)]
    missed: Value,
    /// How far back missed ticks are made up for by one run.
    #[schema(minimum = 0, maximum = 31622400)]
    missed_window_s: Option<i64>,
    /// Its prompts.
    source: ScheduleSource,
    /// The model of lines that name none; the server's usual one where it is missing.
    #[schema(min_length = 1)]
    model: Option<String>,
    /// Whose jobs go first.
    priority: Option<SchedulePriority>,
    /// The only node that may run them.
    node: Option<String>,
    /// Where the server writes the results of each run.
    #[schema(pattern = "^/[a-z0-9/_-]{1,200}-[{](date|time)[}][.]jsonl$")]
    output: Option<String>,
    /// A URL that is told when a run has ended.
    #[schema(pattern = "^https?://[a-z]{1,20}[.]example/[a-z]{0,20}$")]
    on_done: Option<String>,
    /// The name of a command in the server's settings that is run when a run has ended.
    command: Option<String>,
}

/// Whose jobs go first.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SchedulePriority {
    /// Behind all that somebody waits for.
    Batch,
    /// Before those.
    Interactive,
}

/// Where prompts come from.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum ScheduleSource {
    /// Files of the server, read at each tick.
    Files(FileSource),
    /// These lines, the same at each tick.
    Kept(KeptSource),
}

/// Files of the server.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSource {
    /// Always `files`.
    kind: FilesWord,
    /// An absolute path, which may hold `*`, `?` and `[…]`.
    #[schema(pattern = "^(/[A-Za-z0-9_-]{1,40}){1,8}[.]jsonl$")]
    pattern: String,
}

/// The word for files.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FilesWord {
    /// Files of the server.
    Files,
}

/// Lines that are kept with the schedule.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeptSource {
    /// Always `kept`.
    kind: KeptWord,
    /// Their name for people.
    name: String,
    /// Short lines as files have them.
    #[schema(min_items = 1)]
    lines: Vec<InferRequest>,
}

/// The word for lines.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeptWord {
    /// These lines.
    Kept,
}
