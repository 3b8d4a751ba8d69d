//! What happens when clocks are changed, as a written table: the oracle cannot judge it but for single times of a day.

use super::{CronSchedule, Zone};

/// The ticks from one UTC instant to another, as UTC times of the day or with their dates.
fn ticks(expression: &str, zone: &str, from: &str, until: &str) -> Vec<String> {
    let instant = |text: &str| {
        let read = chrono::DateTime::parse_from_rfc3339(text).unwrap();
        read.timestamp() * super::US_A_SECOND
    };
    let zone = Zone::named(zone).unwrap();
    let cron = CronSchedule::read(expression, zone).unwrap();
    let until = instant(until);
    cron.after(instant(from) - 1)
        .take_while(|tick| *tick < until)
        .map(|tick| Zone::UTC.local(tick)[..16].to_owned())
        .collect()
}

/// One row: what is expected of an expression while a zone's clocks are changed.
struct Row {
    zone: &'static str,
    from: &'static str,
    until: &'static str,
    expression: &'static str,
    expected: &'static [&'static str],
}

/// Berlin, 2026-03-29: 02:00 becomes 03:00 at 01:00 UTC.
const SPRING: (&str, &str, &str) = (
    "Europe/Berlin",
    "2026-03-29T00:00:00Z",
    "2026-03-29T03:00:00Z",
);
/// Berlin, 2026-10-25: 03:00 becomes 02:00 at 01:00 UTC.
const AUTUMN: (&str, &str, &str) = (
    "Europe/Berlin",
    "2026-10-24T23:30:00Z",
    "2026-10-25T03:00:00Z",
);

fn row(
    (zone, from, until): (&'static str, &'static str, &'static str),
    expression: &'static str,
    expected: &'static [&'static str],
) -> Row {
    Row {
        zone,
        from,
        until,
        expression,
        expected,
    }
}

