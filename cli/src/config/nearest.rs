//! The known name that somebody may have meant.

/// Names that are less alike than this are not offered.
const ALIKE: f64 = 0.75;

/// The name most like `wrong`. The last part counts as much as the whole, so that a setting in the wrong section is found.
pub fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.map(|name| {
        let whole = strsim::jaro_winkler(wrong, name);
        let last = strsim::jaro_winkler(last(wrong), last(name));
        // The whole decides between settings of one name in two sections.
        (whole.max(last) + whole / 100.0, name)
    });
    let best = scored.max_by(|(one, _), (other, _)| one.total_cmp(other))?;
    (best.0 >= ALIKE).then_some(best.1)
}

fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_and_wrong_sections_are_found_and_nonsense_is_not() {
        let known = [
            "engine.memory",
            "worker.lease_ms",
            "serve.lease_ms",
            "server",
        ];
        let of = |wrong| nearest(wrong, known.into_iter());
        assert_eq!(of("engine.memroy"), Some("engine.memory"));
        assert_eq!(of("worker.memory"), Some("engine.memory"));
        assert_eq!(of("worker.lease"), Some("worker.lease_ms"));
        assert_eq!(of("serve.leasems"), Some("serve.lease_ms"));
        assert_eq!(of("servr"), Some("server"));
        assert_eq!(of("qqqq"), None);
    }
}
