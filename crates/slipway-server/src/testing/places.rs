//! Where things are: queues and their projects, runs and their entities, and who finds them.

use axum::body::Body;
use axum::http::{Request, header};
use serde_json::{Value, json};
use slipway_model::identity::Role;

use super::items::{pop, push};
use super::{TestServer, basic};

fn image() -> Value {
    json!({"docker": {"docker_image": "busybox:1"}})
}

async fn page(server: &TestServer, key: &str, path: &str) -> String {
    let request = Request::get(path).header(header::AUTHORIZATION, basic(key));
    let answer = server.send(request.body(Body::empty()).expect("a request")).await;
    assert_eq!(answer.status.as_u16(), 200, "{path}");
    String::from_utf8(answer.body).expect("text")
}

#[tokio::test]
async fn an_entity_that_never_had_a_queue_has_the_project_of_queues() {
    let server = TestServer::new().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let admin = server.admin("root").await;
    let names = |entity: &str| json!({"entity": entity, "projectName": "model-registry"});
    for key in [&alice, &alice, &admin] {
        let found = server.official(key, "ProjectRunQueues", names("alice")).await.data();
        assert_eq!(found["project"], json!({"runQueues": []}));
    }
    for (key, entity) in [(&bob, "alice"), (&admin, "nobody")] {
        let found = server.official(key, "ProjectRunQueues", names(entity)).await.data();
        assert_eq!(found["project"], json!(null), "{entity}");
    }
    // With it the official client makes the queue that it misses, and pushes by its id.
    let made = server
        .official(
            &alice,
            "CreateRunQueue",
            json!({"entity": "alice", "project": "model-registry", "queueName": "default", "access": "PROJECT"}),
        )
        .await
        .data();
    let spec = json!({"docker": {"docker_image": "busybox:1"}, "resource": "local-container"});
    let legacy = json!({"queueID": made["createRunQueue"]["queueID"], "runSpec": spec.to_string()});
    let pushed = server.official(&alice, "pushToRunQueue", legacy).await.data();
    let id = &pushed["pushToRunQueue"]["runQueueItemId"];
    assert!(id.is_string(), "{pushed}");
    let popped = pop(&server, &alice, "default").await;
    assert_eq!(popped["runSpec"]["docker"]["docker_image"], "busybox:1");
}

#[tokio::test]
async fn the_run_of_a_push_goes_to_any_entity_in_which_the_pusher_may_write() {
    let server = TestServer::new().await;
    let store = &server.app.store;
    let key = server.user("alice").await;
    server.user("bob").await;
    for (team, role) in [("ours", Role::Member), ("theirs", Role::Viewer)] {
        store.create_team(team, "bob", super::START).await.expect("a team");
        store.set_member(team, "alice", Some(role)).await.expect("a member");
    }
    server.queue(&key, "alice", "q").await;
    for (entity, expected) in [("alice", 200), ("ours", 200), ("theirs", 403), ("bob", 404)] {
        let mut spec = image();
        spec["entity"] = json!(entity);
        let one = json!({"entityName": "alice", "projectName": "model-registry", "queueName": "q",
            "runSpec": spec.to_string()});
        let answer = server.official(&key, "pushToRunQueueByName", one).await;
        assert_eq!(answer.status.as_u16(), expected, "{entity}");
        if expected != 200 {
            let (.., message) = answer.error();
            assert!(message.contains("the run spec's `/entity`"), "{message}");
        }
    }
}

#[tokio::test]
async fn an_item_moves_to_a_queue_beside_its_own_or_where_the_caller_says() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    for (project, name) in [
        ("mine", "from"),
        ("mine", "beside"),
        ("mine", "twice"),
        ("model-registry", "twice"),
        ("model-registry", "usual"),
        ("far", "away"),
    ] {
        let made = server
            .official(
                &key,
                "UpsertRunQueue",
                json!({"entityName": "alice", "projectName": project, "queueName": name,
                    "resourceType": "local-container", "resourceConfig": "{}"}),
            )
            .await;
        made.data();
    }
    let pushed = server
        .official(
            &key,
            "pushToRunQueueByName",
            json!({"entityName": "alice", "projectName": "mine", "queueName": "from", "runSpec": image().to_string()}),
        )
        .await
        .data();
    let id = &pushed["pushToRunQueueByName"]["runQueueItemId"];
    let move_to = "mutation($i: ID!, $q: String!, $p: String, $n: Int) { moveRunQueueItem(input: {runQueueItemId: $i, \
                   queueName: $q, projectName: $p, priority: $n}) { item { queueName } } }";
    let medium = Some(2);
    for (name, project, priority, found) in [
        ("beside", None, None, Ok(())),
        ("twice", None, None, Ok(())),
        // It stays where it is.
        ("twice", None, medium, Ok(())),
        // Not the one that it is in.
        ("twice", None, None, Ok(())),
        ("twice", None, None, Err(409)),
        ("usual", None, medium, Ok(())),
        ("away", None, None, Err(404)),
        ("usual", Some("far"), None, Err(404)),
        ("away", Some("far"), None, Ok(())),
    ] {
        let answer = server
            .graphql(&key, move_to, json!({"i": id, "q": name, "p": project, "n": priority}))
            .await;
        match found {
            Ok(()) => assert_eq!(answer.data()["moveRunQueueItem"]["item"]["queueName"], name),
            Err(status) => assert_eq!(answer.error().0, status, "{name} {project:?}"),
        }
    }
}

