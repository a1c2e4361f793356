//! What holds for every request.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, header};
use serde_json::json;
use slipway_model::id::RunName;
use slipway_store::runs::RunUpsert;

use super::{TestServer, basic};
use crate::options::{RateLimit, ServerOptions};

#[tokio::test]
async fn malformed_graphql_is_the_callers_fault_and_says_why() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    let post = |body: String| {
        Request::post("/graphql")
            .header(header::AUTHORIZATION, basic(&key))
            .body(Body::from(body))
            .expect("a request")
    };
    let deep = format!("{{ viewer {}", "{ teams ".repeat(30_000));
    let fragments: String = (0..40)
        .map(|level| format!("fragment f{level} on User {{ ...f{0} ...f{0} }} ", level + 1))
        .collect();
    let wide = format!("{{ viewer {{ ...f0 }} }} {fragments} fragment f40 on User {{ id }}");
    let cases = [
        (String::new(), "not GraphQL JSON"),
        ("{".to_owned(), "not GraphQL JSON"),
        ("[{\"query\": \"{viewer{id}}\"}]".to_owned(), "batches"),
        (json!({}).to_string(), "no `query`"),
        (json!({"query": "{"}).to_string(), ""),
        (json!({"query": deep}).to_string(), "64 deep"),
        (json!({"query": wide}).to_string(), "fragments expanded"),
        (
            json!({"query": "{ viewer { nope } }"}).to_string(),
            "Cannot query field \"nope\" on type \"User\".",
        ),
        (
            json!({"query": "query($a: String!) { entity(name: $a) { id } }"}).to_string(),
            "Variable \"$a\" of required type \"String!\" was not provided.",
        ),
        (
            json!({"query": "{ viewer { id } }", "variables": []}).to_string(),
            "`variables` must be",
        ),
    ];
    for (body, message) in cases {
        let answer = server.send(post(body.clone())).await;
        let (status, code, text) = answer.error();
        let short: String = body.chars().take(80).collect();
        assert_eq!((status, code.as_str()), (400, "BAD_USER_INPUT"), "{short}: {text}");
        assert!(text.contains(message), "{short}: {text}");
    }
    let unknown_variable = json!({"query": "{ viewer { username } }", "variables": {"undeclared": 1}});
    let answer = server.send(post(unknown_variable.to_string())).await;
    assert_eq!(answer.data()["viewer"]["username"], "alice");
}

#[tokio::test]
async fn a_body_above_the_limit_is_413_with_the_limit() {
    let server = TestServer::with(ServerOptions {
        max_body: 1_000,
        ..ServerOptions::default()
    })
    .await;
    let key = server.user("alice").await;
    let query = format!("{{ viewer {{ id }} }} # {}", "x".repeat(2_000));
    let (status, code, message) = server.graphql(&key, &query, json!({})).await.error();
    assert_eq!((status, code.as_str()), (413, "TOO_LARGE"));
    assert!(message.contains("1000"), "{message}");
}

#[tokio::test]
async fn credentials_are_needed_and_their_absence_is_401() {
    let server = TestServer::new().await;
    let request = Request::post("/graphql")
        .body(Body::from(json!({"query": "{ viewer { id } }"}).to_string()))
        .expect("a request");
    assert_eq!(server.send(request).await.error().0, 401);
    let (status, code, message) = server
        .graphql("not-a-key", "{ viewer { id } }", json!({}))
        .await
        .error();
    assert_eq!((status, code.as_str()), (401, "UNAUTHENTICATED"));
    assert!(!message.contains("not-a-key"));
}

#[tokio::test]
async fn unknown_paths_are_404_and_health_answers() {
    let server = TestServer::new().await;
    let get = |path: &str| Request::get(path).body(Body::empty()).expect("a request");
    for (path, status) in [
        ("/healthz", 200),
        ("/readyz", 200),
        ("/ready", 200),
        ("/metrics", 200),
        ("/sdk/otel/v1/metrics", 404),
        ("/slipway/v1/nothing", 404),
        ("/graphql", 405),
    ] {
        let answer = server.send(get(path)).await;
        assert_eq!(answer.status.as_u16(), status, "{path}");
        assert!(answer.headers.contains_key("x-request-id"), "{path}");
    }
}

