//! `rbee config show`: what holds, and why.

use serde_json::{Value, json};

use crate::commands::Context;
use crate::config::{Config, ConfigFile, FileValue, SECRETS, Setting};
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::home;
use crate::secrets::{self, Source};
use crate::table;

/// What stands in place of a value that is nobody's business.
const HIDDEN: &str = "(secret)";

/// One setting as it holds.
struct Holds {
    name: String,
    value: Option<Value>,
    from: Origin,
}

/// Where a value comes from.
enum Origin {
    Environment(String),
    File { path: String, line: Option<usize> },
    Default,
}

/// Prints the settings whose names begin with `wanted`.
pub fn run(context: &Context, wanted: Option<&str>, json: bool) -> Outcome {
    let config = Config::load()?;
    let file = config.file.as_ref();
    let settings = config
        .schema
        .settings()
        .map(|setting| of_setting(setting, file));
    let secrets = SECRETS
        .iter()
        .map(|(key, variable, _)| of_secret(key, variable, file));
    let mut all: Vec<Holds> = settings.chain(secrets).collect();
    // What has no section comes first, as in the file.
    all.sort_by_key(|one| (one.name.contains('.'), one.name.clone()));
    all.retain(|one| wanted.is_none_or(|wanted| one.name.starts_with(wanted)));
    if let (true, Some(wanted)) = (all.is_empty(), wanted) {
        let hint = config.schema.nearest(wanted);
        let hint = hint.map_or(String::new(), |known| format!(": did you mean {known}?"));
        return Err(Failure::usage(format!(
            "there is no setting {wanted}{hint}"
        )));
    }
    match json {
        true => table::print(all.iter().map(|one| as_json(one).to_string()))?,
        false => {
            let rows: Vec<Vec<String>> = all.iter().map(row).collect();
            table::print(table::lines(&["SETTING", "VALUE", "FROM"], &rows))?;
        }
    }
    match file {
        Some(file) => context
            .talk
            .note(&format!("the file is {}", file.path.display())),
        None => context
            .talk
            .note("there is no file: `rbee config edit` makes one"),
    }
    Ok(ExitCode::Success)
}

fn of_setting(setting: &Setting, file: Option<&ConfigFile>) -> Holds {
    let secret_file = format!("{}_file", setting.name);
    let set = setting
        .variable()
        .filter(|name| std::env::var_os(name).is_some_and(|text| !text.is_empty()));
    let (words, from) = if let Some(name) = set {
        let text = std::env::var_os(&name).unwrap_or_default();
        (
            Some(vec![text.to_string_lossy().into_owned()]),
            Origin::Environment(name),
        )
    } else if let Some((file, value)) = file.and_then(|file| Some((file, file.get(&setting.name)?)))
    {
        (Some(value.words.clone()), from_file(file, value))
    } else if let Some((file, value)) = file.and_then(|file| Some((file, file.get(&secret_file)?)))
    {
        (Some(vec![HIDDEN.to_owned()]), from_file(file, value))
    } else {
        (setting.default().map(|text| vec![text]), Origin::Default)
    };
    let shown = |word: String| match setting.may_hold_secret() && word.contains("://") {
        true => home::without_secrets(&word),
        false => word,
    };
    let words = words.map(|words| words.into_iter().map(shown).collect::<Vec<String>>());
    let value = words.map(|words| match (&from, setting.is_list()) {
        (Origin::File { .. }, true) => json!(words),
        (_, _) => json!(words.join(", ")),
    });
    Holds {
        name: setting.name.clone(),
        value,
        from,
    }
}

fn of_secret(key: &str, variable: &str, file: Option<&ConfigFile>) -> Holds {
    let (value, from) = match (secrets::source(variable), file) {
        (Some(Source::Variable), _) => (
            Some(json!(HIDDEN)),
            Origin::Environment(variable.to_owned()),
        ),
        (_, Some(file)) if file.get(key).is_some() => {
            let path = file.secret_file(key).unwrap_or_default();
            let line = file.get(key).map(|value| value.line);
            let from = Origin::File {
                path: file.path.display().to_string(),
                line,
            };
            (Some(json!(path)), from)
        }
        _ => (None, Origin::Default),
    };
    Holds {
        name: key.to_owned(),
        value,
        from,
    }
}

fn from_file(file: &ConfigFile, value: &FileValue) -> Origin {
    Origin::File {
        path: file.path.display().to_string(),
        line: Some(value.line),
    }
}

fn as_json(one: &Holds) -> Value {
    let source = match &one.from {
        Origin::Environment(name) => json!({"kind": "environment", "variable": name}),
        Origin::File { path, line } => json!({"kind": "file", "path": path, "line": line}),
        Origin::Default => json!({"kind": "default"}),
    };
    json!({"setting": one.name, "value": one.value, "source": source})
}

fn row(one: &Holds) -> Vec<String> {
    let value = match &one.value {
        None => "-".to_owned(),
        Some(Value::Array(words)) => {
            let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
            words.join(", ")
        }
        Some(value) => value.as_str().unwrap_or_default().to_owned(),
    };
    let from = match &one.from {
        Origin::Environment(name) => name.clone(),
        Origin::File {
            path,
            line: Some(line),
        } => format!("{path}:{line}"),
        Origin::File { path, line: None } => path.clone(),
        Origin::Default => "default".to_owned(),
    };
    vec![one.name.clone(), value, from]
}
