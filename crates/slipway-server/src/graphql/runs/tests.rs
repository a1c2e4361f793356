//! The life of a run as the official client drives it, through the router and a real store.

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use serde_json::{Value, json};

use crate::testing::{Answer, TestServer, basic};

/// A server on which `alice` has the run `r1` in `proj`.
async fn with_run() -> (TestServer, String) {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    let made = upsert(
        &server,
        &key,
        json!({"host": "vm", "config": r#"{"lr":{"value":0.1}}"#}),
    )
    .await;
    assert_eq!(made.data()["upsertBucket"]["inserted"], true);
    (server, key)
}

async fn upsert(server: &TestServer, key: &str, fields: Value) -> Answer {
    let mut variables = json!({"name": "r1", "project": "proj", "entity": null});
    let more = fields.as_object().unwrap().clone();
    variables.as_object_mut().unwrap().extend(more);
    server.official(key, "UpsertBucket", variables).await
}

async fn read(server: &TestServer, key: &str, document: &str, more: Value) -> Value {
    let mut variables = json!({"entity": "alice", "project": "proj", "name": "r1", "run": "r1", "runName": "r1"});
    variables
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let data = server.official(key, document, variables).await.data();
    data["project"]["run"].clone()
}

async fn stream(server: &TestServer, key: &str, body: &Value) -> Answer {
    let request = Request::post("/files/alice/proj/r1/file_stream")
        .header(header::AUTHORIZATION, basic(key))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(body.to_string()))
        .unwrap();
    server.send(request).await
}

#[tokio::test]
async fn a_run_goes_from_init_to_finish() {
    let (server, key) = with_run().await;
    let run = read(&server, &key, "Run-2", json!({})).await;
    assert_eq!(run["state"], "running");
    assert_eq!(run["historyKeys"], Value::Null);
    assert_eq!(run["user"]["username"], "alice");
    assert!(run["projectId"].as_str().unwrap().parse::<u32>().is_ok());
    assert!(!run["displayName"].as_str().unwrap().is_empty());

    let body = json!({"files": {
        "wandb-history.jsonl": {"offset": 0, "content": ["{\"_step\":0,\"loss\":2}", "{\"_step\":1,\"loss\":1}"]},
        "wandb-events.jsonl": {"offset": 0, "content": ["{\"_wandb\":true,\"system.cpu\":7}"]},
        "wandb-summary.json": {"offset": 0, "content": ["{\"loss\":1}"]},
        "output.log": {"offset": 0, "content": ["2026-11-21T22:48:29.4 step 0", "ERROR 2026-11-21T22:48:30.4 oops"]},
    }});
    // The same request twice, as after a lost answer.
    for _ in 0..2 {
        let answer = stream(&server, &key, &body).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.json(), json!({"stopped": false, "exitcode": null, "limits": {}}));
    }
    let finish = stream(&server, &key, &json!({"complete": true, "exitcode": 0})).await;
    assert_eq!(finish.status, StatusCode::OK);

    let run = read(&server, &key, "Run-2", json!({})).await;
    assert_eq!(run["state"], "finished");
    assert_eq!(run["historyLineCount"], 2);
    assert_eq!(run["summaryMetrics"], "{\"loss\":1}");
    assert_eq!(run["systemMetrics"], "{\"system.cpu\":7}");
    assert_eq!(run["historyKeys"]["lastStep"], 1);

    let full = read(&server, &key, "RunFullHistory", json!({"samples": 500})).await;
    assert_eq!(full["history"].as_array().unwrap().len(), 2);
    assert_eq!(full["events"].as_array().unwrap().len(), 1);
    let page = read(
        &server,
        &key,
        "HistoryPage",
        json!({"minStep": 1, "maxStep": 9, "pageSize": 10}),
    )
    .await;
    assert_eq!(page["history"], json!(["{\"_step\":1,\"loss\":1}"]));
    let spec = json!({"keys": ["_step", "loss"], "samples": 10}).to_string();
    let sampled = read(&server, &key, "RunSampledHistory", json!({"specs": [spec]})).await;
    assert_eq!(sampled["sampledHistory"][0][1], json!({"_step": 1, "loss": 1}));
    let log = read(&server, &key, "RunConsoleLogPage", json!({"first": 1})).await;
    assert_eq!(log["logLines"]["edges"][0]["node"]["line"], "step 0");
    assert_eq!(
        log["logLines"]["pageInfo"],
        json!({"hasNextPage": true, "endCursor": "0"})
    );
    let log = read(&server, &key, "RunConsoleLogTail", json!({"last": 1})).await;
    assert_eq!(log["logLines"]["edges"][0]["node"]["level"], "error");
}

