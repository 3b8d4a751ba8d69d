//! Which results of two sides belong together, and whether they are equal.
//!
//! Both sides are read in step, and a line waits until its counterpart comes: under its own id, else under its request
//! where both sides know it. What is left in the end is held against the line at the same place.

use std::collections::HashMap;
use std::io::BufRead;
use std::path::Path;

use anyhow::Context;
use clap::ValueEnum;

use super::answer::ResultLine;
use super::kept::{Kept, Name};
use super::source::Side;
use crate::failure::Failure;

/// What became of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Change {
    /// Both sides have it, and it is equal.
    Same,
    /// Both sides have it, and it differs.
    Changed,
    /// Only B has it.
    Added,
    /// Only A has it.
    Removed,
}

impl Change {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Change::Same => "same",
            Change::Changed => "changed",
            Change::Added => "added",
            Change::Removed => "removed",
        }
    }
}

/// A result of A, of B, or of both.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    pub change: Change,
    pub before: Option<ResultLine>,
    pub after: Option<ResultLine>,
}

/// How many results there were of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compared([u64; 4]);

impl Compared {
    /// How many there were of one kind.
    pub fn count(&self, change: Change) -> u64 {
        self.0[change as usize]
    }

    /// Whether any differ.
    pub fn differ(&self) -> bool {
        self.0.iter().sum::<u64>() > self.count(Change::Same)
    }
}

/// Who is told of each result, as it is found.
pub type Tell<'a> = dyn FnMut(Found) -> Result<(), Failure> + 'a;

/// Compares two sides; lines that wait for long lie in `spool`.
pub fn compare(
    before: Side,
    after: Side,
    spool: &Path,
    tell: &mut Tell<'_>,
) -> Result<Compared, Failure> {
    let by_job = before.knows_jobs && after.knows_jobs;
    let mut walk = Walk {
        by_job,
        spool,
        before: Half::new(before),
        after: Half::new(after),
        compared: Compared::default(),
        tell,
    };
    while walk.step(Which::Before)? | walk.step(Which::After)? {}
    walk.pair_by_place()?;
    walk.tell_of_the_rest()?;
    Ok(walk.compared)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Before,
    After,
}

/// One side, and its lines that wait.
struct Half {
    side: Side,
    read: u64,
    kept: Kept,
}

impl Half {
    fn new(side: Side) -> Half {
        Half {
            side,
            read: 0,
            kept: Kept::default(),
        }
    }

    /// The next line that is not blank, with what stands in it.
    fn next(&mut self) -> Result<Option<(u64, String, ResultLine)>, Failure> {
        loop {
            let mut line = String::new();
            let name = &self.side.name;
            let read = self.side.lines.read_line(&mut line);
            if read.with_context(|| format!("cannot read {name}"))? == 0 {
                return Ok(None);
            }
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            let place = self.read;
            self.read += 1;
            let result = self.parse(line, place)?;
            return Ok(Some((place, line.to_owned(), result)));
        }
    }

    fn parse(&self, line: &str, place: u64) -> Result<ResultLine, Failure> {
        ResultLine::read(line, place).map_err(|error| {
            let (name, number) = (&self.side.name, place + 1);
            Failure::usage(format!(
                "line {number} of {name} is no result: {error}; `rbee export` writes files that can be compared"
            ))
        })
    }

    fn take(&mut self, name: &Name) -> Result<Option<ResultLine>, Failure> {
        let taken = self.kept.take(name).context("cannot read back a line")?;
        taken
            .map(|(place, line)| self.parse(&line, place))
            .transpose()
    }
}

struct Walk<'a, 't> {
    by_job: bool,
    spool: &'a Path,
    before: Half,
    after: Half,
    compared: Compared,
    tell: &'a mut Tell<'t>,
}

impl Walk<'_, '_> {
    /// Reads a line of one side. False: it has no more.
    fn step(&mut self, which: Which) -> Result<bool, Failure> {
        let (mine, other) = match which {
            Which::Before => (&mut self.before, &mut self.after),
            Which::After => (&mut self.after, &mut self.before),
        };
        let Some((place, line, result)) = mine.next()? else {
            return Ok(false);
        };
        let name = match &result.job_key {
            Some(key) if self.by_job && result.is_unnamed() => Name::of_job(key),
            _ => Name::of_id(&result.id),
        };
        if let Some(counterpart) = other.take(&name)? {
            let (before, after) = match which {
                Which::Before => (result, counterpart),
                Which::After => (counterpart, result),
            };
            self.pair(before, after)?;
            return Ok(true);
        }
        let put = mine.kept.put(name, place, &line, self.spool);
        if !put.context("cannot keep a line that waits for its counterpart")? {
            let (side, id) = (&mine.side.name, &result.id);
            return Err(Failure::usage(format!(
                "{side} has two results with the id {id:?}: it is not the export of one batch"
            )));
        }
        Ok(true)
    }

