//! What is wrong with a cron expression, in sentences that say which field and what it may hold.

/// Why an expression is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// Too few or too many fields.
    #[error(
        "{given:?} has {count} fields: write five, `minute hour day month weekday`, or six with the seconds in front"
    )]
    FieldCount {
        /// As it was given.
        given: String,
        /// How many fields there are.
        count: usize,
    },
    /// A field holds what it may not.
    #[error("the {field} field is {given:?}: {problem}; allowed are {allowed}")]
    Field {
        /// Its name.
        field: &'static str,
        /// What stands in it.
        given: String,
        /// What is wrong with that.
        problem: String,
        /// What may stand there.
        allowed: &'static str,
    },
    /// An unknown word that begins with `@`.
    #[error(
        "{given:?} is no known word: @yearly, @annually, @monthly, @weekly, @daily, @midnight and @hourly are"
    )]
    Macro {
        /// As it was given.
        given: String,
    },
    /// No day has such a date.
    #[error("{given:?} never comes: no month that it names has such a day")]
    Never {
        /// As it was given.
        given: String,
    },
    /// Longer than any sensible one.
    #[error("the cron expression has more than {limit} characters")]
    TooLong {
        /// How many are allowed.
        limit: usize,
    },
}
