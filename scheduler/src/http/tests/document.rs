//! The document against the router: what is served is described, and what is described is served.

use super::*;
use std::collections::BTreeSet;

/// Pages of the browser, which are no part of the API.
const PAGES: [&str; 3] = ["/", "/assets/{name}", "/logout"];
/// A method that no route has: the refusal says which it has.
const NOBODYS: Method = Method::PATCH;

/// A path's methods, which its refusal names. `HEAD` comes with `GET` by itself.
async fn methods(site: &Site, path: &str) -> Vec<String> {
    let filled: Vec<&str> = path
        .split('/')
        .map(|part| if part.starts_with('{') { "1" } else { part })
        .collect();
    let refused = site
        .request(NOBODYS, &filled.join("/"))
        .send()
        .await
        .unwrap();
    assert_eq!(refused.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
    let allowed = refused.headers()["allow"].to_str().unwrap().to_owned();
    let methods = allowed
        .split(',')
        .map(|method| method.trim().to_lowercase());
    methods.filter(|method| method != "head").collect()
}

#[tokio::test]
async fn document_and_router_have_the_same_routes() {
    let site = site().await;
    let document: Value = site.get("/openapi.json").await.json().await.unwrap();
    let mut described = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            if method != "head" {
                described.insert((path.clone(), method.clone()));
            }
        }
    }
    // The router tells nobody its paths; its source does.
    let source = include_str!("../mod.rs");
    let paths: BTreeSet<String> = source
        .split(".route(")
        .skip(1)
        .filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next())
        .map(|path| path.replace("{*", "{"))
        .filter(|path| !PAGES.contains(&path.as_str()))
        .collect();
    let mut served = BTreeSet::new();
    for path in &paths {
        for method in methods(&site, path).await {
            served.insert((path.clone(), method));
        }
    }
    assert!(served.len() > 40, "{served:?}");
    let untold: Vec<_> = served.difference(&described).collect();
    let absent: Vec<_> = described.difference(&served).collect();
    assert!(
        untold.is_empty() && absent.is_empty(),
        "not described: {untold:?}; not served: {absent:?}"
    );
}
