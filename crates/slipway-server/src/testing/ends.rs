//! Items that nobody would take any more, or whose run falls silent: they end, and say why.

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use serde_json::{Value, json};

use super::agents::register;
use super::items::{pop, push};
use super::{Answer, TestServer, basic};

/// A server on which alice's agent has acknowledged an item as the run `run1`.
struct Held {
    server: TestServer,
    key: String,
    queue: String,
    agent: Value,
    item: String,
    handle: Value,
}

impl Held {
    async fn new() -> Self {
        let server = TestServer::new().await;
        let key = server.user("alice").await;
        let queue = server.queue(&key, "alice", "q").await;
        let agent = register(&server, &key, &queue).await;
        let item = push(&server, &key, "q", &image()).await;
        let popped = server
            .graphql(
                &key,
                "mutation($a: ID!) { popRunQueueItems(input: {launchAgentId: $a, limit: 1}) \
                 { items { runQueueItemId } } }",
                json!({"a": agent}),
            )
            .await
            .data();
        let handle = popped["popRunQueueItems"]["items"][0]["runQueueItemId"].clone();
        let ack = json!({"itemId": handle, "runId": "run1"});
        server.official(&key, "ackRunQueueItem", ack).await.data();
        Self {
            server,
            key,
            queue,
            agent,
            item,
            handle,
        }
    }

    /// The agent hands the item back.
    async fn hand_back(&self, cause: &str) {
        let returned = self
            .server
            .graphql(
                &self.key,
                "mutation($input: ReturnRunQueueItemInput!) { returnRunQueueItem(input: $input) \
                 { result { success error } } }",
                json!({"input": {"launchAgentId": self.agent, "runQueueItemId": self.handle, "cause": cause}}),
            )
            .await
            .data();
        assert_eq!(
            returned["returnRunQueueItem"]["result"],
            json!({"success": true, "error": null})
        );
    }

    async fn facts(&self) -> Value {
        let found = self
            .server
            .graphql(
                &self.key,
                "query($i: ID!) { runQueueItem(id: $i) { state failure { stage reason message } waitReason { code } \
                 run { id state } } }",
                json!({"i": self.item}),
            )
            .await;
        found.data()["runQueueItem"].clone()
    }
}

async fn get(server: &TestServer, key: &str, path: &str) -> Answer {
    let request = Request::get(path).header(header::AUTHORIZATION, basic(key));
    server.send(request.body(Body::empty()).expect("a request")).await
}

async fn html(server: &TestServer, key: &str, path: &str) -> String {
    let page = get(server, key, path).await;
    assert_eq!(page.status, StatusCode::OK, "{path}");
    String::from_utf8(page.body).expect("text")
}

fn image() -> Value {
    json!({"docker": {"docker_image": "busybox:1"}, "project": "proj"})
}

#[tokio::test]
async fn stop_run_ends_the_item_that_waits_for_the_runs_next_attempt() {
    let held = Held::new().await;
    held.hand_back("PREEMPTED").await;
    let before = held.facts().await;
    assert_eq!(before["state"], "PENDING");
    let stop = json!({"id": before["run"]["id"]});
    let stopped = held.server.official(&held.key, "StopRun", stop).await.data();
    assert_eq!(stopped["stopRun"]["success"], true);
    let after = held.facts().await;
    assert_eq!(
        (&after["state"], &after["run"]["state"]),
        (&json!("KILLED"), &json!("killed"))
    );
    assert_eq!(pop(&held.server, &held.key, "q").await, json!(null));
}

#[tokio::test]
async fn stop_on_the_runs_page_ends_it_too() {
    let held = Held::new().await;
    held.hand_back("PREEMPTED").await;
    let request = Request::post("/alice/proj/runs/run1/stop")
        .header(header::HOST, "localhost:8080")
        .header(header::AUTHORIZATION, basic(&held.key));
    let answer = held.server.send(request.body(Body::empty()).expect("a request")).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    assert_eq!(held.facts().await["state"], "KILLED");
}

#[tokio::test]
async fn an_item_that_comes_back_to_a_deleted_queue_says_so() {
    let held = Held::new().await;
    let delete = json!({"id": held.queue});
    held.server.official(&held.key, "DeleteRunQueue", delete).await.data();
    held.hand_back("RELEASED").await;
    let after = held.facts().await;
    assert_eq!(
        (&after["state"], &after["failure"]["reason"], &after["waitReason"]),
        (&json!("FAILED"), &json!("queue-deleted"), &json!(null))
    );
}

