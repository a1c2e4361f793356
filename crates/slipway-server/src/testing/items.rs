//! The life of an item over GraphQL.

use axum::body::Body;
use axum::http::{Request, header};
use serde_json::{Value, json};
use slipway_model::id::{ItemId, LeaseHandle};

use super::{TestServer, basic};
use crate::lookup::Lookup;

/// Pushes with the official document; returns the item's id.
pub(super) async fn push(server: &TestServer, key: &str, queue: &str, spec: &Value) -> String {
    let answer = push_answer(server, key, queue, spec).await;
    let id = answer.data()["pushToRunQueueByName"]["runQueueItemId"].clone();
    answer.delivered();
    id.as_str().expect("the item's id").to_owned()
}

async fn push_answer(server: &TestServer, key: &str, queue: &str, spec: &Value) -> super::Answer {
    server
        .official(
            key,
            "pushToRunQueueByName",
            json!({
                "entityName": "alice", "projectName": "model-registry", "queueName": queue,
                "runSpec": spec.to_string(),
            }),
        )
        .await
}

/// Pops with the official document.
pub(super) async fn pop(server: &TestServer, key: &str, queue: &str) -> Value {
    let popped = server
        .official(
            key,
            "popFromRunQueue",
            json!({"entity": "alice", "project": "model-registry", "queueName": queue, "launchAgentId": null}),
        )
        .await;
    popped.data()["popFromRunQueue"].clone()
}

async fn state(server: &TestServer, key: &str, id: &str) -> Value {
    let found = server
        .official(
            key,
            "GetRunQueueItem",
            json!({"projectName": "model-registry", "entityName": "alice", "runQueue": "q", "itemId": id}),
        )
        .await;
    found.data()["project"]["runQueue"]["runQueueItem"].clone()
}

fn image(tag: &str) -> Value {
    json!({"docker": {"docker_image": format!("busybox:{tag}")}, "project": "proj"})
}

#[tokio::test]
async fn an_item_goes_from_the_queue_to_a_named_run() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    server.queue(&key, "alice", "q").await;
    let id = push(&server, &key, "q", &image("1")).await;
    assert_eq!(
        state(&server, &key, &id).await,
        json!({"id": id, "state": "PENDING", "associatedRunId": null})
    );

    let popped = pop(&server, &key, "q").await;
    assert_eq!(popped["runSpec"]["author"], "alice");
    assert_eq!(
        popped["runSpec"]["resource"], "local-container",
        "an object, not a string"
    );
    let run_key = popped["runSpec"]["_wandb_api_key"].as_str().expect("a run key");
    assert!(run_key.starts_with("slipway_run-"));
    let handle = popped["runQueueItemId"].clone();
    assert_eq!(pop(&server, &key, "q").await, json!(null), "the queue is empty");

    let ack = json!({"itemId": handle, "runId": "run1"});
    for _ in 0..2 {
        let acked = server.official(&key, "ackRunQueueItem", ack.clone()).await.data();
        assert_eq!(acked["ackRunQueueItem"]["success"], true, "idempotent");
    }
    let other = json!({"itemId": handle, "runId": "run2"});
    let acked = server.official(&key, "ackRunQueueItem", other).await.data();
    assert_eq!(acked["ackRunQueueItem"]["success"], false, "another run");
    assert_eq!(
        state(&server, &key, &id).await,
        json!({"id": id, "state": "CLAIMED", "associatedRunId": "run1"})
    );

    // The job's own key speaks for alice, and may not launch.
    let viewer = server.official(run_key, "Viewer", json!({})).await.data();
    assert_eq!(viewer["viewer"]["username"], "alice");
    let (status, code, message) = push_answer(&server, run_key, "q", &image("2")).await.error();
    assert_eq!((status, code.as_str()), (403, "FORBIDDEN"));
    assert!(message.contains("run key"), "{message}");

    let failed = server
        .official(
            &key,
            "failRunQueueItem",
            json!({"runQueueItemId": handle, "message": "no", "stage": "run", "filePaths": null}),
        )
        .await
        .data();
    assert_eq!(failed["failRunQueueItem"]["success"], true);
    assert_eq!(state(&server, &key, &id).await["state"], "FAILED");
}

