//! Which ticks of a schedule are fired now, and which were missed.
//!
//! Ticks that are late by no more than a change of the leader takes are on time. After a longer silence it is an outage,
//! and what the schedule says about missed runs decides.

use super::CronSchedule;
use rbee_queue::schedule::Missed;
use std::time::Duration;

/// A tick that is late by no more than this is on time: a new leader takes over within ten seconds.
pub const ON_TIME: Duration = Duration::from_secs(15);
/// Ticks that one look fires; what is left is fired by the next.
pub const MAX_FIRED: usize = 100;
/// Missed ticks that are counted one by one.
const MAX_COUNTED: u64 = 10_000;

/// Where a schedule stands.
#[derive(Clone, Copy, Debug)]
pub struct Lateness {
    /// Its first tick that was not fired yet.
    pub next_us: i64,
    /// Now.
    pub now_us: i64,
    /// What is done about missed ticks.
    pub missed: Missed,
    /// How far back `once` looks.
    pub window_us: i64,
    /// How many may be fired at most.
    pub room: usize,
}

/// A tick to be fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueTick {
    /// Which.
    pub tick_us: i64,
    /// It makes up for an outage.
    pub catches_up: bool,
}

/// Ticks that are not fired any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissedSpan {
    /// The first.
    pub first_us: i64,
    /// The last that was counted.
    pub last_us: i64,
    /// How many.
    pub count: u64,
    /// There were more than that.
    pub more: bool,
}

/// What is to be done about a schedule now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DuePlan {
    /// Fired now, in their order.
    pub fire: Vec<DueTick>,
    /// Given up.
    pub missed: Option<MissedSpan>,
    /// The first tick that is neither. `None`: there is none.
    pub next_us: Option<i64>,
}

/// Decides. Nothing is due: nothing is to be done, and `next_us` is what it was.
pub fn due(cron: &CronSchedule, late: Lateness) -> DuePlan {
    let on_time_from = late.now_us - micros(ON_TIME);
    if late.next_us >= on_time_from || late.missed == Missed::All {
        return fire_each(cron, late, late.next_us, late.next_us < on_time_from);
    }
    match late.missed {
        Missed::None => {
            let next = cron.next_after(on_time_from - 1);
            let mut plan = match next {
                Some(next) => fire_each(cron, late, next, false),
                None => DuePlan::default(),
            };
            plan.missed = span(cron, late.next_us, on_time_from - 1);
            plan
        }
        Missed::Once | Missed::All => catch_up_once(cron, late),
    }
}

/// Fires every due tick from `first` on. After an outage all of them make up for it, the last ones too.
fn fire_each(cron: &CronSchedule, late: Lateness, first: i64, catches_up: bool) -> DuePlan {
    let mut fire = Vec::new();
    let mut next = Some(first);
    while let Some(tick_us) = next.filter(|tick| *tick <= late.now_us && fire.len() < late.room) {
        fire.push(DueTick {
            tick_us,
            catches_up,
        });
        next = cron.next_after(tick_us);
    }
    DuePlan {
        fire,
        missed: None,
        next_us: next,
    }
}

/// Fires the last due tick for all that were missed, if it lies in the window.
fn catch_up_once(cron: &CronSchedule, late: Lateness) -> DuePlan {
    let window_from = late.now_us - late.window_us;
    let first = match late.next_us >= window_from {
        true => Some(late.next_us),
        false => cron.next_after(window_from - 1),
    };
    let mut last = None;
    let mut next = first;
    while let Some(tick) = next.filter(|tick| *tick <= late.now_us) {
        last = Some(tick);
        next = cron.next_after(tick);
    }
    let fired = last.filter(|_| late.room > 0);
    if last.is_some() && fired.is_none() {
        return DuePlan {
            next_us: Some(late.next_us),
            ..DuePlan::default()
        };
    }
    DuePlan {
        fire: fired
            .map(|tick_us| DueTick {
                tick_us,
                catches_up: true,
            })
            .into_iter()
            .collect(),
        missed: span(
            cron,
            late.next_us,
            last.map_or(late.now_us, |last| last - 1),
        ),
        next_us: next,
    }
}

