//! A value of the file as the words that its flag would be given, checked by that flag's own parser.

use std::error::Error as _;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, Command};
use toml_edit::{Item, TableLike, Value};

use super::schema::Setting;

/// Reads one setting's value. `folder` is where relative paths begin: the file's own.
pub fn read(setting: &Setting, item: &Item, folder: &Path) -> Result<Vec<String>, String> {
    let words = plain(setting, item)?;
    let words: Vec<String> = match setting.is_path() {
        true => words.iter().map(|word| path(word, folder)).collect(),
        false => words,
    };
    for word in &words {
        check(setting, word)?;
    }
    Ok(words)
}

/// A path of the file: whole, below the home directory (`~/`), or beginning where the file lies.
pub fn path(word: &str, folder: &Path) -> String {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let whole = match (word.strip_prefix("~/"), home) {
        (Some(below), Some(home)) => home.join(below),
        // The empty folder of schedules stands for none.
        _ if word.is_empty() => PathBuf::new(),
        _ => folder.join(word),
    };
    whole.to_string_lossy().into_owned()
}

fn plain(setting: &Setting, item: &Item) -> Result<Vec<String>, String> {
    if let Some(table) = item.as_table_like() {
        return match setting.takes_pairs() {
            true => pairs(table),
            false => Err("takes a value, no table".to_owned()),
        };
    }
    let value = item.as_value().ok_or("takes a value")?;
    if let Value::Array(array) = value {
        return match setting.is_list() {
            true => array.iter().map(word).collect(),
            false => Err("takes one value, no list".to_owned()),
        };
    }
    match (setting.is_switch(), value) {
        (true, Value::Boolean(_)) | (false, _) => Ok(vec![word(value)?]),
        (true, _) => Err("is true or false".to_owned()),
    }
}

fn pairs(table: &dyn TableLike) -> Result<Vec<String>, String> {
    let pair = |(name, item): (&str, &Item)| -> Result<String, String> {
        let value = item.as_value().ok_or("takes a value for each name")?;
        Ok(format!("{name}={}", word(value)?))
    };
    table.iter().map(pair).collect()
}

fn word(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.value().clone()),
        Value::Integer(number) => Ok(number.value().to_string()),
        Value::Float(number) => Ok(number.value().to_string()),
        Value::Boolean(truth) => Ok(truth.value().to_string()),
        Value::Datetime(moment) => Ok(moment.value().to_string()),
        Value::Array(_) | Value::InlineTable(_) => Err("takes plain values only".to_owned()),
    }
}

/// Whether the flag takes this word. A command with that flag alone is asked, since clap lets nobody ask a parser.
fn check(setting: &Setting, word: &str) -> Result<(), String> {
    let mark = setting.arg.get_value_delimiter();
    if let Some(mark) = mark.filter(|mark| word.contains(*mark)) {
        return Err(format!(
            "{word:?} holds a `{mark}`, which separates values here: write a list"
        ));
    }
    let flag = Arg::new("value")
        .long("value")
        .action(ArgAction::Set)
        .value_parser(setting.arg.get_value_parser().clone());
    let asked = Command::new("rbee").arg(flag);
    let error = match asked.try_get_matches_from(["rbee".to_owned(), format!("--value={word}")]) {
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    let reason = match (error.source(), error.get(ContextKind::ValidValue)) {
        (Some(reason), _) => reason.to_string(),
        (None, Some(ContextValue::Strings(known))) => format!("write one of {}", known.join(", ")),
        (None, _) => "is not understood".to_owned(),
    };
    Err(format!("{word:?}: {reason}"))
}
