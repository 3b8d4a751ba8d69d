//! How much of a batch is computed again, and which jobs that is.

/// How much of a batch is looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sample {
    /// A share, above 0 and at most 1.
    Share(f64),
    /// A number of jobs.
    Jobs(u64),
}

impl std::str::FromStr for Sample {
    type Err = String;

    fn from_str(text: &str) -> Result<Sample, String> {
        let bad = || "must be a share such as 1% or a number of jobs such as 20".to_owned();
        if let Some(percent) = text.strip_suffix('%') {
            let percent: f64 = percent.trim().parse().map_err(|_| bad())?;
            if !(percent > 0.0 && percent <= 100.0) {
                return Err("must be above 0% and at most 100%".to_owned());
            }
            return Ok(Sample::Share(percent / 100.0));
        }
        match text.parse() {
            Ok(0) | Err(_) => Err(bad()),
            Ok(jobs) => Ok(Sample::Jobs(jobs)),
        }
    }
}

impl Sample {
    /// Of `total` jobs at least one, at most all.
    pub fn count(self, total: u64) -> u64 {
        let wanted = match self {
            Sample::Share(share) => (total as f64 * share).ceil() as u64,
            Sample::Jobs(jobs) => jobs,
        };
        wanted.max(1).min(total)
    }

    /// Which of `total` jobs, spread evenly: the same ones each time.
    pub fn positions(self, total: u64) -> impl Iterator<Item = u64> {
        let count = self.count(total);
        (0..count).map(move |i| (u128::from(i) * u128::from(total) / u128::from(count)) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sample_is_a_share_or_a_number() {
        assert_eq!("1%".parse(), Ok(Sample::Share(0.01)));
        assert_eq!("100%".parse(), Ok(Sample::Share(1.0)));
        assert_eq!("20".parse(), Ok(Sample::Jobs(20)));
        for text in ["", "%", "0", "0%", "101%", "-1%", "NaN%", "1.5", "some"] {
            assert!(text.parse::<Sample>().is_err(), "{text} was taken");
        }
    }

    #[test]
    fn sample_takes_at_least_one_job_and_at_most_all() {
        assert_eq!(Sample::Share(0.01).count(24), 1);
        assert_eq!(Sample::Share(0.01).count(250), 3);
        assert_eq!(Sample::Jobs(100).count(24), 24);
        assert_eq!(Sample::Jobs(1).count(0), 0);
    }

    #[test]
    fn sample_is_spread_and_names_no_job_twice() {
        assert_eq!(
            Sample::Jobs(4).positions(10).collect::<Vec<_>>(),
            [0, 2, 5, 7]
        );
        assert_eq!(
            Sample::Share(1.0).positions(3).collect::<Vec<_>>(),
            [0, 1, 2]
        );
    }
}
