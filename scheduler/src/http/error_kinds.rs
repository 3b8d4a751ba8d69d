//! The errors of a batch, counted by their codes.

use super::types::ErrorKind;
use rbee_queue::store::Store;
use rbee_queue::{Batch, JobError, JobIndex, Outcome, StoreError};
use std::collections::BTreeMap;

/// Jobs read at once while errors are counted.
const PAGE: usize = 1000;
/// Line numbers that are kept for each kind of error.
const LINES_SHOWN: usize = 5;

/// The errors of a batch by code, with the first input lines that have them.
pub async fn error_kinds(store: &dyn Store, batch: &Batch) -> Result<Vec<ErrorKind>, StoreError> {
    let mut kinds = Kinds::default();
    let mut found = 0;
    let mut from = Some(JobIndex(0));
    while let Some(start) = from.filter(|_| found < batch.counts.failed) {
        let page = store.results_page(batch.no, start, PAGE).await?;
        for job in &page.jobs {
            if let Some(Outcome::Failed(error)) =
                job.result.as_ref().map(|result| &result.record.outcome)
            {
                found += 1;
                kinds.count(error, job.line_number);
            }
        }
        from = page.next;
    }
    Ok(kinds.0.into_values().collect())
}

#[derive(Default)]
struct Kinds(BTreeMap<String, ErrorKind>);

impl Kinds {
    fn count(&mut self, error: &JobError, line: u64) {
        let kind = self
            .0
            .entry(error.code.clone())
            .or_insert_with(|| ErrorKind {
                code: error.code.clone(),
                jobs: 0,
                example: error.message.clone(),
                lines: Vec::new(),
            });
        kind.jobs += 1;
        if kind.lines.len() < LINES_SHOWN {
            kind.lines.push(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_by_code_with_their_first_lines() {
        let mut kinds = Kinds::default();
        for line in 1..=7 {
            kinds.count(&JobError::new("invalid_json", format!("line {line}")), line);
        }
        kinds.count(&JobError::new("wrong_type", "prompt must be a text"), 9);
        let kind = &kinds.0["invalid_json"];
        assert_eq!((kind.jobs, kind.example.as_str()), (7, "line 1"));
        assert_eq!(kind.lines, [1, 2, 3, 4, 5]);
        assert_eq!(kinds.0["wrong_type"].lines, [9]);
    }
}
