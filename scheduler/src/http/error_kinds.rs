//! The errors of a batch, counted by their codes.

use super::types::ErrorKind;
use rbee_queue::store::Store;
use rbee_queue::{Batch, JobError, JobIndex, JobRef, Outcome, StoreError};
use std::collections::{BTreeMap, BTreeSet};

/// Errors read at once while they are counted.
const PAGE: usize = 1000;
/// Line numbers that are kept for each kind of error.
const LINES_SHOWN: usize = 5;

/// The errors of a batch by code, with the first input lines that have them.
pub async fn error_kinds(store: &dyn Store, batch: &Batch) -> Result<Vec<ErrorKind>, StoreError> {
    let mut kinds = Kinds::default();
    let mut after = 0;
    loop {
        let page = store.failed_since(batch.no, after, PAGE).await?;
        let Some(last) = page.last() else {
            break;
        };
        after = last.finish_no;
        for finished in &page {
            if let Outcome::Failed(error) = &finished.result.record.outcome {
                kinds.count(error, finished.index);
            }
        }
    }
    let mut shown = Vec::new();
    for (code, kind) in kinds.0 {
        let first: Vec<JobRef> = (kind.first.iter())
            .map(|index| JobRef {
                batch: batch.no,
                index: *index,
            })
            .collect();
        let found = store.job_get(&first).await?;
        shown.push(ErrorKind {
            code,
            jobs: kind.jobs,
            example: kind.example,
            lines: found.iter().flatten().map(|job| job.line_number).collect(),
        });
    }
    Ok(shown)
}

/// Errors of one code.
#[derive(Debug, Default)]
struct Kind {
    jobs: u64,
    /// The first jobs in the order of the input.
    first: BTreeSet<JobIndex>,
    /// The sentence of the first of them.
    example: String,
}

#[derive(Debug, Default)]
struct Kinds(BTreeMap<String, Kind>);

impl Kinds {
    fn count(&mut self, error: &JobError, index: JobIndex) {
        let kind = self.0.entry(error.code.clone()).or_default();
        kind.jobs += 1;
        if kind.first.first().is_none_or(|first| index < *first) {
            kind.example.clone_from(&error.message);
        }
        kind.first.insert(index);
        if kind.first.len() > LINES_SHOWN {
            kind.first.pop_last();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_by_code_with_their_first_lines() {
        let mut kinds = Kinds::default();
        for index in [7, 3, 1, 6, 2, 5, 4] {
            let error = JobError::new("invalid_json", format!("job {index}"));
            kinds.count(&error, JobIndex(index));
        }
        kinds.count(
            &JobError::new("wrong_type", "prompt must be a text"),
            JobIndex(9),
        );
        let kind = &kinds.0["invalid_json"];
        assert_eq!((kind.jobs, kind.example.as_str()), (7, "job 1"));
        assert_eq!(kind.first, BTreeSet::from([1, 2, 3, 4, 5].map(JobIndex)));
        assert_eq!(kinds.0["wrong_type"].jobs, 1);
    }
}
