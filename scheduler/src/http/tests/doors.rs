//! Roles, owners, quotas, and browsers that show a token once.

use super::super::types::{NewTokenSpec, TokenMade, TokenView};
use super::*;
use rbee_queue::token::Role;
use reqwest::header::{ACCEPT, COOKIE, LOCATION, ORIGIN, SET_COOKIE};

fn wanted(name: &str, role: Role) -> NewTokenSpec {
    NewTokenSpec {
        name: name.into(),
        role,
        owner: None,
        max_queued: None,
        requests_per_s: None,
        expires_in_s: None,
    }
}

impl Site {
    async fn make(&self, spec: &NewTokenSpec) -> Response {
        let request = self.request(Method::POST, "/v1/tokens").json(spec);
        request.send().await.unwrap()
    }

    /// A token's text.
    async fn token(&self, spec: NewTokenSpec) -> String {
        let made = self.make(&spec).await;
        assert_eq!(made.status(), StatusCode::CREATED, "{spec:?}");
        let made: TokenMade = made.json().await.unwrap();
        assert_eq!((&made.view.name, made.view.role), (&spec.name, spec.role));
        made.token
    }

    async fn by(&self, token: &str, method: Method, path: &str) -> StatusCode {
        let url = format!("http://{}{path}", self.address);
        let request = self.http.request(method, url).bearer_auth(token);
        request.send().await.unwrap().status()
    }

    async fn submit_by(&self, token: &str, input: String) -> Response {
        let spec = SubmitSpec {
            new: true,
            ..spec()
        };
        let form = Form::new()
            .part(PART_SPEC, Part::text(serde_json::to_string(&spec).unwrap()))
            .part(PART_INPUT, Part::text(input));
        let url = format!("http://{}/v1/batches", self.address);
        let request = self.http.post(url).bearer_auth(token).multipart(form);
        request.send().await.unwrap()
    }

    async fn listed(&self, token: &str) -> Vec<String> {
        let url = format!("http://{}/v1/batches", self.address);
        let listed = self.http.get(url).bearer_auth(token).send().await.unwrap();
        let listed: Value = listed.json().await.unwrap();
        let ids = listed["data"].as_array().unwrap().iter();
        ids.map(|batch| batch["id"].as_str().unwrap().to_owned())
            .collect()
    }
}

#[tokio::test]
async fn batches_of_one_owner_are_not_there_for_another() {
    let site = site().await;
    let ann = site.token(wanted("ann", Role::Submit)).await;
    let bob = site.token(wanted("bob", Role::Submit)).await;
    let reader = site.token(wanted("grafana", Role::Read)).await;
    let admin = site.token(wanted("ops", Role::Admin)).await;
    let of_ann = NewTokenSpec {
        owner: Some("ann".into()),
        ..wanted("anns-phone", Role::Read)
    };
    let phone = site.token(of_ann).await;
    let made = site.submit_by(&ann, prompts(2)).await;
    assert_eq!(made.status(), StatusCode::CREATED);
    let id = made.json::<Submitted>().await.unwrap().batch.id.to_string();
    let own = site.submitted(prompts(3)).await.id.to_string();
    for (token, sees) in [
        (&ann, vec![&id]),
        (&phone, vec![&id]),
        (&bob, vec![]),
        (&reader, vec![&own, &id]),
        (&admin, vec![&own, &id]),
    ] {
        assert_eq!(site.listed(token).await.iter().collect::<Vec<_>>(), sees);
    }
    let reads = [
        "",
        "/results",
        "/events",
        "/jobs?at=0",
        "/jobs/0",
        "/jobs/0/events",
    ];
    for path in reads.map(|rest| format!("/v1/batches/{id}{rest}")) {
        let bobs = site.by(&bob, Method::GET, &path).await;
        assert_eq!(bobs, StatusCode::NOT_FOUND, "{path}");
        for token in [&ann, &phone, &reader, &admin] {
            let status = site.by(token, Method::GET, &path).await;
            assert_eq!(status, StatusCode::OK, "{path}");
        }
    }
    for verb in ["/pause", "/resume", "/cancel", "/retry"] {
        let path = format!("/v1/batches/{id}{verb}");
        let by = async |token: &str| site.by(token, Method::POST, &path).await;
        assert_eq!(by(&bob).await, StatusCode::NOT_FOUND, "{verb}");
        assert_eq!(by(&phone).await, StatusCode::FORBIDDEN, "{verb}");
        assert_eq!(by(&reader).await, StatusCode::FORBIDDEN, "{verb}");
        assert_eq!(by(&ann).await, StatusCode::OK, "{verb}");
    }
    let path = format!("/v1/batches/{id}");
    let bobs = site.by(&bob, Method::DELETE, &path).await;
    assert_eq!(bobs, StatusCode::NOT_FOUND);
    assert_eq!(
        site.by(&bob, Method::GET, "/v1/batches/last").await,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        site.by(&ann, Method::GET, "/v1/batches/last").await,
        StatusCode::OK
    );
}