#[tokio::test]
async fn a_run_key_outlives_its_item_by_ten_minutes() {
    for end in ["failed", "finished"] {
        let server = TestServer::new().await;
        let key = server.user("alice").await;
        server.queue(&key, "alice", "q").await;
        push(&server, &key, "q", &image("1")).await;
        let popped = pop(&server, &key, "q").await;
        let run_key = popped["runSpec"]["_wandb_api_key"].as_str().expect("a run key");
        let handle = popped["runQueueItemId"].clone();
        let ack = json!({"itemId": handle, "runId": "run1"});
        server.official(&key, "ackRunQueueItem", ack).await.data();
        let run = json!({"name": "run1", "project": "proj", "entity": "alice", "host": "h"});
        server.official(run_key, "UpsertBucket", run.clone()).await.data();
        let stream = async |body: Value| {
            let request =
                Request::post("/files/alice/proj/run1/file_stream").header(header::AUTHORIZATION, basic(run_key));
            let request = request.body(Body::from(body.to_string())).expect("a request");
            server.send(request).await.status.as_u16()
        };
        if end == "failed" {
            let failed = json!({"runQueueItemId": handle, "message": "no", "stage": "run", "filePaths": null});
            server.official(&key, "failRunQueueItem", failed).await.data();
        } else {
            assert_eq!(stream(json!({"complete": true, "exitcode": 0})).await, 200);
        }
        // What a job uploads last is taken, and nothing later.
        let files = json!({"entity": "alice", "project": "proj", "run": "run1", "files": ["model.pt"]});
        let line = json!({"files": {"output.log": {"offset": 0, "content": ["last words"]}}});
        server.pass(600_000);
        server.official(run_key, "CreateRunFiles", files.clone()).await.data();
        assert_eq!(stream(line.clone()).await, 200, "{end}");
        server.pass(1);
        for (document, variables) in [("Viewer", json!({})), ("CreateRunFiles", files), ("UpsertBucket", run)] {
            let (status, code, message) = server.official(run_key, document, variables).await.error();
            assert_eq!((status, code.as_str()), (401, "UNAUTHENTICATED"), "{end}: {document}");
            assert!(message.contains("its attempt has ended"), "{message}");
        }
        assert_eq!(stream(line).await, 401, "{end}");
    }
}

#[tokio::test]
async fn a_run_key_that_may_launch_does_so_in_its_own_queue_only_and_manages_nothing() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    server.queue(&key, "alice", "other").await;
    let owned = "mutation($policy: JSONString!) { upsertRunQueue(input: {entityName: \"alice\", projectName: \
                 \"model-registry\", queueName: \"q\", resourceType: \"local-container\", resourceConfig: \"{}\", \
                 policy: $policy}) { success } }";
    let policy = json!({"policy": json!({"run_key_scopes": ["launch"]}).to_string()});
    server.graphql(&key, owned, policy).await.data();
    push(&server, &key, "q", &image("1")).await;
    let waiting = push(&server, &key, "q", &image("2")).await;
    let popped = pop(&server, &key, "q").await;
    let run_key = popped["runSpec"]["_wandb_api_key"].as_str().expect("a run key");
    let ack = json!({"itemId": popped["runQueueItemId"], "runId": "run1"});
    server.official(&key, "ackRunQueueItem", ack).await.data();

    push(&server, run_key, "q", &image("3")).await;
    let (status, _, message) = push_answer(&server, run_key, "other", &image("4")).await.error();
    assert_eq!(status, 403, "{message}");
    assert!(message.contains("its own item"), "{message}");
    let cancel = "mutation($id: ID!) { cancelRunQueueItem(input: {runQueueItemId: $id}) { item { state } } }";
    let (status, _, message) = server.graphql(run_key, cancel, json!({"id": waiting})).await.error();
    assert_eq!(status, 403, "{message}");
}

#[tokio::test]
async fn a_plain_item_id_holds_no_lease() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    server.queue(&key, "alice", "q").await;
    let id = push(&server, &key, "q", &image("1")).await;
    pop(&server, &key, "q").await;
    let acked = server
        .official(&key, "ackRunQueueItem", json!({"itemId": id, "runId": "r"}))
        .await
        .data();
    assert_eq!(acked["ackRunQueueItem"]["success"], false);
}

