//! The dashboard: a page and what it loads, all of it in this program.
//!
//! Owns which files there are and what they may do: nothing from elsewhere is loaded, and nothing in them is made when
//! rbee is built. What it shows comes from the same routes that every client has.

use super::error::ApiError;
use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse, Response};

/// Only this server's own scripts, styles and answers.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

const INDEX: &str = include_str!("assets/index.html");

macro_rules! assets {
    ($($name:literal: $kind:ident,)*) => {
        [$(($name, $kind, include_str!(concat!("assets/", $name))),)*]
    };
}

/// Each file with its content type.
const ASSETS: [(&str, &str, &str); 10] = assets![
    "rbee.svg": SVG,
    "style.css": CSS,
    "app.js": SCRIPT,
    "api.js": SCRIPT,
    "page.js": SCRIPT,
    "batches.js": SCRIPT,
    "batch.js": SCRIPT,
    "nodes.js": SCRIPT,
    "schedules.js": SCRIPT,
    "activity.js": SCRIPT,
];

/// `GET /`.
pub async fn index() -> Response {
    file(HTML, INDEX)
}

/// `GET /assets/{name}`.
pub async fn asset(Path(name): Path<String>) -> Result<Response, ApiError> {
    let found = ASSETS.iter().find(|(known, _, _)| *known == name);
    let (_, kind, text) = found.ok_or_else(|| ApiError::not_found("there is no such file"))?;
    Ok(file(kind, text))
}

fn file(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        // A newer rbee has newer files.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_that_a_page_names_is_there_and_none_is_elsewhere() {
        let names: Vec<&str> = ASSETS.iter().map(|(name, _, _)| *name).collect();
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/dashboard/assets");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "index.html")
            .collect();
        files.sort();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        assert_eq!(files, sorted);
        for text in ASSETS.iter().map(|(_, _, text)| *text).chain([INDEX]) {
            for (before, _) in text.match_indices("://") {
                let from = text[..before].rfind(['"', '\'', ' ']).unwrap_or(0);
                let url = &text[from..];
                assert!(url[1..].starts_with("http://www.w3.org/"), "{}", &url[..40]);
            }
            for import in text.split("from \"./").skip(1) {
                let name = import.split('"').next().unwrap();
                assert!(names.contains(&name), "{name}");
            }
        }
    }
}
