//! Why an item waits, as the API tells it.

use serde_json::{Value, json};

use super::TestServer;
use super::agents::register;
use super::items::{pop, push};

fn image() -> Value {
    json!({"docker": {"docker_image": "busybox:1"}, "project": "proj"})
}

/// Code of the reason, and the position.
async fn reason(server: &TestServer, key: &str, id: &str) -> (Value, Value) {
    let found = server
        .graphql(
            key,
            "query($i: ID!) { runQueueItem(id: $i) { position waitReason { code sentence } } }",
            json!({"i": id}),
        )
        .await
        .data();
    let item = &found["runQueueItem"];
    let sentence = item["waitReason"]["sentence"].as_str().unwrap_or_default();
    assert!(item["waitReason"].is_null() || !sentence.is_empty(), "{item}");
    (item["waitReason"]["code"].clone(), item["position"].clone())
}

#[tokio::test]
async fn every_reason_is_told_while_it_holds() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    let queue = server.queue(&key, "alice", "q").await;
    let first = push(&server, &key, "q", &image()).await;
    let second = push(&server, &key, "q", &image()).await;
    let third = push(&server, &key, "q", &image()).await;
    let is = async |id: &str, code: &str, position: Value| {
        assert_eq!(reason(&server, &key, id).await, (json!(code), position), "{code}");
    };
    is(&third, "no-agent", json!(3)).await;
    // Two slots.
    let agent = register(&server, &key, &queue).await;
    is(&first, "not-yet-leased", json!(1)).await;
    is(&third, "position", json!(3)).await;

    let popped = server
        .graphql(
            &key,
            "mutation($a: ID!) { popRunQueueItems(input: {launchAgentId: $a, limit: 2}) { items { runQueueItemId } } }",
            json!({"a": agent}),
        )
        .await
        .data();
    let handle = popped["popRunQueueItems"]["items"][0]["runQueueItemId"].clone();
    is(&first, "starting", json!(null)).await;
    is(&second, "starting", json!(null)).await;
    is(&third, "agent-full", json!(1)).await;

    let warn =
        json!({"runQueueItemId": handle, "message": "no node has a GPU", "stage": "run", "filePaths": ["a.log"]});
    let warned = server
        .official(&key, "updateRunQueueItemWarning", warn.clone())
        .await
        .data();
    assert_eq!(warned["updateRunQueueItemWarning"]["success"], true);
    is(&first, "warning", json!(null)).await;
    let shown = server
        .graphql(
            &key,
            "query($i: ID!) { runQueueItem(id: $i) { warning { stage message filePaths } waitReason { sentence } } }",
            json!({"i": first}),
        )
        .await
        .data();
    assert_eq!(
        shown["runQueueItem"],
        json!({"warning": {"stage": "run", "message": "no node has a GPU", "filePaths": ["a.log"]},
            "waitReason": {"sentence": "no node has a GPU"}})
    );

    let drain = "mutation($a: ID!, $d: Boolean!) { drainLaunchAgent(input: {launchAgentId: $a, drain: $d}) \
                 { agent { drainRequested } } }";
    server.graphql(&key, drain, json!({"a": agent, "d": true})).await.data();
    is(&third, "agents-draining", json!(1)).await;
    let official = server
        .official(&key, "LaunchAgent", json!({"agentId": agent}))
        .await
        .data();
    assert_eq!(
        official["launchAgent"]["stopPolling"], true,
        "the official word for a drain"
    );
    server
        .graphql(&key, drain, json!({"a": agent, "d": false}))
        .await
        .data();

    let pause = "mutation($q: ID!) { pauseRunQueue(input: {queueID: $q, paused: true}) { queue { paused } } }";
    server.graphql(&key, pause, json!({"q": queue})).await.data();
    is(&third, "queue-paused", json!(1)).await;

    // The holder is not heard from any more; it had recorded its start.
    let ack = json!({"itemId": handle, "runId": "run1"});
    server.official(&key, "ackRunQueueItem", ack).await.data();
    let start = "mutation($a: ID!, $i: [ID!]!) { startRunQueueItems(input: {launchAgentId: $a, runQueueItemIds: $i}) \
                 { results { success } } }";
    server
        .graphql(&key, start, json!({"a": agent, "i": [handle]}))
        .await
        .data();
    for _ in 0..14 {
        server.app.store.tick(server.app.now()).await.expect("a turn");
        server.pass(5_000);
    }
    server.app.store.tick(server.app.now()).await.expect("a turn");
    is(&first, "agent-lost", json!(null)).await;
    // A stale handle warns of nothing.
    let back = pop(&server, &key, "q").await;
    assert_eq!(back, json!(null), "the queue is paused");
    let stale = json!({"runQueueItemId": second, "message": "m", "stage": "run"});
    let warned = server.official(&key, "updateRunQueueItemWarning", stale).await.data();
    assert_eq!(warned["updateRunQueueItemWarning"]["success"], false);
}

#[tokio::test]
async fn an_agent_is_active_by_the_time_in_which_a_server_listened() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    let queue = server.queue(&key, "alice", "q").await;
    let tick = async || server.app.store.tick(server.app.now()).await.expect("a turn");
    tick().await;
    let agent = register(&server, &key, &queue).await;
    let active = async || {
        let found = server
            .graphql(
                &key,
                "query($a: ID!) { launchAgent(id: $a) { active } runQueues { active } }",
                json!({"a": agent}),
            )
            .await
            .data();
        (
            found["launchAgent"]["active"].clone(),
            found["runQueues"][0]["active"].clone(),
        )
    };
    // Nobody listened for an hour: the agent has a full term again, for itself as for its queue.
    server.pass(3_600_000);
    tick().await;
    assert_eq!(active().await, (json!(true), json!(true)));
    for _ in 0..13 {
        server.pass(5_000);
        tick().await;
    }
    assert_eq!(active().await, (json!(false), json!(false)));
}

#[tokio::test]
async fn sweeps_do_not_exist_and_files_of_runs_are_known_to_have_come() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    let run = json!({"name": "r1", "project": "proj", "entity": "alice"});
    server.official(&key, "UpsertBucket", run).await.data();
    let sweep = json!({"entity": "alice", "project": "proj", "sweep": "none"});
    let found = server.official(&key, "GetSweepState", sweep).await.data();
    assert_eq!(found["project"], json!({"sweep": null}));
    let make = "mutation($c: String) { upsertSweep(input: {config: $c}) { sweep { name } configValidationWarnings } }";
    let refused = server.graphql(&key, make, json!({"c": "method: grid"})).await;
    let (status, _, message) = refused.error();
    assert!(
        status == 400 && message.contains("this server keeps no sweeps"),
        "{status} {message}"
    );
    let asked = "{ serverInfo { cliVersionInfo } }";
    let info = server.graphql(&key, asked, json!({})).await.data();
    let versions = json!({"min_cli_version": "0.28.2", "max_cli_version": "0.31.0"});
    assert_eq!(info["serverInfo"]["cliVersionInfo"], versions);
    let files = json!({"entity": "alice", "project": "proj", "run": "r1", "files": ["a.txt"]});
    let marked = server.official(&key, "MarkRunFilesUploaded", files).await.data();
    assert_eq!(marked["markRunFilesUploaded"]["success"], true);
}