#[tokio::test]
async fn where_a_run_goes_is_known_alike_of_items_leased_here_and_elsewhere() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    server.queue(&key, "alice", "q").await;
    push(&server, &key, "q", &image("1")).await;
    push(&server, &key, "q", &json!({"docker": {"docker_image": "busybox:2"}})).await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let popped = pop(&server, &key, "q").await;
        let handle: LeaseHandle = popped["runQueueItemId"]
            .as_str()
            .and_then(|id| id.parse().ok())
            .expect("a handle");
        ids.push(handle.item);
    }
    ids.push(ItemId::new(ids[0].entity, 999));
    let here = &server.app.lookup;
    for lookup in [here, &Lookup::default()] {
        let found = lookup.destinations(&server.app.store, &ids).await.expect("a store");
        let projects: Vec<_> = found
            .iter()
            .map(|found| found.as_ref().map(|to| to.project.as_deref()))
            .collect();
        assert_eq!(projects, [Some(Some("proj")), Some(None), None]);
    }
}

#[tokio::test]
async fn a_lost_answer_is_absorbed_and_a_delivered_one_is_not() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    server.queue(&key, "alice", "q").await;
    let id_of = |answer: &super::Answer| answer.data()["pushToRunQueueByName"]["runQueueItemId"].clone();

    let lost = push_answer(&server, &key, "q", &image("1")).await;
    let first = id_of(&lost);
    drop(lost);
    let again = push_answer(&server, &key, "q", &image("1")).await;
    assert_eq!(id_of(&again), first, "sent again after a lost answer");
    again.delivered();

    let wanted = push_answer(&server, &key, "q", &image("1")).await;
    assert_ne!(id_of(&wanted), first, "a second item on purpose");
    let other = push_answer(&server, &key, "q", &image("2")).await;
    assert_ne!(id_of(&other), first);
}

#[tokio::test]
async fn a_lost_push_by_name_that_comes_again_by_the_queues_id_is_absorbed() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    server.queue(&key, "alice", "q").await;
    let lost = push_answer(&server, &key, "q", &image("1")).await;
    let first = lost.data()["pushToRunQueueByName"]["runQueueItemId"].clone();
    drop(lost);
    let queue = server.graphql(&key, "{ runQueues { id } }", json!({})).await.data()["runQueues"][0]["id"].clone();
    let by_id = |tag: &str| json!({"queueID": queue, "runSpec": image(tag).to_string()});
    let again = server.official(&key, "pushToRunQueue", by_id("1")).await;
    assert_eq!(again.data()["pushToRunQueue"]["runQueueItemId"], first);
    again.delivered();
    let wanted = server.official(&key, "pushToRunQueue", by_id("1")).await;
    assert_ne!(
        wanted.data()["pushToRunQueue"]["runQueueItemId"],
        first,
        "a second item on purpose"
    );
}

#[tokio::test]
async fn an_idempotency_key_names_one_item() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    server.queue(&key, "alice", "q").await;
    let push = "mutation($spec: JSONString!, $k: String) { pushToRunQueueByName(input: {entityName: \"alice\", \
                queueName: \"q\", runSpec: $spec, idempotencyKey: $k}) { runQueueItemId item { state position } } }";
    let variables = json!({"spec": image("1").to_string(), "k": "k1"});
    let one = server.graphql(&key, push, variables.clone()).await.data();
    let two = server.graphql(&key, push, variables).await.data();
    assert_eq!(one, two);
    assert_eq!(
        one["pushToRunQueueByName"]["item"],
        json!({"state": "PENDING", "position": 1})
    );
}

#[tokio::test]
async fn a_dry_run_shows_the_final_spec_and_stores_nothing() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    server.queue(&key, "alice", "q").await;
    let push = "mutation($spec: JSONString!) { pushToRunQueueByName(input: {entityName: \"alice\", queueName: \"q\", \
                runSpec: $spec, dryRun: true}) { runQueueItemId runSpec item { id } origins } }";
    let answer = server
        .graphql(&key, push, json!({"spec": image("1").to_string()}))
        .await
        .data();
    let payload = &answer["pushToRunQueueByName"];
    assert_eq!(payload["runQueueItemId"], json!(null));
    assert_eq!(payload["item"], json!(null));
    let spec: Value = serde_json::from_str(payload["runSpec"].as_str().expect("text")).expect("JSON");
    assert_eq!(spec["resource"], "local-container");
    assert_eq!(pop(&server, &key, "q").await, json!(null));
}

