//! One field of an expression: its values, read strictly.

use super::cron_error::CronError;
use std::collections::BTreeSet;

/// What one field may hold.
pub(super) struct FieldKind {
    pub name: &'static str,
    low: u32,
    high: u32,
    names: &'static [&'static str],
    first_name: u32,
    allowed: &'static str,
}

const MONTHS: [&str; 12] = [
    "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
];
const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

pub(super) const SECOND: FieldKind = FieldKind {
    name: "second",
    low: 0,
    high: 59,
    names: &[],
    first_name: 0,
    allowed: "*, 0-59, ranges, lists and steps such as */10",
};
pub(super) const MINUTE: FieldKind = FieldKind {
    name: "minute",
    ..SECOND
};
pub(super) const HOUR: FieldKind = FieldKind {
    name: "hour",
    high: 23,
    allowed: "*, 0-23, ranges, lists and steps such as */2",
    ..SECOND
};
pub(super) const DAY: FieldKind = FieldKind {
    name: "day",
    low: 1,
    high: 31,
    allowed: "*, 1-31, ranges, lists and steps such as */2",
    ..SECOND
};
pub(super) const MONTH: FieldKind = FieldKind {
    name: "month",
    low: 1,
    high: 12,
    names: &MONTHS,
    first_name: 1,
    allowed: "*, 1-12, JAN-DEC, ranges, lists and steps such as */3",
};
/// Sunday is 0 and 7.
pub(super) const WEEKDAY: FieldKind = FieldKind {
    name: "weekday",
    low: 0,
    high: 7,
    names: &DAYS,
    first_name: 0,
    allowed: "*, 0-7 (Sunday is 0 and 7), SUN-SAT, ranges, lists and steps such as MON-FRI/2",
};

/// A field that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    /// What matches.
    pub values: BTreeSet<u32>,
    /// It is `*` as it stands: it restricts nothing.
    pub star: bool,
    /// `*` or a step stands in it.
    pub steps: bool,
}

impl FieldKind {
    pub fn read(&self, text: &str) -> Result<Field, CronError> {
        let mut field = Field {
            values: BTreeSet::new(),
            star: text == "*",
            steps: false,
        };
        for part in text.split(',') {
            field.steps |= part.contains(['*', '/']);
            let values = self.part(part).map_err(|problem| CronError::Field {
                field: self.name,
                given: text.to_owned(),
                problem,
                allowed: self.allowed,
            })?;
            field.values.extend(values);
        }
        Ok(field)
    }

    /// `*`, `a`, `a-b`, and the first and last with `/n` behind.
    fn part(&self, part: &str) -> Result<Vec<u32>, String> {
        let (base, step) = match part.split_once('/') {
            Some((base, step)) => (base, Some(self.step(step)?)),
            None => (part, None),
        };
        let (first, last) = match base.split_once('-') {
            _ if base == "*" => (self.low, self.top()),
            Some((first, last)) => self.range(first, last)?,
            None if step.is_some() => {
                return Err(format!(
                    "a step goes with * or a range, so write {base}-{}/{}",
                    self.top(),
                    step.unwrap_or(1)
                ));
            }
            None => {
                let value = self.value(base)?;
                (value, value)
            }
        };
        let values = (first..=last).step_by(step.unwrap_or(1));
        Ok(values.map(|value| self.once(value)).collect())
    }

    /// The last value that is not another name of the first.
    fn top(&self) -> u32 {
        if self.is_weekday() { 6 } else { self.high }
    }

    fn is_weekday(&self) -> bool {
        self.high == 7
    }

    /// Sunday has one number only.
    fn once(&self, value: u32) -> u32 {
        if self.is_weekday() { value % 7 } else { value }
    }

    fn range(&self, first: &str, last: &str) -> Result<(u32, u32), String> {
        let (low, high) = (self.value(first)?, self.value(last)?);
        // A week that is written from a day to Sunday ends with it.
        let high = match self.is_weekday() && high == 0 && low > 0 {
            true => 7,
            false => high,
        };
        match low <= high {
            true => Ok((low, high)),
            false => Err(format!("the range {first}-{last} goes backwards")),
        }
    }

    fn value(&self, text: &str) -> Result<u32, String> {
        if text.is_empty() {
            return Err("a value is missing".to_owned());
        }
        if let Some(at) = (self.names.iter()).position(|name| name.eq_ignore_ascii_case(text)) {
            return Ok(self.first_name + at as u32);
        }
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse::<u32>().ok().filter(|_| digits);
        let number = number.ok_or_else(|| format!("{text:?} is no value"))?;
        match (self.low..=self.high).contains(&number) {
            true => Ok(number),
            false => Err(format!("{number} is out of range")),
        }
    }

    fn step(&self, text: &str) -> Result<usize, String> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let step = text.parse::<usize>().ok().filter(|_| digits);
        step.filter(|step| (1..=self.top() as usize).contains(step))
            .ok_or_else(|| format!("the step {text:?} is not a number from 1 to {}", self.top()))
    }
}
