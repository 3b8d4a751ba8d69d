//! Telling of differences: a few lines for people, or one JSON object each.

use std::io::{BufWriter, Stdout, Write};

use serde_json::{Value, json};

use super::DiffArgs;
use super::answer::{Answer, ResultLine};
use super::pairs::{Change, Found};
use super::words;
use crate::failure::{Failure, stdout_failure};

/// Characters of an answer that is not compared with another one.
const SHOWN_CHARS: usize = 200;

/// What is shown unless `--only` says something else.
const USUAL: [Change; 3] = [Change::Changed, Change::Added, Change::Removed];

/// Where differences are written.
pub struct Shown {
    out: BufWriter<Stdout>,
    wanted: Vec<Change>,
    json: bool,
}

impl Shown {
    /// Writes to stdout what the flags ask for.
    pub fn new(args: &DiffArgs) -> Shown {
        Shown {
            out: BufWriter::new(std::io::stdout()),
            wanted: match args.only.is_empty() {
                true => USUAL.to_vec(),
                false => args.only.clone(),
            },
            json: args.json,
        }
    }

    /// Shows one result, if it is wanted.
    pub fn take(&mut self, found: &Found) -> Result<(), Failure> {
        if !self.wanted.contains(&found.change) {
            return Ok(());
        }
        let lines = match self.json {
            true => vec![as_json(found).to_string()],
            false => in_words(found),
        };
        for line in lines {
            writeln!(self.out, "{line}").map_err(stdout_failure)?;
        }
        Ok(())
    }

    /// Writes what is left.
    pub fn finish(mut self) -> Result<(), Failure> {
        self.out.flush().map_err(stdout_failure)
    }
}

fn either(found: &Found) -> Option<&ResultLine> {
    found.after.as_ref().or(found.before.as_ref())
}

fn differences(found: &Found) -> Vec<String> {
    match (&found.before, &found.after) {
        (Some(before), Some(after)) => before.answer.differences(&after.answer),
        _ => Vec::new(),
    }
}

fn as_json(found: &Found) -> Value {
    let index = |line: &Option<ResultLine>| line.as_ref().map(|line| line.index);
    let answer = |line: &Option<ResultLine>| line.as_ref().map(|line| line.answer.0.clone());
    json!({
        "change": found.change.word(),
        "id": either(found).map(|line| line.id.as_str()),
        "index_a": index(&found.before),
        "index_b": index(&found.after),
        "differs_in": differences(found),
        "a": answer(&found.before),
        "b": answer(&found.after),
    })
}

fn in_words(found: &Found) -> Vec<String> {
    let id = either(found).map_or("", |line| line.id.as_str());
    let id = words::one_line(id);
    let parts = differences(found);
    let behind = match parts.is_empty() {
        true => String::new(),
        false => format!(": {}", parts.join(", ")),
    };
    let mut lines = vec![format!("{:<8}{id}{behind}", found.change.word())];
    match (&found.before, &found.after) {
        (Some(before), Some(after)) => {
            for part in &parts {
                lines.push(change_of(part, &before.answer, &after.answer));
            }
        }
        (Some(line), None) | (None, Some(line)) => lines.push(summary(&line.answer)),
        (None, None) => {}
    }
    for line in &mut lines[1..] {
        *line = format!("    {}", line.replace('\n', "\n    "));
    }
    lines
}

/// How one part of two answers differs.
fn change_of(part: &str, before: &Answer, after: &Answer) -> String {
    let side = |answer: &Answer| answer.0.get(part).map_or_else(|| "none".to_owned(), small);
    match (part, before.text(), after.text()) {
        ("text", Some(before), Some(after)) => words::difference(before, after),
        ("usage", _, _) => format!("tokens: {} -> {}", tokens(before), tokens(after)),
        ("logprobs" | "choices" | "tool_calls" | "embedding", _, _) => {
            format!("{part}: see --json")
        }
        _ => format!("{part}: {} -> {}", side(before), side(after)),
    }
}

fn tokens(answer: &Answer) -> String {
    let usage = answer.0.get("usage");
    let count = |name: &str| {
        usage
            .and_then(|usage| usage.get(name))
            .and_then(Value::as_u64)
            .unwrap_or(0)
    };
    format!(
        "{} in, {} out",
        count("prompt_tokens"),
        count("completion_tokens")
    )
}

/// A value in few words.
fn small(value: &Value) -> String {
    let text = match (value, value.get("code"), value.get("message")) {
        (_, Some(Value::String(code)), Some(Value::String(message))) => {
            format!("{code} ({message})")
        }
        (Value::String(text), _, _) => text.clone(),
        _ => value.to_string(),
    };
    words::shortened(&text, SHOWN_CHARS)
}

fn summary(answer: &Answer) -> String {
    match (answer.text(), answer.0.get("error")) {
        (Some(text), _) => words::shortened(text, SHOWN_CHARS),
        (None, Some(error)) => format!("error: {}", small(error)),
        (None, None) => "no text".to_owned(),
    }
}