#[tokio::test]
async fn what_belongs_to_nobody_is_for_admins() {
    let site = site().await;
    let ann = site.token(wanted("ann", Role::Submit)).await;
    let reader = site.token(wanted("grafana", Role::Read)).await;
    for (method, path) in [
        (Method::GET, "/v1/logs"),
        (Method::GET, "/v1/tokens"),
        (Method::POST, "/v1/tokens/links"),
        (Method::DELETE, "/v1/tokens/ann"),
        (Method::POST, "/v1/nodes/x/drain"),
        (Method::GET, "/v1/nodes/x/logs"),
        (Method::POST, "/v1/schedules/x/run"),
        (Method::DELETE, "/v1/schedules/x"),
    ] {
        for token in [&ann, &reader] {
            let status = site.by(token, method.clone(), path).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path}");
        }
    }
    assert_eq!(
        site.by(&ann, Method::GET, "/v1/schedules").await,
        StatusCode::FORBIDDEN
    );
    for path in ["/v1/schedules", "/v1/nodes", "/ready"] {
        assert_eq!(
            site.by(&reader, Method::GET, path).await,
            StatusCode::OK,
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_node_fetches_model_files_and_sees_itself_and_no_more() {
    let site = site().await;
    let node = site.token(wanted("node-desk", Role::Node)).await;
    let own = site
        .http
        .get(format!("http://{}/v1/tokens/self", site.address));
    let own: TokenView = (own.bearer_auth(&node).send().await.unwrap())
        .json()
        .await
        .unwrap();
    assert_eq!((own.name.as_str(), own.role), ("node-desk", Role::Node));
    let blob = format!("/v1/models/blobs/{}", "0".repeat(64));
    for method in [Method::GET, Method::HEAD] {
        let status = site.by(&node, method, &blob).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "it is let through");
    }
    for (method, path) in [
        (Method::PUT, &*blob),
        (Method::GET, "/v1/batches"),
        (Method::POST, "/v1/batches"),
        (Method::GET, "/v1/nodes"),
        (Method::POST, "/v1/nodes/desk/drain"),
        (Method::GET, "/v1/files"),
        (Method::GET, "/v1/schedules"),
        (Method::GET, "/v1/tokens"),
        (Method::POST, "/v1/tokens"),
        (Method::DELETE, "/v1/tokens/node-desk"),
        (Method::GET, "/v1/models/blobs/x/y"),
        (Method::GET, "/v1/models"),
        (Method::POST, "/v1/chat/completions"),
        (Method::GET, "/metrics"),
        (Method::GET, "/"),
    ] {
        let status = site.by(&node, method.clone(), path).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path}");
    }
    for wrong in [
        wanted("self", Role::Node),
        wanted("links", Role::Submit),
        NewTokenSpec {
            owner: Some("ann".into()),
            ..wanted("n", Role::Node)
        },
    ] {
        assert_eq!(site.make(&wrong).await.status(), StatusCode::BAD_REQUEST);
    }
    // The server's own is none of the store.
    let root = site.request(Method::GET, "/v1/tokens/self").send().await;
    assert_eq!(root.unwrap().status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn revoked_and_expired_tokens_open_nothing() {
    let site = site().await;
    let ann = site.token(wanted("ann", Role::Submit)).await;
    let short = NewTokenSpec {
        expires_in_s: Some(0),
        ..wanted("over", Role::Submit)
    };
    let over = site.token(short).await;
    let look = async |token: &str| site.by(token, Method::GET, "/v1/batches").await;
    assert_eq!(look(&ann).await, StatusCode::OK);
    assert_eq!(look(&over).await, StatusCode::UNAUTHORIZED);
    let listed: Listing = site.get("/v1/tokens").await.json().await.unwrap();
    assert_eq!(listed.data.len(), 1);
    assert_eq!(listed.data[0].name, "ann");
    let taken = error(site.make(&wanted("ann", Role::Read)).await).await;
    assert_eq!((taken.0.as_u16(), taken.1.as_str()), (409, "name_taken"));
    let gone = site.request(Method::DELETE, "/v1/tokens/ann").send().await;
    assert_eq!(gone.unwrap().status(), StatusCode::OK);
    assert_eq!(look(&ann).await, StatusCode::UNAUTHORIZED);
    let twice = site.request(Method::DELETE, "/v1/tokens/ann").send().await;
    assert_eq!(twice.unwrap().status(), StatusCode::NOT_FOUND);
}

type Listing = super::types::Listing<TokenView>;

#[tokio::test]
async fn tokens_that_mean_nothing_are_refused() {
    let site = site().await;
    let owned = |role, owner: &str| NewTokenSpec {
        owner: Some(owner.into()),
        ..wanted("x", role)
    };
    for wrong in [
        wanted("", Role::Submit),
        wanted("../x", Role::Submit),
        wanted(&"x".repeat(65), Role::Submit),
        wanted("run", Role::Submit),
        owned(Role::Submit, "*"),
        owned(Role::Submit, "interactive"),
        owned(Role::Read, "a b"),
        owned(Role::Admin, "ann"),
    ] {
        let refused = error(site.make(&wrong).await).await;
        assert_eq!(refused.1, "invalid_token_spec", "{wrong:?}");
    }
}

#[tokio::test]
async fn quotas_bound_jobs_and_requests() {
    let site = site().await;
    let jobs = NewTokenSpec {
        max_queued: Some(5),
        ..wanted("ann", Role::Submit)
    };
    let ann = site.token(jobs).await;
    let never = error(site.submit_by(&ann, prompts(6)).await).await;
    assert_eq!(
        (never.0.as_u16(), never.1.as_str()),
        (400, "quota_exceeded")
    );
    let made = site.submit_by(&ann, prompts(4)).await;
    let batch = made.json::<Submitted>().await.unwrap().batch;
    let full = site.submit_by(&ann, prompts(2)).await;
    assert!(full.headers().contains_key("retry-after"));
    assert_eq!(error(full).await.0, StatusCode::TOO_MANY_REQUESTS);
    site.answer(&batch, [0]).await;
    let room = site.submit_by(&ann, prompts(2)).await;
    assert_eq!(room.status(), StatusCode::CREATED);
    let requests = NewTokenSpec {
        requests_per_s: Some(2),
        ..wanted("bob", Role::Submit)
    };
    let bob = site.token(requests).await;
    let mut statuses = Vec::new();
    for _ in 0..20 {
        statuses.push(site.by(&bob, Method::GET, "/v1/batches").await);
    }
    assert_eq!(statuses[..2], [StatusCode::OK, StatusCode::OK]);
    assert!(statuses.contains(&StatusCode::TOO_MANY_REQUESTS));
}

#[tokio::test]
async fn a_browser_shows_a_token_once() {
    let site = site().await;
    let url = |path: &str| format!("http://{}{path}", site.address);
    let browser = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    let asked = browser.get(url("/")).header(ACCEPT, "text/html,*/*");
    let asked = asked.send().await.unwrap();
    assert_eq!(asked.status(), StatusCode::UNAUTHORIZED);
    assert!(asked.text().await.unwrap().contains("action=\"/login\""));
    let enter = async |token: &str| {
        let form = browser.post(url("/login")).body(format!("token={token}"));
        let form = form.header("content-type", "application/x-www-form-urlencoded");
        form.header(ORIGIN, url("")).send().await.unwrap()
    };
    let wrong = enter("guess").await;
    assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
    assert!(!wrong.headers().contains_key(SET_COOKIE));
    let made: Value = (site.post("/v1/tokens/links").await).json().await.unwrap();
    let path = made["path"].as_str().unwrap();
    let by_link = browser.get(url(path)).send().await.unwrap();
    let again = browser.get(url(path)).send().await.unwrap();
    assert_eq!(again.status(), StatusCode::UNAUTHORIZED);
    for entered in [by_link, enter(TOKEN).await] {
        assert_eq!(entered.status(), StatusCode::SEE_OTHER);
        assert_eq!(entered.headers()[LOCATION], "/");
        let set = entered.headers()[SET_COOKIE].to_str().unwrap().to_owned();
        assert!(
            set.contains("HttpOnly") && set.contains("SameSite=Strict"),
            "{set}"
        );
        let cookie = set.split(';').next().unwrap();
        let request =
            |method, path: &str| browser.request(method, url(path)).header(COOKIE, cookie);
        let status =
            async |request: reqwest::RequestBuilder| request.send().await.unwrap().status();
        assert_eq!(
            status(request(Method::GET, "/v1/tokens")).await,
            StatusCode::OK
        );
        let link = || request(Method::POST, "/v1/tokens/links");
        assert_eq!(status(link()).await, StatusCode::FORBIDDEN);
        let elsewhere = link().header(ORIGIN, "http://evil.example");
        assert_eq!(status(elsewhere).await, StatusCode::FORBIDDEN);
        assert_eq!(status(link().header(ORIGIN, url(""))).await, StatusCode::OK);
        let left = request(Method::POST, "/logout").header(ORIGIN, url(""));
        assert_eq!(status(left).await, StatusCode::SEE_OTHER);
        assert_eq!(
            status(request(Method::GET, "/v1/tokens")).await,
            StatusCode::UNAUTHORIZED
        );
    }
}