#[tokio::test]
async fn a_later_change_leaves_what_it_does_not_name() {
    let (server, key) = with_run().await;
    let changed = upsert(&server, &key, json!({"config": r#"{"lr":{"value":0.2}}"#}))
        .await
        .data();
    let bucket = &changed["upsertBucket"];
    assert_eq!(bucket["inserted"], false);
    assert_eq!(bucket["bucket"]["config"], r#"{"lr":{"value":0.2}}"#);
    let resumed = server
        .official(
            &key,
            "RunResumeStatus",
            json!({"entity": "alice", "project": "proj", "name": "r1"}),
        )
        .await
        .data();
    let bucket = &resumed["model"]["bucket"];
    assert_eq!(bucket["historyTail"], "[]");
    assert_eq!(bucket["wandbConfig"], Value::Null);
    let none = server
        .official(
            &key,
            "RunResumeStatus",
            json!({"entity": "alice", "project": "proj", "name": "other"}),
        )
        .await
        .data();
    assert_eq!(none["model"]["bucket"], Value::Null);
}

#[tokio::test]
async fn stopping_reaches_the_process_by_its_next_report() {
    let (server, key) = with_run().await;
    let id = read(&server, &key, "Run", json!({})).await["id"].clone();
    let stopped = server.official(&key, "StopRun", json!({"id": id})).await.data();
    assert_eq!(stopped["stopRun"]["success"], true);
    assert_eq!(stream(&server, &key, &json!({})).await.json()["stopped"], true);
    let status = server
        .official(
            &key,
            "RunStoppedStatus",
            json!({"entityName": "alice", "projectName": "proj", "runId": "r1"}),
        )
        .await
        .data();
    assert_eq!(status["project"]["run"]["stopped"], true);
    stream(&server, &key, &json!({"complete": true, "exitcode": 255})).await;
    assert_eq!(read(&server, &key, "RunState", json!({})).await["state"], "killed");
}

#[tokio::test]
async fn a_deleted_run_ends_its_stream_and_its_id_is_free() {
    let (server, key) = with_run().await;
    stream(
        &server,
        &key,
        &json!({"files": {"output.log": {"offset": 0, "content": ["x"]}}}),
    )
    .await;
    let id = read(&server, &key, "Run", json!({})).await["id"].clone();
    server
        .official(&key, "DeleteRun", json!({"id": id, "deleteArtifacts": false}))
        .await
        .data();
    assert_eq!(stream(&server, &key, &json!({})).await.status, StatusCode::NOT_FOUND);
    let again = upsert(&server, &key, json!({"host": "vm"})).await.data();
    assert_eq!(again["upsertBucket"]["inserted"], true);
    let log = read(&server, &key, "RunConsoleLogTail", json!({"last": 10})).await;
    assert_eq!(log["logLines"]["edges"], json!([]));
}

#[tokio::test]
async fn bad_requests_are_the_callers_fault_and_change_nothing() {
    let (server, key) = with_run().await;
    for (fields, status) in [
        (json!({"config": "not json"}), StatusCode::BAD_REQUEST),
        (json!({"config": "[1]"}), StatusCode::BAD_REQUEST),
        (json!({"name": "a/b"}), StatusCode::BAD_REQUEST),
        (json!({"name": ""}), StatusCode::BAD_REQUEST),
        (json!({"project": "a:b"}), StatusCode::BAD_REQUEST),
        (json!({"state": "sleeping"}), StatusCode::BAD_REQUEST),
        (json!({"entity": "nobody"}), StatusCode::NOT_FOUND),
        (json!({"id": "nonsense"}), StatusCode::NOT_FOUND),
    ] {
        assert_eq!(upsert(&server, &key, fields.clone()).await.status, status, "{fields}");
    }
    for body in ["{", "[]", "{\"files\": {\"output.log\": {\"offset\": -1}}}"] {
        let request = Request::post("/files/alice/proj/r1/file_stream")
            .header(header::AUTHORIZATION, basic(&key))
            .body(Body::from(body))
            .unwrap();
        let answer = server.send(request).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        assert_eq!(answer.json()["code"], "BAD_USER_INPUT", "{body}");
    }
    assert_eq!(read(&server, &key, "RunState", json!({})).await["state"], "running");
}

#[tokio::test]
async fn outsiders_neither_see_nor_touch_a_run() {
    let (server, alice) = with_run().await;
    let bob = server.user("bob").await;
    let id = read(&server, &alice, "Run", json!({})).await["id"].clone();
    let found = server
        .official(
            &bob,
            "RunState",
            json!({"entity": "alice", "project": "proj", "name": "r1"}),
        )
        .await
        .data();
    assert_eq!(found["project"], Value::Null);
    for answer in [
        stream(&server, &bob, &json!({})).await,
        upsert(&server, &bob, json!({"entity": "alice", "displayName": "mine"})).await,
        server.official(&bob, "StopRun", json!({"id": id})).await,
        server.official(&bob, "DeleteRun", json!({"id": id})).await,
        server
            .official(
                &bob,
                "CreateRunFiles",
                json!({"entity": "alice", "project": "proj", "run": "r1", "files": ["a"]}),
            )
            .await,
    ] {
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
    }
    assert_eq!(read(&server, &alice, "RunState", json!({})).await["state"], "running");
}

#[tokio::test]
async fn listings_filter_order_and_page() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    for (index, loss) in [3, 1, 2].into_iter().enumerate() {
        let fields =
            json!({"name": format!("r{index}"), "host": "vm", "summaryMetrics": format!("{{\"loss\":{loss}}}")});
        upsert(&server, &key, fields).await.data();
        server.pass(1_000);
    }
    let list = async |more: Value| {
        let mut variables = json!({"entity": "alice", "project": "proj"});
        variables
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let project = server.official(&key, "Runs", variables).await.data()["project"].clone();
        let names: Vec<String> = project["runs"]["edges"]
            .as_array()
            .unwrap()
            .iter()
            .map(|edge| edge["node"]["name"].as_str().unwrap().to_owned())
            .collect();
        (
            names.join(" "),
            project["runs"]["pageInfo"].clone(),
            project["runCount"].clone(),
        )
    };
    assert_eq!(list(json!({})).await.0, "r2 r1 r0");
    assert_eq!(list(json!({"order": "+created_at"})).await.0, "r0 r1 r2");
    assert_eq!(list(json!({"order": "+summary_metrics.loss"})).await.0, "r1 r2 r0");
    let (names, _, count) = list(json!({"filters": r#"{"summary_metrics.loss":{"$gt":1}}"#})).await;
    assert_eq!((names.as_str(), count), ("r2 r0", json!(2)));
    for order in ["+created_at", "+summary_metrics.loss"] {
        let (first, info, _) = list(json!({"order": order, "perPage": 2})).await;
        assert_eq!(info["hasNextPage"], true);
        let (rest, info, _) = list(json!({"order": order, "perPage": 2, "cursor": info["endCursor"]})).await;
        assert_eq!(info["hasNextPage"], false);
        assert_eq!(
            format!("{first} {rest}"),
            list(json!({"order": order})).await.0,
            "{order}"
        );
    }
    let refused = server
        .official(
            &key,
            "Runs",
            json!({"entity": "alice", "project": "proj", "filters": "{\"$what\":1}"}),
        )
        .await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn an_alert_is_kept_with_its_run() {
    let (server, key) = with_run().await;
    let variables = json!({"entityName": "alice", "projectName": "proj", "runName": "r1", "title": "high loss",
        "text": "look", "waitDuration": 60_000});
    let sent = server
        .official(&key, "NotifyScriptableRunAlert", variables)
        .await
        .data();
    assert_eq!(sent["notifyScriptableRunAlert"]["success"], true);
    let name = slipway_model::id::RunName {
        entity: "alice".to_owned(),
        project: "proj".to_owned(),
        run: "r1".to_owned(),
    };
    let alerts = server.app.store.alerts(&name).await.unwrap();
    assert_eq!(
        (alerts[0].title.as_str(), alerts[0].severity.as_str()),
        ("high loss", "INFO")
    );
}
