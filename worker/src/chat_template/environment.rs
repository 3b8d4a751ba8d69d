//! The Jinja environment in which chat templates run: Hugging Face's functions and filters, and
//! limits on everything, because a template comes with a model file from anywhere.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, Output, State, Value};

use super::date::Date;
use super::error::TemplateError;
use super::json::tojson;

/// The longest template source. The longest published ones have about 30 KiB.
pub(super) const MAX_SOURCE_BYTES: usize = 1 << 16;
/// The most `~` in a source: the engine compiles a chain of them in quadratic time. Published
/// templates have some hundreds.
pub(super) const MAX_TILDES: usize = 1500;
/// The deepest nesting of blocks, macros and loops at run time.
const MAX_RECURSION: usize = 200;
/// The longest string that a string method may make.
const MAX_STRING_BYTES: usize = 1 << 27;
/// The largest number in a format string of `str.format`, which is a width or a precision.
const MAX_FORMAT_NUMBER: usize = 1000;
/// The stack of the threads that compile and run templates. Compiling recurses once for each
/// operator of a chain, and dropping once for each level of a nested list, both bounded by the
/// limits on source and fuel; the pages are only used where that happens.
const STACK_BYTES: usize = 1 << 29;

/// The name of the variable that holds the parsed `template_date`.
pub(super) const DATE_VARIABLE: &str = "__rbee_date";
/// The name of the template in its environment.
pub(super) const TEMPLATE: &str = "chat_template";

/// The error of `raise_exception`: the template's own words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refusal(String);

/// Runs `work` on a thread with room for deep recursion. A panic becomes an error.
pub(super) fn on_deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, TemplateError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("chat-template".into())
            .stack_size(STACK_BYTES);
        let thread = thread
            .spawn_scoped(scope, work)
            .map_err(|error| TemplateError::TooMuch {
                why: format!("no thread for it can be started: {error}"),
            })?;
        thread.join().map_err(|_| TemplateError::Failed {
            why: "the template engine panicked".into(),
        })
    })
}

/// Compiles a template into an environment of its own. Call it [`on_deep_stack`].
pub(super) fn compile(source: &str) -> Result<Environment<'static>, TemplateError> {
    let invalid = |why: String| TemplateError::Invalid { why };
    if source.len() > MAX_SOURCE_BYTES {
        return Err(invalid(format!(
            "it is {} bytes long; {MAX_SOURCE_BYTES} are possible",
            source.len()
        )));
    }
    if source.matches('~').count() > MAX_TILDES {
        return Err(invalid(format!(
            "it concatenates more than {MAX_TILDES} times"
        )));
    }
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build();
    environment.set_syntax(syntax.map_err(|error| invalid(error.to_string()))?);
    environment.set_recursion_limit(MAX_RECURSION);
    environment.set_formatter(python_formatter);
    environment.set_unknown_method_callback(bounded_method);
    environment.add_filter("tojson", tojson);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    let source = without_generation_tags(source);
    environment
        .add_template_owned(TEMPLATE, source)
        .map_err(|error| invalid(describe(&error)))?;
    Ok(environment)
}

/// `{% generation %}` only marks the assistant's words for training; minijinja does not know it.
fn without_generation_tags(source: &str) -> String {
    let mut source = source.to_owned();
    for name in ["generation", "endgeneration"] {
        for (open, close) in [("{%-", "-%}"), ("{%-", "%}"), ("{%", "-%}"), ("{%", "%}")] {
            // An empty comment strips the same white space.
            let comment = format!("{{#{} {}#}}", &open[2..], &close[..close.len() - 2]);
            source = source.replace(&format!("{open} {name} {close}"), &comment);
        }
    }
    source
}

/// What an error of the engine says, with the line.
fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    // The cause is often the only part that names the value at fault.
    if let Some(cause) = std::error::Error::source(error) {
        text.push_str(&format!(": {cause}"));
    }
    text
}

