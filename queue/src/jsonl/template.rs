//! `--template`: a prompt made of a line's fields.
//!
//! Owns the tiny language: text with `{{field}}` in it, nothing else.

use serde_json::{Map, Value};

/// A template that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Template<'a> {
    parts: Vec<Part<'a>>,
}

#[derive(Clone, Debug, PartialEq)]
enum Part<'a> {
    Text(&'a str),
    Field(&'a str),
}

/// Why a template is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// `{{` without `}}`.
    #[error("the template has a {{{{ without }}}} after it, at byte {at}")]
    Open {
        /// Where the braces stand.
        at: usize,
    },
    /// `{{}}`.
    #[error("the template has an empty {{{{}}}} at byte {at}: name a field of the lines")]
    Empty {
        /// Where the braces stand.
        at: usize,
    },
}

impl<'a> Template<'a> {
    /// Reads a template.
    pub fn parse(source: &'a str) -> Result<Template<'a>, TemplateError> {
        let mut parts = Vec::new();
        let mut at = 0;
        while let Some(open) = source[at..].find("{{") {
            let open = at + open;
            let close = source[open..]
                .find("}}")
                .ok_or(TemplateError::Open { at: open })?
                + open;
            let field = source[open + 2..close].trim();
            if field.is_empty() {
                return Err(TemplateError::Empty { at: open });
            }
            parts.push(Part::Text(&source[at..open]));
            parts.push(Part::Field(field));
            at = close + 2;
        }
        parts.push(Part::Text(&source[at..]));
        Ok(Template { parts })
    }

    /// True if the template has a `{{field}}` of this name.
    pub fn uses(&self, field: &str) -> bool {
        self.parts.contains(&Part::Field(field))
    }

    /// The text with every field filled in: strings as they are, all else as JSON. The first
    /// source that has a field gives it. `Err` holds the name of a field that none has.
    pub fn fill(&self, sources: &[&Map<String, Value>]) -> Result<String, &'a str> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Field(field) => {
                    let value = sources.iter().find_map(|fields| fields.get(*field));
                    match value.ok_or(*field)? {
                        Value::String(value) => text.push_str(value),
                        other => text.push_str(&other.to_string()),
                    }
                }
            }
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_are_filled_in_and_never_read_again() {
        let template = Template::parse("Q: {{ q }} ({{n}})").unwrap();
        let fields = json!({"q": "what is {{n}}?", "n": 3});
        let filled = template.fill(&[fields.as_object().unwrap()]);
        assert_eq!(filled.unwrap(), "Q: what is {{n}}? (3)");
    }

    #[test]
    fn missing_field_is_named() {
        let template = Template::parse("{{a}}{{b}}").unwrap();
        let fields = json!({"a": 1});
        assert_eq!(template.fill(&[fields.as_object().unwrap()]), Err("b"));
    }
}
