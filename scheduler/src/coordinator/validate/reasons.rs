//! Why a batch is refused as a whole, as its client reads it.

use crate::http::ResolveError;
use rbee_queue::file::RefusedLine;
use rbee_queue::jsonl::ReadError;
use rbee_queue::store::Refusal;

/// Reasons that a refused batch lists.
const MAX_REASONS: usize = 100;

/// One reason about the whole.
pub fn reason(code: &str, message: String) -> RefusedLine {
    RefusedLine {
        code: code.to_owned(),
        message,
        line: None,
        param: None,
    }
}

/// Of an input that is no list of jobs.
pub fn unreadable(error: &ReadError) -> Vec<RefusedLine> {
    let told = match error {
        ReadError::Empty => reason("empty_file", error.to_string()),
        ReadError::PlainText { line, start } => RefusedLine {
            line: Some(*line),
            ..reason(
                "invalid_json_line",
                format!("the file is not JSONL: line {line} begins with {start:?}"),
            )
        },
        _ => reason("invalid_input", error.to_string()),
    };
    vec![told]
}

/// Of a name that leads nowhere.
pub fn unresolved(error: ResolveError) -> Vec<RefusedLine> {
    vec![RefusedLine {
        param: Some("model".to_owned()),
        ..reason("model_not_found", error.message)
    }]
}

/// Of lines that refuse each other.
pub fn reasons(refusal: Refusal) -> Vec<RefusedLine> {
    let Refusal::Duplicates { ids, .. } = refusal else {
        return vec![reason("empty_file", refusal.to_string())];
    };
    let doubled = ids.iter().take(MAX_REASONS).map(|(id, lines)| {
        let shown: String = id.chars().take(80).collect();
        let first = lines.first().copied().unwrap_or_default();
        RefusedLine {
            line: lines.get(1).copied(),
            param: Some("custom_id".to_owned()),
            ..reason(
                "duplicate_custom_id",
                format!("the custom_id {shown:?} is that of line {first} already"),
            )
        }
    });
    doubled.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_are_told_one_by_one() {
        let told = reasons(Refusal::Duplicates {
            ids: vec![
                ("x".to_owned(), vec![1, 3]),
                ("y".to_owned(), vec![2, 4, 5]),
            ],
            count: 2,
        });
        assert_eq!(told.len(), 2);
        assert_eq!(told[0].line, Some(3));
        assert_eq!(told[1].code, "duplicate_custom_id");
        assert_eq!(reasons(Refusal::Empty)[0].code, "empty_file");
    }
}