/// The ticks from `first` to `until`.
fn span(cron: &CronSchedule, first_us: i64, until: i64) -> Option<MissedSpan> {
    if first_us > until {
        return None;
    }
    let mut span = MissedSpan {
        first_us,
        last_us: first_us,
        count: 1,
        more: false,
    };
    while let Some(next) = cron.next_after(span.last_us).filter(|next| *next <= until) {
        if span.count == MAX_COUNTED {
            span.more = true;
            break;
        }
        span.count += 1;
        span.last_us = next;
    }
    Some(span)
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::super::Zone;
    use super::*;

    const MINUTE: i64 = 60_000_000;
    const HOUR: i64 = 60 * MINUTE;

    #[test]
    fn whatever_the_looks_every_tick_is_fired_once_or_missed_over_both_edges_of_summer() {
        let berlin = Zone::named("Europe/Berlin").unwrap();
        // 2026-03-29T00:00:00Z and 2026-10-24T23:00:00Z: three hours around each change.
        for (from, expression) in [
            (1_774_742_400_000_000, "*/10 1-3 * * *"),
            (1_774_742_400_000_000, "*/7 * * * *"),
            (1_792_882_800_000_000, "*/10 1-3 * * *"),
            (1_792_882_800_000_000, "*/7 * * * *"),
        ] {
            let cron = CronSchedule::read(expression, berlin).unwrap();
            let until = from + 3 * HOUR;
            let all: Vec<i64> = cron.after(from).take_while(|tick| *tick <= until).collect();
            for missed in Missed::ALL {
                // Looks of a second, and an outage between each hour's 20th and 45th minute.
                let mut next_us = cron.next_after(from).unwrap();
                let (mut fired, mut given_up) = (Vec::new(), 0);
                for now_us in (from..=until).step_by(1_000_000) {
                    if (20..45).contains(&((now_us - from) / MINUTE % 60)) {
                        continue;
                    }
                    let late = Lateness {
                        next_us,
                        now_us,
                        missed: *missed,
                        window_us: HOUR,
                        room: 2,
                    };
                    let plan = due(&cron, late);
                    assert!(plan.fire.iter().all(|due| due.tick_us <= now_us), "early");
                    fired.extend(plan.fire.iter().map(|due| due.tick_us));
                    given_up += plan.missed.map_or(0, |span| span.count);
                    next_us = plan.next_us.unwrap();
                }
                assert!(fired.is_sorted_by(|a, b| a < b), "{expression}: {fired:?}");
                assert!(fired.iter().all(|tick| all.contains(tick)));
                assert_eq!(
                    fired.len() as u64 + given_up,
                    all.len() as u64,
                    "{expression} {missed}"
                );
                match missed {
                    Missed::All => assert_eq!(given_up, 0),
                    Missed::Once | Missed::None => assert!(given_up > 0),
                }
            }
        }
    }

    fn plan(expression: &str, missed: Missed, late_us: i64) -> DuePlan {
        let cron = CronSchedule::read(expression, Zone::UTC).unwrap();
        let next_us = cron.next_after(1_000 * HOUR - 1).unwrap();
        due(
            &cron,
            Lateness {
                next_us,
                now_us: next_us + late_us,
                missed,
                window_us: HOUR,
                room: MAX_FIRED,
            },
        )
    }

    fn fired(plan: &DuePlan) -> Vec<i64> {
        plan.fire
            .iter()
            .map(|due| due.tick_us - 1_000 * HOUR)
            .collect()
    }

    #[test]
    fn nothing_is_fired_early() {
        let early = plan("0 * * * *", Missed::All, -1);
        assert_eq!((early.fire.len(), early.missed), (0, None));
        assert_eq!(early.next_us, Some(1_000 * HOUR));
    }

    #[test]
    fn ticks_of_a_slow_moment_are_all_fired_whatever_is_said_of_missed_ones() {
        for missed in [Missed::Once, Missed::All, Missed::None] {
            let late = plan("* * * * * *", missed, 3_500_000);
            assert_eq!(fired(&late), [0, 1_000_000, 2_000_000, 3_000_000]);
            assert!(late.fire.iter().all(|due| !due.catches_up));
            assert_eq!(
                (late.missed, late.next_us),
                (None, Some(1_000 * HOUR + 4_000_000))
            );
        }
    }

    #[test]
    fn three_hours_down_are_caught_up_once_by_the_last_tick() {
        let late = plan("*/15 * * * *", Missed::Once, 3 * HOUR + MINUTE);
        assert_eq!(fired(&late), [3 * HOUR]);
        assert!(late.fire[0].catches_up);
        let span = late.missed.unwrap();
        assert_eq!((span.count, span.more), (12, false));
        assert_eq!(late.next_us, Some(1_003 * HOUR + 15 * MINUTE));
    }

    #[test]
    fn tick_that_was_missed_longer_ago_than_the_window_is_given_up() {
        let late = plan("0 3 * * *", Missed::Once, HOUR + MINUTE);
        assert_eq!(fired(&late), Vec::<i64>::new());
        assert_eq!(late.missed.unwrap().count, 1);
        let in_time = plan("0 3 * * *", Missed::Once, HOUR - MINUTE);
        assert_eq!(in_time.fire.len(), 1);
        assert_eq!(in_time.missed, None);
    }

    #[test]
    fn all_missed_ticks_are_fired_in_order_and_a_part_at_a_time() {
        let late = plan("* * * * *", Missed::All, 3 * HOUR);
        assert_eq!(late.fire.len(), MAX_FIRED);
        assert_eq!(late.next_us, Some(1_000 * HOUR + MAX_FIRED as i64 * MINUTE));
        assert_eq!(late.missed, None);
    }

    #[test]
    fn none_of_the_missed_ticks_is_fired_where_that_is_wanted() {
        let late = plan("*/15 * * * *", Missed::None, 3 * HOUR + MINUTE);
        assert_eq!(late.fire, []);
        assert_eq!(late.missed.unwrap().count, 13);
        let just = plan("*/15 * * * *", Missed::None, 3 * HOUR + 1_000_000);
        assert_eq!(fired(&just), [3 * HOUR]);
        assert!(!just.fire[0].catches_up);
        assert_eq!(just.missed.unwrap().count, 12);
    }

    #[test]
    fn years_of_seconds_are_not_counted_to_the_last() {
        let late = plan("* * * * * *", Missed::Once, 9_000 * HOUR);
        assert_eq!(late.fire.len(), 1);
        let span = late.missed.unwrap();
        assert_eq!((span.count, span.more), (10_000, true));
    }
}