/// Sorts an error of rendering.
pub(super) fn render_error(error: &Error) -> TemplateError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(Refusal(message)) = current.downcast_ref::<Refusal>() {
            return TemplateError::Refused {
                message: message.clone(),
            };
        }
        if current
            .downcast_ref::<Error>()
            .is_some_and(|error| error.kind() == ErrorKind::OutOfFuel)
        {
            return TemplateError::TooMuch {
                why: "it exceeds the limit on steps and memory".into(),
            };
        }
        cause = current.source();
    }
    TemplateError::Failed {
        why: describe(error),
    }
}

fn raise_exception(message: &Value) -> Result<Value, Error> {
    let refusal = Refusal(message.to_string());
    Err(Error::new(ErrorKind::InvalidOperation, "raise_exception").with_source(refusal))
}

fn strftime_now(state: &State, format: &str) -> Result<String, Error> {
    let date = state
        .lookup(DATE_VARIABLE)
        .and_then(|date| date.as_str().and_then(Date::parse));
    let date = date.ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidOperation,
            "there is no date for strftime_now",
        )
    })?;
    Ok(date.format(format))
}

/// Writes values as Python's `str` does where the engine writes them otherwise.
fn python_formatter(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    let word = match value.kind() {
        ValueKind::Bool if value.is_true() => "True",
        ValueKind::Bool => "False",
        ValueKind::None => "None",
        _ => return minijinja::escape_formatter(out, state, value),
    };
    out.write_str(word).map_err(Error::from)
}

/// Python's methods of strings, lists and maps, with the size of the result checked before it is
/// made: the engine only counts it afterwards.
fn bounded_method(
    state: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let size = match (method, value.as_str()) {
        ("replace", Some(text)) => replaced_size(text, args),
        ("join", Some(text)) => joined_size(text, args)?,
        ("format", Some(text)) => formatted_size(text, args)?,
        (_, Some(text)) => text.len(),
        (_, None) => 0,
    };
    if size > MAX_STRING_BYTES {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("`{method}` would make a string of {size} bytes"),
        ));
    }
    state.consume_fuel((size / 64) as u64)?;
    minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
}

fn text_size(value: &Value) -> usize {
    // Containers are written out; a list of lists may be far larger than it looks, so refuse those.
    match value.kind() {
        ValueKind::String => value.as_str().map_or(0, str::len),
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => MAX_STRING_BYTES,
        _ => 64,
    }
}

fn replaced_size(text: &str, args: &[Value]) -> usize {
    let [old, new, ..] = args else {
        return text.len();
    };
    let (Some(old), Some(new)) = (old.as_str(), new.as_str()) else {
        return text.len();
    };
    text.matches(old)
        .count()
        .saturating_mul(new.len())
        .saturating_add(text.len())
}

fn joined_size(separator: &str, args: &[Value]) -> Result<usize, Error> {
    let Some(items) = args.first() else {
        return Ok(0);
    };
    let mut size = 0usize;
    for item in items.try_iter()? {
        size = size
            .saturating_add(separator.len())
            .saturating_add(text_size(&item));
        if size > MAX_STRING_BYTES {
            break;
        }
    }
    Ok(size)
}

fn formatted_size(format: &str, args: &[Value]) -> Result<usize, Error> {
    let numbers = format
        .split(|c: char| !c.is_ascii_digit())
        .filter(|digits| !digits.is_empty());
    let too_large = |digits: &str| {
        digits
            .parse::<usize>()
            .map_or(true, |number| number > MAX_FORMAT_NUMBER)
    };
    if let Some(digits) = numbers.into_iter().find(|digits| too_large(digits)) {
        let why = format!("the number {digits} in a format string exceeds {MAX_FORMAT_NUMBER}");
        return Err(Error::new(ErrorKind::InvalidOperation, why));
    }
    let fields = format.matches('{').count();
    let longest = args
        .iter()
        .map(text_size)
        .max()
        .unwrap_or(0)
        .saturating_add(MAX_FORMAT_NUMBER);
    Ok(fields.saturating_mul(longest).saturating_add(format.len()))
}