#[tokio::test]
async fn an_official_server_has_no_routes_of_ours_but_the_streams_of_its_pages() {
    let server = TestServer::with(ServerOptions {
        compat_official: true,
        ..ServerOptions::default()
    })
    .await;
    let key = server.user("alice").await;
    let events = "/slipway/v1/events?entity=alice";
    let output = "/slipway/v1/items/any/output?attempt=1&offset=0";
    for (method, path, credential, status) in [
        (Method::GET, events, (header::AUTHORIZATION, basic(&key)), 404),
        (Method::GET, output, (header::AUTHORIZATION, basic(&key)), 404),
        (Method::POST, output, (header::COOKIE, "session=none".to_owned()), 404),
        (
            Method::GET,
            "/slipway/v1/agents/any/events",
            (header::COOKIE, "session=none".to_owned()),
            404,
        ),
        (
            Method::GET,
            "/slipway/v1/runs/a/b/c/log",
            (header::ACCEPT, "*/*".to_owned()),
            404,
        ),
        // A page's own stream gets as far as its session.
        (Method::GET, events, (header::COOKIE, "session=none".to_owned()), 401),
    ] {
        let request = Request::builder().method(&method).uri(path);
        let request = request.header(credential.0, credential.1).body(Body::empty());
        let answer = server.send(request.expect("a request")).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {path}");
    }
}

#[tokio::test]
async fn a_key_that_asks_too_often_is_told_when_to_come_back() {
    let server = TestServer::with(ServerOptions {
        rate_limit: Some(RateLimit {
            per_second: 1.0,
            burst: 1.0,
        }),
        ..ServerOptions::default()
    })
    .await;
    let key = server.user("alice").await;
    server.official(&key, "Viewer", json!({})).await.data();
    let refused = server.official(&key, "Viewer", json!({})).await;
    assert_eq!(refused.status.as_u16(), 429);
    assert!(refused.headers.contains_key(header::RETRY_AFTER));
    server.pass(1_000);
    server.official(&key, "Viewer", json!({})).await.data();
}

#[tokio::test]
async fn output_is_appended_once_and_read_back() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    server.queue(&key, "alice", "q").await;
    let spec = json!({"docker": {"docker_image": "a"}});
    let id = super::items::push(&server, &key, "q", &spec).await;
    let popped = super::items::pop(&server, &key, "q").await;
    let handle = popped["runQueueItemId"].as_str().expect("a handle").to_owned();
    let append = |handle: &str, offset: i64, text: &'static [u8]| {
        Request::post(format!("/slipway/v1/items/{handle}/output?attempt=1&offset={offset}"))
            .header(header::AUTHORIZATION, basic(&key))
            .body(Body::from(text))
            .expect("a request")
    };
    for (offset, text, status, end) in [
        (0, &b"one\n"[..], 200, 4),
        (0, &b"one\n"[..], 200, 4),
        (4, &b"two\n"[..], 200, 8),
        (9, &b"late"[..], 409, 8),
    ] {
        let answer = server.send(append(&handle, offset, text)).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["end"]), (status, &json!(end)));
    }
    assert_eq!(server.send(append(&id, 8, b"x")).await.status.as_u16(), 404, "no lease");

    let read = Request::get(format!("/slipway/v1/items/{id}/output?from=4"))
        .header(header::AUTHORIZATION, basic(&key))
        .body(Body::empty())
        .expect("a request");
    let read = server.send(read).await;
    assert_eq!(read.body, b"two\n");
    for attempt in [0, 2] {
        let read = Request::get(format!("/slipway/v1/items/{id}/output?attempt={attempt}"));
        let read = read.header(header::AUTHORIZATION, basic(&key)).body(Body::empty());
        let answer = server.send(read.expect("a request")).await;
        let body = answer.json();
        assert_eq!(
            (answer.status.as_u16(), &body["code"]),
            (404, &json!("NOT_FOUND")),
            "{body}"
        );
        let text = format!("there is no attempt {attempt} of this item, which is at attempt 1");
        assert_eq!(body["error"], text);
    }
    let output = server
        .graphql(
            &key,
            "query($i: ID!) { runQueueItem(id: $i) { output { offset end text complete } } }",
            json!({"i": id}),
        )
        .await
        .data();
    assert_eq!(
        output["runQueueItem"]["output"],
        json!({"offset": 0, "end": 8, "text": "one\ntwo\n", "complete": false})
    );
}

#[tokio::test]
async fn a_made_up_method_makes_no_series_of_its_own() {
    crate::metrics::install();
    let server = TestServer::new().await;
    for method in ["BREW", "WHEN"] {
        let request = Request::builder().method(method).uri("/healthz").body(Body::empty());
        assert_eq!(server.send(request.expect("a request")).await.status.as_u16(), 405);
    }
    let request = Request::get("/metrics").body(Body::empty()).expect("a request");
    let text = String::from_utf8(server.send(request).await.body).expect("text");
    assert!(text.contains("method=\"other\""), "{text}");
    assert!(!text.contains("BREW") && !text.contains("WHEN"), "{text}");
}