#[tokio::test]
async fn items_run_by_priority_and_people_cancel_retry_and_move_them() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    server.queue(&key, "alice", "q").await;
    server.queue(&key, "alice", "q2").await;
    let ids = server
        .graphql(
            &key,
            "mutation($items: [PushRunQueueItemInput!]!) { pushRunQueueItems(input: {entityName: \"alice\", \
             projectName: \"model-registry\", queueName: \"q\", items: $items}) { runQueueItemIds } }",
            json!({"items": [
                {"runSpec": image("low").to_string(), "priority": 3},
                {"runSpec": image("medium").to_string()},
                {"runSpec": image("critical").to_string(), "priority": 0},
            ]}),
        )
        .await
        .data()["pushRunQueueItems"]["runQueueItemIds"]
        .clone();
    let waiting = server
        .graphql(
            &key,
            "{ runQueues { name items(waiting: true) { edges { node { id } } } } }",
            json!({}),
        )
        .await
        .data();
    let order: Vec<&Value> = waiting["runQueues"]
        .as_array()
        .expect("queues")
        .iter()
        .filter(|queue| queue["name"] == "q")
        .flat_map(|queue| queue["items"]["edges"].as_array().expect("edges"))
        .map(|edge| &edge["node"]["id"])
        .collect();
    assert_eq!(order, [&ids[2], &ids[1], &ids[0]]);

    let moved = server
        .graphql(
            &key,
            "mutation($id: ID!) { moveRunQueueItem(input: {runQueueItemId: $id, queueName: \"q2\", priority: 1}) \
             { item { queueName priority } } }",
            json!({"id": ids[0]}),
        )
        .await
        .data();
    assert_eq!(
        moved["moveRunQueueItem"]["item"],
        json!({"queueName": "q2", "priority": 1})
    );

    let cancelled = server
        .graphql(
            &key,
            "mutation($id: ID!) { cancelRunQueueItem(input: {runQueueItemId: $id}) { item { state label } } }",
            json!({"id": ids[1]}),
        )
        .await
        .data();
    assert_eq!(
        cancelled["cancelRunQueueItem"]["item"],
        json!({"state": "KILLED", "label": "Killed"})
    );

    let retried = server
        .graphql(
            &key,
            "mutation($id: ID!) { retryRunQueueItem(input: {runQueueItemId: $id}) \
             { item { id state label waitReason { code } } } }",
            json!({"id": ids[1]}),
        )
        .await
        .data();
    let item = &retried["retryRunQueueItem"]["item"];
    assert_ne!(item["id"], ids[1]);
    assert_eq!(item["label"], "Idle", "no agent serves the queue");
    assert_eq!(item["waitReason"]["code"], "no-agent");

    let events = server
        .graphql(
            &key,
            "query($id: ID!) { runQueueItem(id: $id) { events { kind actor } } }",
            json!({"id": ids[1]}),
        )
        .await
        .data();
    let kinds: Vec<&str> = events["runQueueItem"]["events"]
        .as_array()
        .expect("events")
        .iter()
        .filter_map(|event| event["kind"].as_str())
        .collect();
    assert_eq!(kinds, ["pushed", "killed"]);
}

#[tokio::test]
async fn bad_pushes_are_refused_with_the_reason() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    server.queue(&key, "alice", "q").await;
    let mut with_key = image("1");
    with_key["_wandb_api_key"] = json!("secret");
    let mut other_entity = image("1");
    other_entity["entity"] = json!("bob");
    let cases = [
        ("q", json!({}), 400, "BAD_USER_INPUT"),
        ("q", json!([]), 400, "BAD_USER_INPUT"),
        ("q", with_key, 400, "BAD_USER_INPUT"),
        ("q", other_entity, 404, "NOT_FOUND"),
        (
            "q",
            json!({"job": "a/b/c", "resource": "kubernetes"}),
            400,
            "BAD_USER_INPUT",
        ),
        ("nowhere", image("1"), 404, "NOT_FOUND"),
    ];
    for (queue, spec, status, code) in cases {
        let error = push_answer(&server, &key, queue, &spec).await.error();
        assert_eq!((error.0, error.1.as_str()), (status, code), "{spec}: {}", error.2);
        assert!(!error.2.contains("secret"), "{}", error.2);
    }
}

