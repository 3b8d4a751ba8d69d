//! The wrapper against croner: ten years in six zones.
//!
//! croner calls an expression fixed only if second, minute and hour are single values. For those, and for all whose hour is
//! `*` or a step, it has our rules and is asked across changes of clocks; for the rest it is asked away from them.

use super::{CronSchedule, US_A_SECOND, Zone};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds};
use proptest::prelude::*;

const ZONES: [&str; 6] = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kolkata",
    "America/Santiago",
    "UTC",
];
/// 2024-01-01T00:00:00Z.
const FROM_S: i64 = 1_704_067_200;
const TEN_YEARS_S: i64 = 10 * 366 * 86_400;
/// Ticks that are compared in a row from one place.
const IN_A_ROW: usize = 40;
/// So near to a change of clocks the oracle may have other rules.
const NEAR_S: i64 = 2 * 86_400;

fn value(low: u32, high: u32) -> impl Strategy<Value = String> {
    (low..=high).prop_map(|value| value.to_string())
}

fn part(low: u32, high: u32) -> impl Strategy<Value = String> {
    prop_oneof![
        4 => value(low, high),
        2 => (low..=high, low..=high).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        1 => (low..=high, low..=high, 1u32..6)
            .prop_map(|(a, b, step)| format!("{}-{}/{step}", a.min(b), a.max(b))),
    ]
}

fn field(low: u32, high: u32) -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just("*".to_owned()),
        1 => (1u32..=high.min(12)).prop_map(|step| format!("*/{step}")),
        4 => prop::collection::vec(part(low, high), 1..4).prop_map(|parts| parts.join(",")),
    ]
}

fn month() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => field(1, 12),
        1 => prop::sample::select(vec!["JAN", "feb,DEC", "MAR-jun", "OCT"]).prop_map(str::to_owned),
    ]
}

fn weekday() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just("*".to_owned()),
        3 => prop::collection::vec(part(0, 6), 1..3).prop_map(|parts| parts.join(",")),
        1 => prop::sample::select(vec!["7", "SUN", "mon-FRI", "5-7", "SAT,sun", "0,3"]).prop_map(str::to_owned),
    ]
}

fn expression() -> impl Strategy<Value = String> {
    (
        prop_oneof![3 => Just(None), 1 => field(0, 59).prop_map(Some)],
        field(0, 59),
        field(0, 23),
        prop_oneof![2 => Just("*".to_owned()), 1 => field(1, 31)],
        month(),
        weekday(),
    )
        .prop_map(|(second, minute, hour, day, month, weekday)| {
            let rest = format!("{minute} {hour} {day} {month} {weekday}");
            match second {
                Some(second) => format!("{second} {rest}"),
                None => rest,
            }
        })
}

/// A single time of the day, on some days.
fn single_time() -> impl Strategy<Value = String> {
    (value(0, 59), value(0, 4), field(1, 31), month(), weekday()).prop_map(
        |(minute, hour, day, month, weekday)| format!("{minute} {hour} {day} {month} {weekday}"),
    )
}

/// The hour is `*` or has a step.
fn following_utc() -> impl Strategy<Value = String> {
    (field(0, 59), 0u32..12, field(1, 31), month(), weekday()).prop_map(
        |(minute, step, day, month, weekday)| match step {
            0 => format!("{minute} * {day} {month} {weekday}"),
            step => format!("{minute} */{step} {day} {month} {weekday}"),
        },
    )
}

fn oracle(expression: &str) -> Cron {
    let parser = CronParser::builder().seconds(Seconds::Optional).build();
    parser
        .parse(expression)
        .unwrap_or_else(|error| panic!("{expression}: {error}"))
}

fn oracle_next(cron: &Cron, zone: Tz, after_s: i64) -> Option<i64> {
    let after: DateTime<Utc> = DateTime::from_timestamp(after_s, 0)?;
    let next = cron.find_next_occurrence(&after.with_timezone(&zone), false);
    next.ok().map(|next| next.timestamp())
}

fn near_a_change(zone: Zone, instant_s: i64) -> bool {
    zone.change(instant_s - NEAR_S, instant_s + NEAR_S)
        .is_some()
}

/// Compares the ticks that follow some instants. Where `everywhere` is not said, those near changes are left out.
fn compare(expression: &str, zone: &str, starts: &[i64], everywhere: bool) {
    let ours = Zone::named(zone).unwrap();
    let theirs: Tz = zone.parse().unwrap();
    let cron = oracle(expression);
    let Ok(schedule) = CronSchedule::read(expression, ours) else {
        let found = oracle_next(&cron, theirs, FROM_S);
        assert_eq!(found, None, "{expression} never comes, we say");
        return;
    };
    for start in starts {
        let mut at = FROM_S + start;
        for _ in 0..IN_A_ROW {
            let our_next = schedule
                .next_after(at * US_A_SECOND)
                .map(|tick| tick / US_A_SECOND);
            let Some(next) = our_next.filter(|next| *next < FROM_S + TEN_YEARS_S) else {
                break;
            };
            if everywhere || !(near_a_change(ours, at) || near_a_change(ours, next)) {
                let their_next = oracle_next(&cron, theirs, at);
                assert_eq!(our_next, their_next, "{expression} in {zone} after {at}");
            }
            at = next;
        }
    }
}

fn starts() -> impl Strategy<Value = Vec<i64>> {
    prop::collection::vec(0..TEN_YEARS_S, 3)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn any_expression_is_as_the_oracle_has_it_away_from_changes(
        expression in expression(), zone in 0..ZONES.len(), starts in starts(),
    ) {
        compare(&expression, ZONES[zone], &starts, false);
    }

    #[test]
    fn expressions_that_follow_utc_are_as_the_oracle_has_them_across_changes(
        expression in following_utc(), zone in 0..ZONES.len(), starts in starts(),
    ) {
        compare(&expression, ZONES[zone], &starts, true);
    }

    #[test]
    fn single_times_of_a_day_are_as_the_oracle_has_them_across_changes(
        expression in single_time(), zone in 0..ZONES.len(), starts in starts(),
    ) {
        compare(&expression, ZONES[zone], &starts, true);
    }
}

#[test]
fn every_single_time_around_every_change_of_ten_years_is_as_the_oracle_has_it() {
    for zone in ZONES {
        let ours = Zone::named(zone).unwrap();
        let mut from = FROM_S;
        while let Some(change) = ours.change(from, FROM_S + TEN_YEARS_S) {
            for expression in [
                "30 2 * * *",
                "0 2 * * *",
                "0 3 * * *",
                "15 2 * * *",
                "30 1 * * *",
                "45 1 * * *",
                "0 0 * * *",
                "59 23 * * *",
            ] {
                compare(expression, zone, &[change.at_s - FROM_S - 3 * 86_400], true);
            }
            from = change.at_s;
        }
    }
}
