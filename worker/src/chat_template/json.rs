//! `tojson` as templates expect it: Python's `json.dumps` with `ensure_ascii=False`, which Hugging
//! Face's renderer puts in the place of Jinja's own HTML-safe filter.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

/// The deepest nesting that is written.
const MAX_DEPTH: usize = 128;
/// The most bytes one call may write.
const MAX_BYTES: usize = 1 << 26;
/// How many bytes cost one unit of fuel; writing JSON is slower than copying.
const BYTES_PER_FUEL: usize = 4;
/// The widest indentation.
const MAX_INDENT: usize = 32;

fn invalid(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, why.into())
}

/// The filter: `value | tojson(indent=None, separators=None, sort_keys=False, ensure_ascii=False)`.
pub(super) fn tojson(
    state: &State,
    value: &Value,
    indent: Option<usize>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let indent = match indent {
        Some(indent) => Some(indent),
        None => kwargs.get::<Option<usize>>("indent")?,
    };
    let ascii = kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let sort = kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    let separators = kwargs.get::<Option<Vec<String>>>("separators")?;
    kwargs.assert_all_used()?;
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(invalid("tojson takes two separators")),
        None => (
            if indent.is_some() { "," } else { ", " }.to_owned(),
            ": ".to_owned(),
        ),
    };
    if indent.is_some_and(|indent| indent > MAX_INDENT) {
        return Err(invalid(format!("tojson indents by at most {MAX_INDENT}")));
    }
    let mut writer = Writer {
        out: String::new(),
        item,
        key,
        indent,
        sort,
        ascii,
        state,
        charged: 0,
    };
    writer.value(value, 0)?;
    writer.charge()?;
    Ok(Value::from(writer.out))
}

struct Writer<'a, 'env> {
    out: String,
    item: String,
    key: String,
    indent: Option<usize>,
    sort: bool,
    ascii: bool,
    state: &'a State<'a, 'env>,
    /// Bytes already paid for.
    charged: usize,
}

impl Writer<'_, '_> {
    fn charge(&mut self) -> Result<(), Error> {
        if self.out.len() > MAX_BYTES {
            return Err(invalid(format!("tojson writes at most {MAX_BYTES} bytes")));
        }
        let fuel = (self.out.len() - self.charged) / BYTES_PER_FUEL;
        self.charged += fuel * BYTES_PER_FUEL;
        self.state.consume_fuel(fuel as u64)
    }

    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(invalid(format!("tojson writes at most {MAX_DEPTH} levels")));
        }
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self
                .out
                .push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.number(value),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => self.list(value, depth)?,
            ValueKind::Map => self.map(value, depth)?,
            kind => {
                return Err(invalid(format!(
                    "tojson cannot write a value of type {kind}"
                )));
            }
        }
        self.charge()
    }

    fn number(&mut self, value: &Value) {
        match f64::try_from(value.clone()) {
            Ok(float) if !value.is_integer() => match (float.is_nan(), float.is_infinite()) {
                (true, _) => self.out.push_str("NaN"),
                (_, true) => self
                    .out
                    .push_str(if float > 0.0 { "Infinity" } else { "-Infinity" }),
                _ => self.out.push_str(&value.to_string()),
            },
            _ => self.out.push_str(&value.to_string()),
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if (c as u32) < 0x20 => self.out.push_str(&format!("\\u{:04x}", c as u32)),
                // A mark stands for one of the user's characters and must survive.
                c if self.ascii && !c.is_ascii() && !super::mark::is_private_use(c) => {
                    let mut units = [0; 2];
                    for unit in c.encode_utf16(&mut units) {
                        self.out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }

    fn new_line(&mut self, depth: usize) {
        if let Some(indent) = self.indent {
            self.out.push('\n');
            self.out.push_str(&" ".repeat(indent * depth));
        }
    }

    fn list(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        self.out.push('[');
        let mut empty = true;
        for item in value.try_iter()? {
            if !empty {
                self.out.push_str(&self.item.clone());
            }
            empty = false;
            self.new_line(depth + 1);
            self.value(&item, depth + 1)?;
        }
        if !empty {
            self.new_line(depth);
        }
        self.out.push(']');
        Ok(())
    }

    fn map(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        self.out.push('{');
        let mut keys: Vec<Value> = value.try_iter()?.collect();
        if self.sort {
            keys.sort();
        }
        for (index, key) in keys.iter().enumerate() {
            if index > 0 {
                self.out.push_str(&self.item.clone());
            }
            self.new_line(depth + 1);
            match key.as_str() {
                Some(text) => self.string(text),
                None => self.string(&key.to_string()),
            }
            self.out.push_str(&self.key.clone());
            self.value(&value.get_item(key)?, depth + 1)?;
        }
        if !keys.is_empty() {
            self.new_line(depth);
        }
        self.out.push('}');
        Ok(())
    }
}