#[tokio::test]
async fn the_page_of_a_queue_shows_its_links() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    let links = json!({"links": [{"label": "Grafana <1>", "url": "https://grafana.example/d?a=1&b=2"}]});
    let made = server
        .official(
            &key,
            "UpsertRunQueue",
            json!({"entityName": "alice", "projectName": "model-registry", "queueName": "q",
                "resourceType": "local-container", "resourceConfig": "{}", "externalLinks": links.to_string()}),
        )
        .await;
    made.data();
    let html = page(&server, &key, "/launch/alice/q").await;
    for part in [
        "href=\"https://grafana.example/d?a=1&amp;b=2\"",
        "rel=\"noopener noreferrer\"",
        "Grafana &lt;1&gt;",
    ] {
        assert!(html.contains(part), "{part}: {html}");
    }
}

#[tokio::test]
async fn an_administrator_sees_every_queue_on_the_launch_page() {
    let server = TestServer::new().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let admin = server.admin("root").await;
    server
        .app
        .store
        .create_team("vision", "bob", super::START)
        .await
        .expect("a team");
    let added = server.app.store.set_member("vision", "alice", Some(Role::Viewer)).await;
    added.expect("a member");
    server.queue(&alice, "alice", "of-alice").await;
    server.queue(&bob, "vision", "of-vision").await;
    for (key, of_alice, of_vision) in [(&admin, true, true), (&alice, true, true), (&bob, false, true)] {
        let html = page(&server, key, "/launch").await;
        assert_eq!(
            (html.contains("of-alice"), html.contains("of-vision")),
            (of_alice, of_vision),
            "{html}"
        );
    }
}

#[tokio::test]
async fn an_item_keeps_the_configuration_of_its_push_and_a_queue_its_macros() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    let configure = async |name: &str| {
        let config = json!({"resource_args": {"local-container": {"name": name, "env": ["RUN=${run_id}"]}}});
        let made = server
            .official(
                &key,
                "UpsertRunQueue",
                json!({"entityName": "alice", "projectName": "model-registry", "queueName": "q",
                    "resourceType": "local-container", "resourceConfig": config.to_string()}),
            )
            .await;
        made.data();
    };
    configure("old").await;
    let before = push(&server, &key, "q", &image()).await;
    configure("new").await;
    let after = push(&server, &key, "q", &image()).await;
    for (id, expected) in [(&before, "old"), (&after, "new")] {
        let shown = server
            .graphql(
                &key,
                "query($i: ID!) { runQueueItem(id: $i) { finalSpec } }",
                json!({"i": id}),
            )
            .await
            .data();
        let arguments = &shown["runQueueItem"]["finalSpec"]["resource_args"]["local-container"];
        assert_eq!(arguments["name"], expected);
    }
    let popped = pop(&server, &key, "q").await;
    let arguments = &popped["runSpec"]["resource_args"]["local-container"];
    assert_eq!(arguments["name"], "old");
    let ack = json!({"itemId": popped["runQueueItemId"], "runId": "run1"});
    server.official(&key, "ackRunQueueItem", ack).await.data();
    let names = json!({"entityName": "alice", "projectName": "model-registry", "runQueue": "q"});
    let queue = server.official(&key, "GetRunQueueMetadata", names).await.data();
    let config = server
        .official(
            &key,
            "GetDefaultResourceConfig",
            json!({"entityName": "alice", "id": queue["project"]["runQueue"]["defaultResourceConfigID"]}),
        )
        .await
        .data();
    let stored = &config["entity"]["defaultResourceConfig"]["config"];
    assert_eq!(stored["resource_args"]["local-container"]["env"][0], "RUN=${run_id}");
    let html = page(&server, &key, "/launch/alice/q").await;
    assert!(html.contains("RUN=${run_id}"), "{html}");
}
