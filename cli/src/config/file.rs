//! A configuration file, read: what it sets, where, and what is wrong with it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use toml_edit::{Document, Item, TableLike};

use super::schema::{SECRETS, Schema};
use super::words;
use crate::failure::Failure;
use crate::home;

/// A longer file is none that somebody wrote.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What toml_edit says, and not of what.
const DUPLICATE: &str = "duplicate key";

/// What a file sets.
pub struct ConfigFile {
    pub path: PathBuf,
    values: BTreeMap<String, FileValue>,
}

/// One setting's value.
pub struct FileValue {
    /// What the flag is given.
    pub words: Vec<String>,
    /// Counted from 1.
    pub line: usize,
}

/// Something in a file that cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Counted from 1.
    pub line: usize,
    pub what: String,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.line, self.what)
    }
}

impl ConfigFile {
    /// Reads a file; everything in it must be right.
    pub fn read(path: &Path, schema: &Schema) -> Result<ConfigFile, Failure> {
        let text = text_of(path)?;
        ConfigFile::parse(path, &text, schema).map_err(|troubles| {
            let lines = troubles
                .iter()
                .map(|trouble| format!("{}:{trouble}", path.display()));
            Failure::usage(lines.collect::<Vec<_>>().join("\n       "))
        })
    }

    /// Reads a file's text, or finds all that is wrong with it.
    pub fn parse(path: &Path, text: &str, schema: &Schema) -> Result<ConfigFile, Vec<Trouble>> {
        let document = Document::parse(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            let mut what = error.message().trim().replace('\n', ", ");
            if what == DUPLICATE {
                let twice = text.lines().nth(line - 1).unwrap_or_default();
                what = format!(
                    "{} stands above already: write both in one place",
                    twice.trim()
                );
            }
            vec![Trouble { line, what }]
        })?;
        // Relative paths begin where the file lies, wherever the command was called.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let mut reading = Reading {
            schema,
            text,
            folder: path.parent().unwrap_or(Path::new("/")),
            values: BTreeMap::new(),
            troubles: Vec::new(),
        };
        reading.table("", document.as_table());
        reading.check_secrets();
        let Reading {
            values, troubles, ..
        } = reading;
        match troubles.is_empty() {
            true => Ok(ConfigFile { path, values }),
            false => Err(troubles),
        }
    }

    /// What the file says of a setting.
    pub fn get(&self, name: &str) -> Option<&FileValue> {
        self.values.get(name)
    }

    /// The file of a secret, by the setting that names it.
    pub fn secret_file(&self, name: &str) -> Option<PathBuf> {
        self.get(name)?.words.first().map(PathBuf::from)
    }
}

/// A file's text.
pub fn text_of(path: &Path) -> Result<String, Failure> {
    use std::io::Read;
    let mut text = String::new();
    let file = std::fs::File::open(path);
    file.and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text))
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text)
}

struct Reading<'a> {
    schema: &'a Schema,
    text: &'a str,
    folder: &'a Path,
    values: BTreeMap<String, FileValue>,
    troubles: Vec<Trouble>,
}

impl Reading<'_> {
    fn table(&mut self, section: &str, table: &dyn TableLike) {
        for (key, item) in table.iter() {
            let name = match section {
                "" => key.to_owned(),
                section => format!("{section}.{key}"),
            };
            let span = table.key(key).and_then(|key| key.span()).or(item.span());
            let line = span.map_or(1, |span| line_of(self.text, span.start));
            match self.value(&name, item) {
                Ok(Some(words)) => {
                    self.values.insert(name, FileValue { words, line });
                }
                Ok(None) => {}
                Err(what) => self.troubles.push(Trouble { line, what }),
            }
        }
    }

    /// The words of a setting; none of a section, whose settings are read.
    fn value(&mut self, name: &str, item: &Item) -> Result<Option<Vec<String>>, String> {
        if let Some(setting) = self.schema.get(name) {
            let words = words::read(setting, item, self.folder);
            return words.map(Some).map_err(|what| format!("{name} {what}"));
        }
        if Schema::is_secret_file(name) {
            let file = item.as_str().ok_or(format!("{name} names a file"))?;
            return Ok(Some(vec![words::path(file, self.folder)]));
        }
        if let (Some(table), true) = (item.as_table_like(), self.schema.has_section(name)) {
            self.table(name, table);
            return Ok(None);
        }
        let (noun, hint) = match (item.is_table_like(), self.schema.nearest(name)) {
            (true, _) => ("section", String::new()),
            (false, Some(known)) => ("setting", format!(": did you mean {known}?")),
            (false, None) => ("setting", String::new()),
        };
        Err(format!("there is no {noun} {name}{hint}"))
    }

    /// No password in the file itself, and no setting said twice.
    fn check_secrets(&mut self) {
        for (file, _, _) in SECRETS {
            let Some(plain) = file.strip_suffix("_file") else {
                continue;
            };
            let Some(value) = self.values.get(plain) else {
                continue;
            };
            let has_password = value.words.iter().any(|url| home::holds_password(url));
            let what = match (has_password, self.values.contains_key(file)) {
                (true, _) => format!(
                    "{plain} holds a password: put the URL into a file that only its owner reads, and name that by {file}"
                ),
                (false, true) => format!("{plain} and {file} are both set: one is enough"),
                (false, false) => continue,
            };
            self.troubles.push(Trouble {
                line: value.line,
                what,
            });
        }
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or_default();
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}