#[tokio::test]
async fn the_page_of_an_item_outlives_its_queue() {
    let held = Held::new().await;
    let stranger = held.server.user("bob").await;
    let delete = json!({"id": held.queue});
    held.server.official(&held.key, "DeleteRunQueue", delete).await.data();
    held.hand_back("RELEASED").await;
    // A queue of the same name is another one.
    held.server.queue(&held.key, "alice", "q").await;
    let of_run = html(&held.server, &held.key, "/alice/proj/runs/run1").await;
    let address = format!("/launch/alice/{}/items/{}", held.queue, held.item);
    assert!(of_run.contains(&format!("href=\"{address}\"")), "{of_run}");
    for address in [address, format!("/launch/alice/q/items/{}", held.item)] {
        let page = html(&held.server, &held.key, &address).await;
        for shown in ["Failed", "after its queue had been deleted", "deleted</dd>", "run1"] {
            assert!(page.contains(shown), "{shown}: {page}");
        }
        assert!(
            !page.contains("/retry\""),
            "there is no queue to submit it to again: {page}"
        );
        let hidden = get(&held.server, &stranger, &address).await;
        assert_eq!(hidden.status, StatusCode::NOT_FOUND);
        let retried = Request::post(format!("{address}/retry"))
            .header(header::HOST, "localhost:8080")
            .header(header::AUTHORIZATION, basic(&held.key));
        let retried = held.server.send(retried.body(Body::empty()).expect("a request")).await;
        assert_eq!(retried.status, StatusCode::NOT_FOUND);
        let said = String::from_utf8(retried.body).expect("text");
        assert!(said.contains("Submit the job to another queue"), "{said}");
    }
    let elsewhere = get(&held.server, &held.key, &format!("/launch/bob/q/items/{}", held.item)).await;
    assert_eq!(elsewhere.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_log_file_of_a_failure_is_read_from_its_page() {
    let held = Held::new().await;
    let path = format!("{}/error/error.log", held.item);
    let failed = json!({"runQueueItemId": held.handle, "message": "no", "stage": "agent", "filePaths": [path]});
    held.server.official(&held.key, "failRunQueueItem", failed).await.data();
    let address = format!("/launch/alice/q/items/{}", held.item);
    let page = html(&held.server, &held.key, &address).await;
    assert!(page.contains(&format!("<code>{path}</code> (not uploaded)")), "{page}");

    // The official agent uploads it after its report, as a file of the run that has the agent's name.
    let run = json!({"entity": "alice", "project": "model-registry", "name": "a1"});
    held.server.official(&held.key, "UpsertBucket", run).await.data();
    let file = json!({"entity": "alice", "project": "model-registry", "run": "a1", "files": [path]});
    let made = held.server.official(&held.key, "CreateRunFiles", file).await.data();
    let upload = made["createRunFiles"]["files"][0]["uploadUrl"]
        .as_str()
        .expect("an address");
    let upload = &upload[upload.find("/storage").expect("a path")..];
    let sent = Request::put(upload)
        .body(Body::from("Traceback: no such image"))
        .expect("a request");
    assert_eq!(held.server.send(sent).await.status, StatusCode::OK);
    let page = html(&held.server, &held.key, &address).await;
    let link = page
        .split("href=\"")
        .find(|part| part.starts_with("/storage/"))
        .expect("a link");
    let link = link.split('"').next().expect("a link").replace("&amp;", "&");
    let log = held
        .server
        .send(Request::get(link).body(Body::empty()).expect("a request"))
        .await;
    assert_eq!(log.body, b"Traceback: no such image");
}

#[tokio::test]
async fn the_page_of_an_item_whose_run_fell_silent_says_so() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    server.queue(&key, "alice", "q").await;
    let id = push(&server, &key, "q", &image()).await;
    let handle = pop(&server, &key, "q").await["runQueueItemId"].clone();
    let ack = json!({"itemId": handle, "runId": "run1"});
    server.official(&key, "ackRunQueueItem", ack).await.data();
    let started = json!({"name": "run1", "project": "proj", "entity": "alice", "host": "h"});
    server.official(&key, "UpsertBucket", started).await.data();
    // The store counts only time in which it was asked to look.
    for _ in 0..64 {
        server.app.store.tick(server.app.now()).await.expect("a turn");
        server.pass(5_000);
    }
    let html = html(&server, &key, &format!("/launch/alice/q/items/{id}")).await;
    for shown in ["Crashed", "run-silent", "no heartbeat for 300 s"] {
        assert!(html.contains(shown), "{shown}: {html}");
    }
}
