//! Which traces are collected, by OpenTelemetry's own variables.
//!
//! A share is decided by the trace's id, and a batch's id is the same everywhere: all processes collect the same batches.

use rbee_queue::trace::TraceId;

const KIND: &str = "OTEL_TRACES_SAMPLER";
const SHARE: &str = "OTEL_TRACES_SAMPLER_ARG";

/// Which traces are collected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampler {
    /// Those whose last 63 bits are below this.
    below: u64,
}

impl Sampler {
    /// As the environment says; without a word, all.
    pub fn of_environment() -> Result<Sampler, String> {
        let given = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Sampler::of(given(KIND).as_deref(), given(SHARE).as_deref())
    }

    fn of(kind: Option<&str>, share: Option<&str>) -> Result<Sampler, String> {
        let kind = kind.unwrap_or("always_on");
        // Nobody above decides for us: those that follow a parent do what they do for a root.
        match kind.strip_prefix("parentbased_").unwrap_or(kind) {
            "always_on" => Ok(Sampler::share(1.0)),
            "always_off" => Ok(Sampler::share(0.0)),
            "traceidratio" => {
                let share = share.unwrap_or("1");
                let number = share.parse().ok();
                let share = number.filter(|share| (0.0..=1.0).contains(share));
                share.map(Sampler::share).ok_or_else(|| {
                    format!("{SHARE} must be a number from 0 to 1, as 0.1, for {KIND}={kind}")
                })
            }
            _ => Err(format!(
                "{KIND} is {kind}: always_on, always_off and traceidratio are possible, also with parentbased_ in front"
            )),
        }
    }

    fn share(share: f64) -> Sampler {
        const ALL: f64 = (1u64 << 63) as f64;
        Sampler {
            below: (share * ALL) as u64,
        }
    }

    /// Whether a trace is collected.
    pub fn takes(&self, trace: &TraceId) -> bool {
        let [.., a, b, c, d, e, f, g, h] = *trace;
        u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1 < self.below
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rbee_queue::BatchId;
    use rbee_queue::trace::trace_of;

    #[test]
    fn share_of_traces_is_collected() {
        let traces: Vec<TraceId> = (0..2_000).map(|_| trace_of(&BatchId::generate())).collect();
        let taken = |kind, share| {
            let sampler = Sampler::of(kind, share).unwrap();
            traces.iter().filter(|trace| sampler.takes(trace)).count()
        };
        assert_eq!(taken(None, None), 2_000);
        assert_eq!(taken(Some("parentbased_always_on"), Some("0.1")), 2_000);
        assert_eq!(taken(Some("always_off"), None), 0);
        assert_eq!(taken(Some("traceidratio"), Some("0")), 0);
        assert_eq!(taken(Some("traceidratio"), None), 2_000);
        let quarter = taken(Some("parentbased_traceidratio"), Some("0.25"));
        assert!((400..600).contains(&quarter), "{quarter}");
        for (kind, share) in [
            ("sometimes", None),
            ("traceidratio", Some("2")),
            ("traceidratio", Some("x")),
        ] {
            assert!(Sampler::of(Some(kind), share).is_err(), "{kind} {share:?}");
        }
    }
}