#[tokio::test]
async fn metrics_name_queues_to_administrators_only() {
    crate::metrics::install();
    let server = TestServer::new().await;
    let (alice, admin) = (server.user("alice").await, server.admin("root").await);
    server.queue(&alice, "alice", "q").await;
    super::items::push(&server, &alice, "q", &json!({"docker": {"docker_image": "a"}})).await;
    let metrics = async |key: Option<&str>| {
        let mut request = Request::get("/metrics");
        if let Some(key) = key {
            request = request.header(header::AUTHORIZATION, basic(key));
        }
        let answer = server.send(request.body(Body::empty()).expect("a request")).await;
        assert_eq!(
            answer.headers[header::CONTENT_TYPE],
            "text/plain; version=0.0.4; charset=utf-8"
        );
        String::from_utf8(answer.body).expect("text")
    };
    for key in [None, Some(alice.as_str())] {
        let text = metrics(key).await;
        assert!(text.contains("slipway_queue_items{state=\"pending\"} 1\n"), "{text}");
        assert!(!text.contains("queue=\""), "{text}");
    }
    let text = metrics(Some(&admin)).await;
    let named = "slipway_queue_items{entity=\"alice\",project=\"model-registry\",queue=\"q\",state=\"pending\"} 1\n";
    assert!(text.contains(named), "{text}");
    for series in [
        "slipway_http_requests_total{route=\"/graphql\",method=\"POST\",status=\"200\"}",
        "slipway_http_request_seconds_bucket{route=\"/graphql\"",
        "slipway_store_read_seconds",
        "slipway_connected_agents",
    ] {
        assert!(text.contains(series), "{series}: {text}");
    }
}

#[tokio::test]
async fn what_no_handler_sees_is_refused_in_the_shape_of_every_error() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    for (method, path) in [
        (Method::GET, "/slipway/v1/items/any/output?attempt=first"),
        (Method::POST, "/slipway/v1/items/any/output?attempt=1"),
        (Method::GET, "/slipway/v1/runs/a/b/c/log?from=x"),
        (Method::GET, "/slipway/v1/runs/%FF/b/c/log"),
        (Method::GET, "/slipway/v1/agents/%FF/events"),
        (Method::GET, "/storage/blobs/a"),
        (Method::POST, "/files/%FF/p/r/file_stream"),
        (Method::GET, "/artifacts/%FF/abc"),
    ] {
        let request = Request::builder()
            .method(&method)
            .uri(path)
            .header(header::AUTHORIZATION, basic(&key));
        let answer = server.send(request.body(Body::empty()).expect("a request")).await;
        assert_eq!(answer.status.as_u16(), 400, "{method} {path}");
        let body = answer.json();
        assert_eq!(body["code"], "BAD_USER_INPUT", "{method} {path}: {body}");
        assert!(
            body["error"].is_string() && body.get("hint").is_some(),
            "{method} {path}: {body}"
        );
    }
    for (path, kind, form) in [
        ("/alice/%FF", "application/x-www-form-urlencoded", None),
        ("/alice/proj?at=x", "application/x-www-form-urlencoded", None),
        ("/login", "text/plain", Some("key=a")),
        ("/authorize", "text/plain", Some("description=a")),
    ] {
        let request = Request::builder()
            .method(if form.is_some() { Method::POST } else { Method::GET })
            .uri(path)
            .header(header::HOST, "localhost:8080")
            .header(header::CONTENT_TYPE, kind)
            .header(header::AUTHORIZATION, basic(&key))
            .body(Body::from(form.unwrap_or_default()));
        let answer = server.send(request.expect("a request")).await;
        assert_eq!(answer.status.as_u16(), 400, "{path}");
        assert_eq!(
            answer.headers[header::CONTENT_TYPE],
            "text/html; charset=utf-8",
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_waited_for_no_longer_than_a_request_may_take() {
    let server = TestServer::with(ServerOptions {
        request_timeout: Duration::from_millis(300),
        ..ServerOptions::default()
    })
    .await;
    let key = server.user("alice").await;
    let run = RunName {
        entity: "alice".to_owned(),
        project: "p".to_owned(),
        run: "r".to_owned(),
    };
    let upsert = RunUpsert {
        user: "alice".to_owned(),
        starts: true,
        ..RunUpsert::default()
    };
    let made = server.app.store.upsert_run(run, upsert, super::START).await;
    made.expect("a run");
    for path in ["/graphql", "/files/alice/p/r/file_stream", "/login"] {
        let never = futures::stream::pending::<Result<axum::body::Bytes, std::io::Error>>();
        let request = Request::post(path)
            .header(header::HOST, "localhost:8080")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::AUTHORIZATION, basic(&key))
            .body(Body::from_stream(never));
        let answer = server.send(request.expect("a request")).await;
        assert_eq!(answer.status.as_u16(), 503, "{path}");
        assert!(answer.headers.contains_key(header::RETRY_AFTER), "{path}");
        let text = String::from_utf8(answer.body).expect("text");
        assert!(text.contains("took longer"), "{path}: {text}");
    }
}

#[tokio::test]
async fn common_tools_may_ask_for_the_whole_schema() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    let answer = server.official(&key, "IntrospectionQuery", json!({})).await.data();
    let types = answer["__schema"]["types"].as_array().expect("types").len();
    assert!(types > 100, "{types}");
}
