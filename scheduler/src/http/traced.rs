//! Tells whoever collects traces of each request: its route, not its path, and its status.

use axum::extract::{MatchedPath, Request};
use axum::http::HeaderName;
use axum::middleware::Next;
use axum::response::Response;
use rbee_queue::trace::{self, Span};

/// The header under which a request's id travels.
pub const CORRELATION: HeaderName = HeaderName::from_static("x-correlation-id");
/// Routes that are asked again and again, and tell nothing.
const PASSED_OVER: [&str; 3] = ["/health", "/ready", "/metrics"];

/// What is told of a request.
struct About {
    began_us: i64,
    method: String,
    route: String,
    id: String,
}

/// Tells of each answer when it begins.
pub async fn note(request: Request, next: Next) -> Response {
    let about = trace::is_on().then(|| About::of(&request)).flatten();
    let response = next.run(request).await;
    if let Some(about) = about {
        trace::tell(|| about.span(&response));
    }
    response
}

impl About {
    fn of(request: &Request) -> Option<About> {
        let route = request.extensions().get::<MatchedPath>()?.as_str();
        let id = request.headers().get(CORRELATION);
        (!PASSED_OVER.contains(&route)).then(|| About {
            began_us: trace::now_us(),
            method: request.method().to_string(),
            route: route.to_owned(),
            id: id
                .and_then(|id| id.to_str().ok())
                .unwrap_or_default()
                .to_owned(),
        })
    }

    fn span(self, response: &Response) -> Span {
        let status = response.status();
        let name = format!("{} {}", self.method, self.route);
        let mut span = Span::of_request(name, &self.id, self.began_us)
            .with("http.request.method", self.method)
            .with("http.route", self.route)
            .with("http.response.status_code", u64::from(status.as_u16()));
        if status.is_server_error() {
            span.error = Some(status.as_u16().to_string());
        }
        span
    }
}
