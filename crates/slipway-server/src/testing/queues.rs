//! Queues over GraphQL, as the official client uses them.

use serde_json::json;

use super::TestServer;

#[tokio::test]
async fn a_queue_is_made_read_changed_and_deleted_by_the_official_documents() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    let config = json!({"resource_args": {"local-container": {"e": "{{cpu}}"}}});
    let variables =
        json!({"cpu": {"schema": {"type": "integer", "minimum": 1, "maximum": 4, "default": 2}, "description": "d"}});
    let made = server
        .official(
            &key,
            "CreateDefaultResourceConfig",
            json!({
                "entityName": "alice", "resource": "local-container",
                "config": config.to_string(), "templateVariables": variables.to_string(),
            }),
        )
        .await
        .data();
    let config_id = made["createDefaultResourceConfig"]["defaultResourceConfigID"].clone();
    assert_eq!(made["createDefaultResourceConfig"]["success"], true);

    let made = server
        .official(
            &key,
            "CreateRunQueue",
            json!({
                "entity": "alice", "project": "model-registry", "queueName": "q1", "access": "PROJECT",
                "prioritizationMode": "V0", "defaultResourceConfigID": config_id,
            }),
        )
        .await
        .data();
    let queue_id = made["createRunQueue"]["queueID"].clone();

    let names = json!({"entityName": "alice", "projectName": "model-registry", "runQueue": "q1"});
    let queue = server.official(&key, "GetRunQueueMetadata", names.clone()).await.data();
    let queue = &queue["project"]["runQueue"];
    assert_eq!(queue["id"], queue_id);
    assert_eq!(queue["access"], "PROJECT");
    assert_eq!(queue["prioritizationMode"], "V0");
    assert_eq!(queue["externalLinks"], json!(null));

    let read = server
        .official(
            &key,
            "GetDefaultResourceConfig",
            json!({"entityName": "alice", "id": queue["defaultResourceConfigID"]}),
        )
        .await
        .data();
    let read = &read["entity"]["defaultResourceConfig"];
    assert_eq!(read["config"], config, "an object, not a string");
    assert_eq!(
        read["templateVariables"],
        json!([{"name": "cpu", "schema": r#"{"type":"integer","minimum":1,"maximum":4,"default":2}"#}]),
        "compact, in the order written"
    );

    let changed = server
        .official(
            &key,
            "UpsertRunQueue",
            json!({
                "entityName": "alice", "projectName": "model-registry", "queueName": "q1",
                "resourceType": "local-container", "resourceConfig": "{\"e\": \"1\"}",
                "templateVariables": null, "prioritizationMode": "DISABLED",
                "externalLinks": json!({"links": [{"label": "grafana", "url": "https://g.example"}]}).to_string(),
            }),
        )
        .await
        .data();
    assert_eq!(changed["upsertRunQueue"]["success"], true);
    let queue = server.official(&key, "GetRunQueueMetadata", names.clone()).await.data();
    let queue = &queue["project"]["runQueue"];
    assert_eq!(queue["id"], queue_id, "the same queue");
    assert_eq!(queue["prioritizationMode"], "DISABLED");
    assert_eq!(queue["externalLinks"]["links"][0]["label"], "grafana");

    let deleted = server
        .official(&key, "DeleteRunQueue", json!({"id": queue_id}))
        .await
        .data();
    assert_eq!(deleted["deleteRunQueues"]["success"], true);
    let queue = server.official(&key, "GetRunQueueMetadata", names).await.data();
    assert_eq!(queue["project"]["runQueue"], json!(null));
}

#[tokio::test]
async fn an_unknown_project_is_null() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    let found = server
        .official(
            &key,
            "ProjectRunQueues",
            json!({"entity": "alice", "projectName": "nowhere"}),
        )
        .await;
    assert_eq!(found.data()["project"], json!(null));
}

#[tokio::test]
async fn bad_queues_are_refused_with_the_reason() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    let upsert = |name: &str, resource: &str, config: &str, variables: Option<&str>| {
        json!({
            "entityName": "alice", "projectName": "model-registry", "queueName": name,
            "resourceType": resource, "resourceConfig": config, "templateVariables": variables,
        })
    };
    let cases = [
        (upsert("", "kubernetes", "{}", None), "name"),
        (upsert(&"q".repeat(65), "kubernetes", "{}", None), "64"),
        (upsert("q", "mainframe", "{}", None), "mainframe"),
        (upsert("q", "kubernetes", "{\"a\": ", None), "line 1"),
        (upsert("q", "kubernetes", "{\"a\": \"{{x}}\"}", None), "x"),
        (
            upsert("q", "kubernetes", "{}", Some("{\"a\": {\"schema\": {}}}")),
            "type",
        ),
    ];
    for (variables, word) in cases {
        let (status, code, message) = server.official(&key, "UpsertRunQueue", variables.clone()).await.error();
        assert_eq!(
            (status, code.as_str()),
            (400, "BAD_USER_INPUT"),
            "{variables}: {message}"
        );
        assert!(message.contains(word), "{message} should mention {word}");
    }
}

#[tokio::test]
async fn a_paused_queue_hands_out_nothing() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    let id = server.queue(&key, "alice", "q").await;
    let pause =
        "mutation($id: ID!, $p: Boolean!) { pauseRunQueue(input: {queueID: $id, paused: $p}) { queue { paused } } }";
    let paused = server.graphql(&key, pause, json!({"id": id, "p": true})).await.data();
    assert_eq!(paused["pauseRunQueue"]["queue"]["paused"], true);
    super::items::push(&server, &key, "q", &json!({"docker": {"docker_image": "a:1"}})).await;
    assert_eq!(super::items::pop(&server, &key, "q").await, json!(null));
    server.graphql(&key, pause, json!({"id": id, "p": false})).await.data();
    assert_ne!(super::items::pop(&server, &key, "q").await, json!(null));
}