#[test]
fn changes_of_clocks_follow_the_table() {
    let rows = [
        // A single time that is skipped runs at the first valid instant, 03:00 of the new clock.
        row(SPRING, "30 2 * * *", &["2026-03-29T01:00"]),
        row(SPRING, "0 2 * * *", &["2026-03-29T01:00"]),
        row(SPRING, "0 3 * * *", &["2026-03-29T01:00"]),
        row(SPRING, "30 1 * * *", &["2026-03-29T00:30"]),
        // Many skipped times collapse into one.
        row(SPRING, "*/10 2 * * *", &["2026-03-29T01:00"]),
        row(SPRING, "0 2,3 * * *", &["2026-03-29T01:00"]),
        row(
            SPRING,
            "30 1-3 * * *",
            &["2026-03-29T00:30", "2026-03-29T01:00", "2026-03-29T01:30"],
        ),
        row(SPRING, "* * 2 * * *", &["2026-03-29T01:00"]),
        // With the hour `*` or a step they follow UTC: nothing in the gap.
        row(
            SPRING,
            "30 * * * *",
            &["2026-03-29T00:30", "2026-03-29T01:30", "2026-03-29T02:30"],
        ),
        row(SPRING, "0 */2 * * *", &["2026-03-29T02:00"]),
        row(
            SPRING,
            "0 2-4/1 * * *",
            &["2026-03-29T01:00", "2026-03-29T02:00"],
        ),
        row(SPRING, "30 2-2/1 * * *", &[]),
        row(
            SPRING,
            "@hourly",
            &["2026-03-29T00:00", "2026-03-29T01:00", "2026-03-29T02:00"],
        ),
        // A single time that is repeated runs at the first.
        row(AUTUMN, "30 2 * * *", &["2026-10-25T00:30"]),
        row(AUTUMN, "0 2 * * *", &["2026-10-25T00:00"]),
        row(AUTUMN, "0 3 * * *", &["2026-10-25T02:00"]),
        row(
            AUTUMN,
            "*/30 2 * * *",
            &["2026-10-25T00:00", "2026-10-25T00:30"],
        ),
        row(
            AUTUMN,
            "0 2,3 * * *",
            &["2026-10-25T00:00", "2026-10-25T02:00"],
        ),
        row(
            AUTUMN,
            "59 1-3 * * *",
            &["2026-10-24T23:59", "2026-10-25T00:59", "2026-10-25T02:59"],
        ),
        // With the hour `*` or a step both.
        row(
            AUTUMN,
            "30 * * * *",
            &[
                "2026-10-24T23:30",
                "2026-10-25T00:30",
                "2026-10-25T01:30",
                "2026-10-25T02:30",
            ],
        ),
        row(
            AUTUMN,
            "0 */2 * * *",
            &["2026-10-25T00:00", "2026-10-25T01:00"],
        ),
        row(
            AUTUMN,
            "0,30 2-3/1 * * *",
            &[
                "2026-10-25T00:00",
                "2026-10-25T00:30",
                "2026-10-25T01:00",
                "2026-10-25T01:30",
                "2026-10-25T02:00",
                "2026-10-25T02:30",
            ],
        ),
        // Half an hour, in Lord Howe: 02:00 becomes 02:30 and back.
        row(
            (
                "Australia/Lord_Howe",
                "2026-10-03T14:30:00Z",
                "2026-10-03T16:30:00Z",
            ),
            "15 2 * * *",
            &["2026-10-03T15:30"],
        ),
        row(
            (
                "Australia/Lord_Howe",
                "2026-04-04T14:00:00Z",
                "2026-04-04T16:30:00Z",
            ),
            "45 1 * * *",
            &["2026-04-04T14:45"],
        ),
        row(
            (
                "Australia/Lord_Howe",
                "2026-04-04T14:00:00Z",
                "2026-04-04T16:00:00Z",
            ),
            "45 * * * *",
            &["2026-04-04T14:45", "2026-04-04T15:15"],
        ),
        // Midnight is skipped, in Beirut: the day begins at 01:00.
        row(
            (
                "Asia/Beirut",
                "2026-03-28T20:00:00Z",
                "2026-03-29T12:00:00Z",
            ),
            "@daily",
            &["2026-03-28T22:00"],
        ),
        // A whole day is skipped, in Samoa.
        row(
            (
                "Pacific/Apia",
                "2011-12-29T00:00:00Z",
                "2011-12-31T12:00:00Z",
            ),
            "0 12 * * *",
            &["2011-12-29T22:00", "2011-12-30T10:00", "2011-12-30T22:00"],
        ),
        row(
            (
                "Pacific/Apia",
                "2011-12-30T09:00:00Z",
                "2011-12-30T12:00:00Z",
            ),
            "0 */1 * * *",
            &["2011-12-30T09:00", "2011-12-30T10:00", "2011-12-30T11:00"],
        ),
        // No changes at all.
        row(
            ("UTC", "2026-03-29T00:00:00Z", "2026-03-30T00:00:00Z"),
            "30 2 * * *",
            &["2026-03-29T02:30"],
        ),
        row(
            (
                "Asia/Kolkata",
                "2026-03-29T00:00:00Z",
                "2026-03-30T00:00:00Z",
            ),
            "0 9 * * *",
            &["2026-03-29T03:30"],
        ),
    ];
    for row in rows {
        let found = ticks(row.expression, row.zone, row.from, row.until);
        assert_eq!(found, row.expected, "{} in {}", row.expression, row.zone);
    }
}

#[test]
fn search_may_begin_anywhere_around_a_change() {
    for expression in [
        "*/10 2 * * *",
        "*/10 * * * *",
        "30 1-3 * * *",
        "*/7 */2 * * *",
    ] {
        for (zone, from, until) in [SPRING, AUTUMN] {
            let zone = Zone::named(zone).unwrap();
            let cron = CronSchedule::read(expression, zone).unwrap();
            let instant = |text| {
                chrono::DateTime::parse_from_rfc3339(text)
                    .unwrap()
                    .timestamp()
            };
            let all: Vec<i64> = cron
                .after(instant(from) * super::US_A_SECOND)
                .take(500)
                .collect();
            assert!(all.is_sorted_by(|a, b| a < b), "{expression}");
            for second in (instant(from)..instant(until)).step_by(59) {
                let at = second * super::US_A_SECOND;
                let expected = all.iter().find(|tick| **tick > at).copied();
                assert_eq!(cron.next_after(at), expected, "{expression} after {second}");
            }
        }
    }
}
