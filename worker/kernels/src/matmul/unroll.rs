//! Loops over registers that are really unrolled: a sum that is indexed by a variable would live in memory.

/// Runs the body for each row below the constant `$rows` (at most 8), with `$row` as a constant.
macro_rules! each_row {
    ($rows:ident, $row:ident, $body:block) => {
        each_row!(@ $rows, $row, $body, 0, 1, 2, 3, 4, 5, 6, 7);
    };
    (@ $rows:ident, $row:ident, $body:block, $($index:literal),*) => {
        $(
            if $index < $rows {
                const $row: usize = $index;
                $body
            }
        )*
    };
}

/// Runs the body for each column below the constant `$columns` (at most 2), with `$column` as a constant.
macro_rules! each_column {
    ($columns:ident, $column:ident, $body:block) => {
        each_row!(@ $columns, $column, $body, 0, 1);
    };
}

/// Runs the body for each of the eight groups of a tile.
macro_rules! each_group {
    ($group:ident, $body:block) => {
        each_group!(@ $group, $body, 0, 1, 2, 3, 4, 5, 6, 7);
    };
    (@ $group:ident, $body:block, $($index:literal),*) => {
        $(
            {
                const $group: usize = $index;
                $body
            }
        )*
    };
}

/// Runs the body over all rows of a panel, `$count` at a time: first `$most` (at most 8), then the next smaller of 8, 6, 4, 2
/// and 1. Eight rows at the end are two fours rather than a six and a two.
macro_rules! by_rows {
    ($most:expr, $panel:expr, $row:ident, |$count:ident| $body:expr) => {{
        let mut $row = $panel.start;
        while $most >= 8 && $row + 8 <= $panel.end {
            const $count: usize = 8;
            $body;
            $row += 8;
        }
        while $most >= 6 && $row + 6 <= $panel.end && $row + 8 != $panel.end {
            const $count: usize = 6;
            $body;
            $row += 6;
        }
        while $most >= 4 && $row + 4 <= $panel.end {
            const $count: usize = 4;
            $body;
            $row += 4;
        }
        while $most >= 2 && $row + 2 <= $panel.end {
            const $count: usize = 2;
            $body;
            $row += 2;
        }
        while $row < $panel.end {
            const $count: usize = 1;
            $body;
            $row += 1;
        }
    }};
}
