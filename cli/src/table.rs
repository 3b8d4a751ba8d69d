//! Listings for people: columns as wide as their widest cell, on stdout.

use std::io::Write;

use crate::failure::{Failure, stdout_failure};

/// Space between columns.
const GAP: &str = "  ";

/// The lines of a table. Cells are text without line ends.
pub fn lines(header: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let render = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        padded.join(GAP).trim_end().to_owned()
    };
    let head = render(&mut header.iter().copied());
    let rows = rows
        .iter()
        .map(|row| render(&mut row.iter().map(String::as_str)));
    std::iter::once(head).chain(rows).collect()
}

/// Writes lines to stdout.
pub fn print(lines: impl IntoIterator<Item = impl AsRef<str>>) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    for line in lines {
        writeln!(out, "{}", line.as_ref()).map_err(stdout_failure)?;
    }
    out.flush().map_err(stdout_failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_no_line_ends_in_blanks() {
        let rows = vec![
            vec!["é".to_owned(), "long cell".to_owned()],
            vec!["wide".to_owned(), String::new()],
        ];
        assert_eq!(
            lines(&["A", "B"], &rows),
            ["A     B", "é     long cell", "wide"]
        );
    }
}
