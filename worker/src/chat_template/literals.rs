//! The string literals of a template: what it may compare a user's text with.

/// Calls `visit` with every quoted string inside the template's tags. Escapes are kept as written.
pub(super) fn for_each_literal(source: &str, mut visit: impl FnMut(&str)) {
    let mut rest = source;
    while let Some(open) = rest.find("{{").into_iter().chain(rest.find("{%")).min() {
        rest = &rest[open + 2..];
        rest = literals_of_tag(rest, &mut visit);
    }
}

/// Visits the strings up to the end of a tag; returns what follows it.
fn literals_of_tag<'a>(tag: &'a str, visit: &mut impl FnMut(&str)) -> &'a str {
    let bytes = tag.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            quote @ (b'"' | b'\'') => {
                let start = at + 1;
                at = start;
                while at < bytes.len() && bytes[at] != quote {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                if let Some(text) = tag.get(start..at) {
                    visit(text);
                }
                at += 1;
            }
            b'%' | b'}' if bytes.get(at + 1) == Some(&b'}') => {
                return tag.get(at + 2..).unwrap_or_default();
            }
            _ => at += 1,
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_in_tags_are_found_and_text_is_not() {
        let mut found = Vec::new();
        let source =
            "it's {{ 'a' ~ \"b'%}\" }} don't {%- if x == 'c\\'d' -%} 'e' {% endif %} {{ 'open";
        for_each_literal(source, |text| found.push(text.to_owned()));
        assert_eq!(found, ["a", "b'%}", "c\\'d", "open"]);
    }
}
