//! Messages over real HTTP.

use super::*;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn webhooks(allow_private: bool) -> Webhooks {
    // An error means that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Webhooks::new(Secret::read(SECRET).unwrap(), allow_private)
}

fn message() -> Message<'static> {
    Message {
        id: "one",
        body: b"{}".to_vec(),
    }
}

async fn server(router: axum::Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

#[tokio::test]
async fn private_addresses_are_refused_before_a_connection_is_made() {
    let refusing = webhooks(false);
    for url in [
        "http://127.0.0.1:1/hook",
        "http://localhost:1/",
        "http://[::1]/",
        "http://0x7f.1/",
        "https://169.254.169.254/latest/meta-data",
        "http://[::ffff:192.168.0.1]/",
    ] {
        let refused = refusing.send(url, message()).await.unwrap_err();
        assert!(
            matches!(refused, NotHeard::Private { .. }),
            "{url}: {refused}"
        );
        assert!(refusing.check(url).await.is_err());
    }
    assert!(refusing.check("http://8.8.8.8/").await.is_ok());
    assert!(webhooks(true).check("http://127.0.0.1:1/").await.is_ok());
    for url in ["file:///etc/passwd", "nothing", "http://"] {
        assert!(
            matches!(refusing.check(url).await, Err(NotHeard::NoUrl)),
            "{url}"
        );
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    use axum::response::Redirect;
    use axum::routing::post;
    let router = axum::Router::new()
        .route("/", post(|| async { Redirect::temporary("/there") }))
        .route("/there", post(|| async { "heard" }));
    let base = server(router).await;
    let refused = webhooks(true).send(&base, message()).await.unwrap_err();
    assert!(matches!(
        refused,
        NotHeard::Answer(StatusCode::TEMPORARY_REDIRECT)
    ));
    webhooks(true)
        .send(&format!("{base}/there"), message())
        .await
        .unwrap();
}

#[tokio::test]
async fn nobody_there_is_no_answer() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let refused = webhooks(true).send(&url, message()).await.unwrap_err();
    assert!(matches!(refused, NotHeard::Broken(_)));
    assert!(!refused.is_final());
}