#[tokio::test]
async fn a_preempted_run_is_queued_again_with_the_key_of_its_old_attempt_which_is_not_kept() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    server.queue(&key, "alice", "q").await;
    push(&server, &key, "q", &image("1")).await;
    let popped = pop(&server, &key, "q").await;
    let ack = json!({"itemId": popped["runQueueItemId"], "runId": "run1"});
    server.official(&key, "ackRunQueueItem", ack).await.data();
    let mut again = popped["runSpec"].clone();
    let run_key = again["_wandb_api_key"].as_str().expect("a run key").to_owned();
    again["run_id"] = json!("run1");
    again["_resume_count"] = json!(1);

    let changed = |field: &str, value: Value| {
        let mut spec = again.clone();
        spec[field] = value;
        spec
    };
    let mut forged = run_key.clone();
    let last = if forged.pop() == Some('0') { '1' } else { '0' };
    forged.push(last);
    let mut nested = again.clone();
    nested["overrides"] = json!({"run_config": {"_wandb_api_key": run_key}});
    for (why, spec) in [
        ("another run", changed("run_id", json!("run2"))),
        ("no run", changed("run_id", json!(null))),
        ("another project", changed("project", json!("elsewhere"))),
        ("another author", changed("author", json!("bob"))),
        ("a forged key", changed("_wandb_api_key", json!(forged))),
        ("a person's key", changed("_wandb_api_key", json!(key))),
        ("a key elsewhere", nested),
    ] {
        let (status, _, message) = push_answer(&server, &key, "q", &spec).await.error();
        assert_eq!(status, 400, "{why}");
        assert!(message.contains("_wandb_api_key"), "{why}: {message}");
        assert!(
            !message.contains(&run_key) && !message.contains(&key),
            "{why}: {message}"
        );
    }

    let id = push(&server, &key, "q", &again).await;
    let shown = server
        .graphql(
            &key,
            "query($i: ID!) { runQueueItem(id: $i) { submittedSpec finalSpec } }",
            json!({"i": id}),
        )
        .await;
    let kept = shown.data()["runQueueItem"].to_string();
    assert!(!kept.contains("_wandb_api_key") && kept.contains("run1"), "{kept}");
    let next = pop(&server, &key, "q").await;
    let next_key = next["runSpec"]["_wandb_api_key"].as_str().expect("a run key");
    assert_ne!(next_key, run_key, "the new attempt has a key of its own");
}

#[tokio::test]
async fn a_clock_that_jumps_loses_nothing_and_ends_no_lease() {
    const DAY: i64 = 86_400_000;
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    server.queue(&key, "alice", "q").await;
    server.app.store.tick(server.app.now()).await.expect("a tick");
    let held = push(&server, &key, "q", &image("1")).await;
    let popped = pop(&server, &key, "q").await;
    let ack = json!({"itemId": popped["runQueueItemId"], "runId": "run1"});
    server.official(&key, "ackRunQueueItem", ack.clone()).await.data();

    let mut waiting = Vec::new();
    for (number, jump) in [-DAY, 3 * DAY, -10 * DAY, 3_650 * DAY].into_iter().enumerate() {
        server.pass(jump);
        server.app.store.tick(server.app.now()).await.expect("a tick");
        waiting.push(push(&server, &key, "q", &image(&format!("w{number}"))).await);
        assert_eq!(state(&server, &key, &held).await["state"], "CLAIMED", "jump {jump}");
        let again = server.official(&key, "ackRunQueueItem", ack.clone()).await.data();
        assert_eq!(again["ackRunQueueItem"]["success"], true, "jump {jump}");
        let run_key = popped["runSpec"]["_wandb_api_key"].as_str().expect("a run key");
        server.official(run_key, "Viewer", json!({})).await.data();
    }
    for expected in &waiting {
        let next = pop(&server, &key, "q").await;
        let handle = next["runQueueItemId"].as_str().expect("an item");
        let found = server
            .graphql(
                &key,
                "query($i: ID!) { runQueueItem(id: $i) { id } }",
                json!({"i": handle}),
            )
            .await
            .data();
        assert_eq!(&found["runQueueItem"]["id"], expected, "in the order of submission");
    }
}