    fn pair(&mut self, before: ResultLine, after: ResultLine) -> Result<(), Failure> {
        let change = match before.answer == after.answer {
            true => Change::Same,
            false => Change::Changed,
        };
        self.found(Found {
            change,
            before: Some(before),
            after: Some(after),
        })
    }

    fn found(&mut self, found: Found) -> Result<(), Failure> {
        self.compared.0[found.change as usize] += 1;
        (self.tell)(found)
    }

    /// Lines without ids whose requests differ, at the same place: one line that was changed.
    fn pair_by_place(&mut self) -> Result<(), Failure> {
        if !self.by_job {
            return Ok(());
        }
        let mut places = HashMap::new();
        for name in self.after.kept.names() {
            if let Some(line) = self.after.peek(&name, self.spool)?
                && line.is_unnamed()
            {
                places.insert(line.index, name);
            }
        }
        for name in self.before.kept.names() {
            let Some(line) = self.before.peek(&name, self.spool)? else {
                continue;
            };
            let there = places.get(&line.index).filter(|_| line.is_unnamed());
            if let Some(there) = there
                && let Some(after) = self.after.take(there)?
                && let Some(before) = self.before.take(&name)?
            {
                self.pair(before, after)?;
            }
        }
        Ok(())
    }

    fn tell_of_the_rest(&mut self) -> Result<(), Failure> {
        for name in self.before.kept.names() {
            let before = self.before.take(&name)?;
            self.found(Found {
                change: Change::Removed,
                before,
                after: None,
            })?;
        }
        for name in self.after.kept.names() {
            let after = self.after.take(&name)?;
            self.found(Found {
                change: Change::Added,
                before: None,
                after,
            })?;
        }
        Ok(())
    }
}

impl Half {
    /// What stands in a line that waits, and goes on waiting.
    fn peek(&mut self, name: &Name, spool: &Path) -> Result<Option<ResultLine>, Failure> {
        let taken = self.kept.take(name).context("cannot read back a line")?;
        let Some((place, line)) = taken else {
            return Ok(None);
        };
        let put = self.kept.put(*name, place, &line, spool);
        put.context("cannot keep a line that waits for its counterpart")?;
        self.parse(&line, place).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(lines: &[(&str, u64, &str, &str)], knows_jobs: bool) -> Side {
        let lines: Vec<String> = lines
            .iter()
            .map(|(id, index, key, text)| {
                serde_json::json!({"id": id, "index": index, "job_key": key, "text": text})
                    .to_string()
            })
            .collect();
        Side {
            name: "a side".to_owned(),
            lines: Box::new(std::io::Cursor::new(lines.join("\n"))),
            missing: 0,
            knows_jobs,
        }
    }

    /// Each result as (change, place in A, place in B).
    fn found(before: Side, after: Side) -> Vec<(Change, Option<u64>, Option<u64>)> {
        let spool = tempfile::tempdir().unwrap();
        let mut all = Vec::new();
        compare(before, after, spool.path(), &mut |found| {
            let place = |line: &Option<ResultLine>| line.as_ref().map(|line| line.index);
            all.push((found.change, place(&found.before), place(&found.after)));
            Ok(())
        })
        .unwrap();
        all.sort_by_key(|(_, before, after)| (*after, *before));
        all
    }

    #[test]
    fn an_inserted_line_changes_no_other() {
        let before = [("0", 0, "k0", "a"), ("1", 1, "k1", "b")];
        let after = [
            ("0", 0, "new", "n"),
            ("1", 1, "k0", "a"),
            ("2", 2, "k1", "b"),
        ];
        let found = found(side(&before, true), side(&after, true));
        assert_eq!(
            found,
            [
                (Change::Added, None, Some(0)),
                (Change::Same, Some(0), Some(1)),
                (Change::Same, Some(1), Some(2)),
            ]
        );
    }

    #[test]
    fn a_changed_line_without_an_id_is_found_by_its_place() {
        let before = [("0", 0, "k0", "a"), ("1", 1, "k1", "b")];
        let after = [("0", 0, "k0", "a"), ("1", 1, "other", "c")];
        let changed = [
            (Change::Same, Some(0), Some(0)),
            (Change::Changed, Some(1), Some(1)),
        ];
        assert_eq!(found(side(&before, true), side(&after, true)), changed);
        assert_eq!(found(side(&before, false), side(&after, true)), changed);
    }

    #[test]
    fn ids_match_in_any_order() {
        let before = [("x", 0, "a", "1"), ("y", 1, "b", "2"), ("z", 2, "c", "3")];
        let after = [("z", 0, "c", "3"), ("x", 1, "d", "9"), ("w", 2, "e", "4")];
        let found = found(side(&before, true), side(&after, true));
        assert_eq!(
            found,
            [
                (Change::Removed, Some(1), None),
                (Change::Same, Some(2), Some(0)),
                (Change::Changed, Some(0), Some(1)),
                (Change::Added, None, Some(2)),
            ]
        );
    }
}
