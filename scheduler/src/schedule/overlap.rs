//! What becomes of a tick while runs of its schedule are not at their end.

use rbee_queue::schedule::Overlap;

/// How a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// At once.
    Now,
    /// When those before it have ended.
    Wait,
    /// Never.
    Skip,
}

/// Decides for a tick when `open` runs are before it. Ticks that make up for an outage one by one do not skip each other:
/// all of them were asked for.
pub fn begin(overlap: Overlap, open: usize, catches_up_all: bool) -> Begin {
    match overlap {
        _ if open == 0 => Begin::Now,
        Overlap::Allow | Overlap::CancelRunning => Begin::Now,
        Overlap::Queue => Begin::Wait,
        Overlap::Skip if catches_up_all => Begin::Wait,
        Overlap::Skip => Begin::Skip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_is_alone_begins_at_once() {
        for overlap in Overlap::ALL {
            assert_eq!(begin(*overlap, 0, false), Begin::Now);
        }
    }

    #[test]
    fn overlapping_runs_skip_wait_or_begin_as_the_schedule_says() {
        assert_eq!(begin(Overlap::Skip, 1, false), Begin::Skip);
        assert_eq!(begin(Overlap::Skip, 1, true), Begin::Wait);
        assert_eq!(begin(Overlap::Queue, 2, false), Begin::Wait);
        assert_eq!(begin(Overlap::Allow, 2, false), Begin::Now);
        assert_eq!(begin(Overlap::CancelRunning, 1, false), Begin::Now);
    }
}
