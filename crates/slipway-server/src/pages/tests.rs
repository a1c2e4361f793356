//! Pages through the router: who sees them, what they escape, and what their forms do.

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use serde_json::json;

use crate::testing::{Answer, TestServer, basic};

const EVIL: &str = "<script>alert(1)</script>";

async fn get(server: &TestServer, key: &str, path: &str) -> Answer {
    let request = Request::get(path).header(header::AUTHORIZATION, basic(key));
    server.send(request.body(Body::empty()).unwrap()).await
}

async fn post(server: &TestServer, path: &str, headers: &[(&str, &str)], form: &str) -> Answer {
    let mut request = Request::post(path)
        .header(header::HOST, "localhost:8080")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    server.send(request.body(Body::from(form.to_owned())).unwrap()).await
}

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body.clone()).unwrap()
}

/// A server with a run, a queue and an item whose every text is markup.
async fn with_markup() -> (TestServer, String, String) {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    let config = json!({EVIL: {"value": EVIL}}).to_string();
    let run = json!({"name": "r1", "project": "proj", "host": EVIL, "displayName": EVIL, "notes": EVIL, "tags": [EVIL],
        "config": config, "program": EVIL, "jobType": EVIL});
    server.official(&key, "UpsertBucket", run).await.data();
    let history = json!({"_step": 0, EVIL: 1}).to_string();
    let body = json!({"files": {
        "wandb-history.jsonl": {"offset": 0, "content": [history.clone()]},
        "wandb-summary.json": {"offset": 0, "content": [history]},
        "output.log": {"offset": 0, "content": [EVIL]},
    }});
    let request = Request::post("/files/alice/proj/r1/file_stream").header(header::AUTHORIZATION, basic(&key));
    server.send(request.body(Body::from(body.to_string())).unwrap()).await;
    let files = json!({"entity": "alice", "project": "proj", "run": "r1", "files": [EVIL]});
    let made = server.official(&key, "CreateRunFiles", files).await.data();
    let url = made["createRunFiles"]["files"][0]["uploadUrl"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = url[url.find("/storage").unwrap()..].to_owned();
    server.send(Request::put(path).body(Body::from("x")).unwrap()).await;
    let alert = json!({"entityName": "alice", "projectName": "proj", "runName": "r1", "title": EVIL, "text": EVIL});
    server.official(&key, "NotifyScriptableRunAlert", alert).await.data();

    server.queue(&key, "alice", "q<1>").await;
    let spec = json!({"docker": {"docker_image": EVIL}, "entity": "alice", "project": "proj", "name": EVIL});
    let push = json!({"entityName": "alice", "projectName": "model-registry", "queueName": "q<1>", "runSpec": spec.to_string()});
    let pushed = server.official(&key, "pushToRunQueueByName", push).await.data();
    let item = pushed["pushToRunQueueByName"]["runQueueItemId"]
        .as_str()
        .unwrap()
        .to_owned();
    (server, key, item)
}

#[tokio::test]
async fn nothing_from_outside_becomes_markup() {
    let (server, key, item) = with_markup().await;
    for path in [
        "/launch".to_owned(),
        "/launch/alice/q%3C1%3E".to_owned(),
        format!("/launch/alice/q%3C1%3E/items/{item}"),
        "/alice".to_owned(),
        "/alice/proj".to_owned(),
        "/alice/proj/jobs".to_owned(),
        "/alice/proj/runs/r1".to_owned(),
        "/authorize".to_owned(),
        "/alice/%3Cscript%3Ealert(1)%3C%2Fscript%3E".to_owned(),
    ] {
        let page = get(&server, &key, &path).await;
        let missing = path.contains("alert");
        assert_eq!(page.status == StatusCode::OK, !missing, "{path}: {}", page.status);
        let html = text(&page);
        assert!(!html.contains(EVIL), "{path}: {html}");
        assert!(!html.contains("q<1>"), "{path}");
        let policy = page.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(
            policy.contains("script-src 'self'") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert!(!html.contains(" style=") && !html.contains(" onclick="), "{path}");
    }
}

#[tokio::test]
async fn a_run_page_tells_state_metrics_log_and_files() {
    let (server, key, _) = with_markup().await;
    let html = text(&get(&server, &key, "/alice/proj/runs/r1").await);
    for part in [
        "Running",
        "&lt;script&gt;",
        "<svg",
        "data-stream=\"/slipway/v1/runs/alice/proj/r1/log",
        "/storage/runs/alice/proj/r1",
    ] {
        assert!(html.contains(part), "{part}: {html}");
    }
}

#[tokio::test]
async fn an_item_page_tells_why_it_waits() {
    let (server, key, item) = with_markup().await;
    let html = text(&get(&server, &key, &format!("/launch/alice/q%3C1%3E/items/{item}")).await);
    for part in ["Idle", "No agent serves this queue", "Submitted", "Cancel"] {
        assert!(html.contains(part), "{part}: {html}");
    }
}

#[tokio::test]
async fn strangers_are_sent_to_sign_in_and_outsiders_see_nothing() {
    let (server, _, item) = with_markup().await;
    let page = server
        .send(Request::get("/alice/proj/runs/r1?x=1").body(Body::empty()).unwrap())
        .await;
    assert_eq!(page.status, StatusCode::SEE_OTHER);
    assert_eq!(
        page.headers[header::LOCATION],
        "/login?next=%2Falice%2Fproj%2Fruns%2Fr1%3Fx%3D1"
    );
    let bob = server.user("bob").await;
    for path in [
        "/launch/alice/q%3C1%3E".to_owned(),
        format!("/launch/alice/q%3C1%3E/items/{item}"),
        "/alice".to_owned(),
        "/alice/proj".to_owned(),
        "/alice/proj/jobs".to_owned(),
        "/alice/proj/runs/r1".to_owned(),
    ] {
        assert_eq!(get(&server, &bob, &path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn a_session_is_opened_by_password_or_key_and_closed() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    let hash = crate::auth::hash_password("correct horse".to_owned()).await.unwrap();
    server.app.store.set_password_hash("alice", &hash).await.unwrap();
    for (form, right) in [
        ("username=alice&password=correct+horse".to_owned(), true),
        (format!("key={key}"), true),
        ("username=alice&password=wrong".to_owned(), false),
        ("username=nobody&password=wrong".to_owned(), false),
        ("key=slipway_wrong".to_owned(), false),
        (String::new(), false),
    ] {
        let answer = post(&server, "/login?next=/alice", &[], &format!("{form}&next=%2Falice")).await;
        assert_eq!(
            answer.status == StatusCode::SEE_OTHER,
            right,
            "{form}: {}",
            answer.status
        );
        assert_eq!(answer.headers.contains_key(header::SET_COOKIE), right, "{form}");
    }
    let answer = post(&server, "/login", &[], &format!("key={key}&next=%2Falice")).await;
    assert_eq!(answer.headers[header::LOCATION], "/alice");
    let cookie = answer.headers[header::SET_COOKIE].to_str().unwrap().to_owned();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"),
        "{cookie}"
    );
    let session = cookie.split(';').next().unwrap();
    let page = async || {
        let request = Request::get("/alice").header(header::COOKIE, session);
        server.send(request.body(Body::empty()).unwrap()).await.status
    };
    assert_eq!(page().await, StatusCode::OK);
    let left = post(&server, "/logout", &[("cookie", session)], "").await;
    assert_eq!(left.status, StatusCode::SEE_OTHER);
    assert_eq!(page().await, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn more_sign_ins_than_can_be_checked_are_told_when_to_come_back() {
    let server = TestServer::new().await;
    let places = &server.app.auth.passwords.places;
    let taken = places
        .acquire_many(u32::try_from(places.available_permits()).unwrap())
        .await;
    let form = "username=alice&password=correct+horse";
    let refused = post(&server, "/login", &[], form).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers.contains_key(header::RETRY_AFTER));
    drop(taken);
    assert_eq!(post(&server, "/login", &[], form).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn an_alert_of_a_job_is_kept_and_shown_on_its_runs_page() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    let run = json!({"name": "r1", "project": "proj"});
    server.official(&key, "UpsertBucket", run).await.data();
    let alert = |title: &str, severity: &str| {
        json!({"entityName": "alice", "projectName": "proj", "runName": "r1", "title": title,
            "text": "loss is <NaN>", "severity": severity, "waitDuration": 0})
    };
    for (title, severity) in [("Diverged", "ERROR"), ("Slow", "WARN")] {
        let sent = server
            .official(&key, "NotifyScriptableRunAlert", alert(title, severity))
            .await;
        assert_eq!(sent.data()["notifyScriptableRunAlert"]["success"], true);
    }
    let html = text(&get(&server, &key, "/alice/proj/runs/r1").await);
    for shown in ["Diverged", "Slow", "loss is &lt;NaN&gt;"] {
        assert!(html.contains(shown), "{shown}: {html}");
    }
    let missing = server
        .official(
            &key,
            "NotifyScriptableRunAlert",
            json!({"entityName": "alice", "projectName": "proj", "runName": "none", "title": "t", "text": "t"}),
        )
        .await;
    assert_eq!(missing.error().0, 404);
}

#[tokio::test]
async fn a_key_is_made_once_and_works() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    let headers = [("authorization", basic(&key))];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let page = post(&server, "/authorize", &headers, "description=laptop").await;
    assert_eq!(page.status, StatusCode::OK);
    assert_eq!(page.headers[header::CACHE_CONTROL], "no-store");
    let html = text(&page);
    let start = html.find("slipway_").expect("the key");
    let made: String = html[start..]
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
        .collect();
    assert_eq!(get(&server, &made, "/alice").await.status, StatusCode::OK);
    assert!(!text(&get(&server, &key, "/authorize").await).contains(&made));
}

#[tokio::test]
async fn forms_of_other_sites_are_refused() {
    let (server, key, item) = with_markup().await;
    let authorization = basic(&key);
    let cancel = format!("/launch/alice/q%3C1%3E/items/{item}/cancel");
    for path in [cancel.as_str(), "/alice/proj/runs/r1/stop", "/authorize", "/logout"] {
        for origin in [("origin", "http://evil.example"), ("sec-fetch-site", "cross-site")] {
            let answer = post(&server, path, &[("authorization", &authorization), origin], "").await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path} {origin:?}");
        }
    }
    let own = [
        ("authorization", authorization.as_str()),
        ("origin", "http://localhost:8080"),
    ];
    let answer = post(&server, &cancel, &own, "").await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    let html = text(&get(&server, &key, answer.headers[header::LOCATION].to_str().unwrap()).await);
    assert!(html.contains("Killed") && html.contains("Retry"), "{html}");
}

#[tokio::test]
async fn the_log_route_gives_text_or_a_stream_that_ends_with_the_run() {
    let (server, key, _) = with_markup().await;
    let plain = get(&server, &key, "/slipway/v1/runs/alice/proj/r1/log").await;
    assert_eq!(text(&plain), format!("{EVIL}\n"));
    assert_eq!(plain.headers[header::CONTENT_TYPE], "text/plain; charset=utf-8");
    let finish = json!({"files": {"output.log": {"offset": 1, "content": ["done"]}}, "complete": true, "exitcode": 0});
    let request = Request::post("/files/alice/proj/r1/file_stream").header(header::AUTHORIZATION, basic(&key));
    server.send(request.body(Body::from(finish.to_string())).unwrap()).await;
    let stream = get(&server, &key, "/slipway/v1/runs/alice/proj/r1/log?follow=true&from=1").await;
    let events = text(&stream);
    assert!(
        events.contains("event: line") && events.contains("\"text\":\"done\""),
        "{events}"
    );
    assert!(
        events.contains("event: end") && events.contains("\"state\":\"finished\""),
        "{events}"
    );
    let bob = server.user("bob").await;
    let hidden = get(&server, &bob, "/slipway/v1/runs/alice/proj/r1/log").await;
    assert_eq!(hidden.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn japanese_readers_get_their_words() {
    let (server, key, _) = with_markup().await;
    let request = Request::get("/alice/proj/runs/r1")
        .header(header::AUTHORIZATION, basic(&key))
        .header(header::ACCEPT_LANGUAGE, "ja");
    let html = text(&server.send(request.body(Body::empty()).unwrap()).await);
    assert!(html.contains("<html lang=\"ja\"") && html.contains("実行中"), "{html}");
}

#[tokio::test]
async fn addresses_of_the_official_app_lead_to_pages() {
    let (server, key, _) = with_markup().await;
    for (path, status, place) in [
        ("/launch/", 308, "/launch"),
        ("/launch/alice/q/", 308, "/launch/alice/q"),
        ("/alice/proj/workspace", 303, "/alice/proj"),
        ("/alice/proj/runs/r1/", 308, "/alice/proj/runs/r1"),
        ("/alice/proj/runs/r1/overview", 303, "/alice/proj/runs/r1"),
        ("/alice/proj/runs/r1/logs", 303, "/alice/proj/runs/r1#log-title"),
        ("/alice/proj/runs/r1/files", 303, "/alice/proj/runs/r1#files-title"),
        (
            "/alice/my%20p/runs/a%20b/logs",
            303,
            "/alice/my%20p/runs/a%20b#log-title",
        ),
    ] {
        let answer = get(&server, &key, path).await;
        assert_eq!(answer.status.as_u16(), status, "{path}");
        assert_eq!(answer.headers[header::LOCATION], place, "{path}");
    }
    let html = text(&get(&server, &key, "/alice/proj/runs/r1").await);
    assert!(
        html.contains("id=\"log-title\"") && html.contains("id=\"files-title\""),
        "{html}"
    );
    assert_eq!(
        get(&server, &key, "/alice/proj/runs/r1/nothing").await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn commands_on_pages_are_whole() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    let empty = text(&get(&server, &key, "/launch").await);
    for command in [
        "slipway queue create demo --resource local-container --entity alice",
        "slipway launch-agent -q demo --entity alice",
        "slipway launch --queue demo --docker-image python:3.11-slim --project demo --entity alice",
    ] {
        assert!(empty.contains(command), "{command}: {empty}");
    }
    server.queue(&key, "alice", "gpu").await;
    let page = text(&get(&server, &key, "/launch/alice/gpu").await);
    let command = "slipway launch --queue gpu --docker-image python:3.11-slim --project demo --entity alice";
    assert!(page.contains(command), "{page}");
}

#[tokio::test]
async fn projects_are_listed_for_those_who_see_their_entity() {
    let server = TestServer::new().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    for project in ["one", "two", "three"] {
        let run = json!({"name": "r", "project": project});
        server.official(&alice, "UpsertBucket", run).await.data();
    }
    // As the official client asks.
    let query = "query GetProjects($entity: String, $cursor: String, $perPage: Int = 50) { models(entityName: $entity, \
                 after: $cursor, first: $perPage) { pageInfo { __typename endCursor hasNextPage } edges { node { \
                 __typename id name entityName createdAt isBenchmark user { id username apiKeys { edges { node { id } } } \
                 } } } } }";
    let list = async |key: &str, variables: serde_json::Value| {
        let answer = server.graphql(key, query, variables).await.data();
        answer["models"].clone()
    };
    let names = |models: &serde_json::Value| -> Vec<String> {
        let edges = models["edges"].as_array().unwrap();
        edges
            .iter()
            .map(|edge| edge["node"]["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let all = list(&alice, json!({"entity": "alice"})).await;
    assert_eq!(names(&all), ["three", "two", "one"]);
    assert_eq!(all["edges"][0]["node"]["user"]["username"], "alice");
    let first = list(&alice, json!({"entity": "alice", "perPage": 2})).await;
    assert_eq!(
        (names(&first).len(), &first["pageInfo"]["hasNextPage"]),
        (2, &json!(true))
    );
    let cursor = &first["pageInfo"]["endCursor"];
    let rest = list(&alice, json!({"entity": "alice", "perPage": 2, "cursor": cursor})).await;
    assert_eq!(
        (names(&rest), &rest["pageInfo"]["hasNextPage"]),
        (vec!["one".to_owned()], &json!(false))
    );
    assert_eq!(list(&bob, json!({"entity": "alice"})).await, json!(null));
    assert_eq!(list(&bob, json!({"entity": "nobody"})).await, json!(null));
    let (status, _, text) = server
        .graphql(&alice, query, json!({"entity": "alice", "cursor": "x"}))
        .await
        .error();
    assert_eq!(status, 400, "{text}");
}
