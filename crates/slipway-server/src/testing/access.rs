//! Who may do what, over GraphQL.

use serde_json::json;
use slipway_model::identity::Role;

use super::{START, TestServer};

#[tokio::test]
async fn outsiders_learn_nothing_of_a_queue() {
    let server = TestServer::new().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let queue = server.queue(&alice, "alice", "q").await;
    let names = json!({"entityName": "alice", "projectName": "model-registry", "runQueue": "q"});
    let found = server.official(&bob, "GetRunQueueMetadata", names).await.data();
    assert_eq!(found["project"], json!(null));
    let found = server
        .official(&bob, "EntityIsTeam", json!({"entity": "alice"}))
        .await
        .data();
    assert_eq!(found["entity"], json!(null));
    let listed = server.graphql(&bob, "{ runQueues { name } }", json!({})).await.data();
    assert_eq!(listed["runQueues"], json!([]));

    let push = json!({
        "entityName": "alice", "projectName": "model-registry", "queueName": "q",
        "runSpec": json!({"docker": {"docker_image": "a"}}).to_string(),
    });
    assert_eq!(server.official(&bob, "pushToRunQueueByName", push).await.error().0, 404);
    assert_eq!(
        server
            .official(&bob, "DeleteRunQueue", json!({"id": queue}))
            .await
            .error()
            .0,
        404
    );
    let header = [("use-admin-privileges", "true")];
    let viewer = server
        .graphql_as(&bob, &header, "{ entity(name: \"alice\") { id } }", json!({}))
        .await;
    assert_eq!(viewer.data()["entity"], json!(null), "the header grants nothing");
}

#[tokio::test]
async fn roles_decide_in_a_team() {
    let server = TestServer::new().await;
    let admin = server.user("admin").await;
    let member = server.user("member").await;
    let viewer = server.user("viewer").await;
    let store = &server.app.store;
    store.create_team("team", "admin", START).await.expect("a team");
    store
        .set_member("team", "member", Some(Role::Member))
        .await
        .expect("a member");
    store
        .set_member("team", "viewer", Some(Role::Viewer))
        .await
        .expect("a viewer");
    server.queue(&admin, "team", "q").await;

    let upsert = json!({
        "entityName": "team", "projectName": "model-registry", "queueName": "q",
        "resourceType": "local-container", "resourceConfig": "{}",
    });
    let push = json!({
        "entityName": "team", "projectName": "model-registry", "queueName": "q",
        "runSpec": json!({"docker": {"docker_image": "a"}}).to_string(),
    });
    for (key, may_edit, may_push) in [(&admin, 200, 200), (&member, 403, 200), (&viewer, 403, 403)] {
        let edited = server.official(key, "UpsertRunQueue", upsert.clone()).await;
        assert_eq!(edited.status.as_u16(), may_edit);
        let pushed = server.official(key, "pushToRunQueueByName", push.clone()).await;
        assert_eq!(pushed.status.as_u16(), may_push);
        pushed.delivered();
    }
}

#[tokio::test]
async fn only_a_service_account_acts_for_a_member_of_its_team() {
    let server = TestServer::new().await;
    let admin = server.user("admin").await;
    server.user("member").await;
    server.user("stranger").await;
    let store = &server.app.store;
    store.create_team("team", "admin", START).await.expect("a team");
    store
        .set_member("team", "member", Some(Role::Member))
        .await
        .expect("a member");
    let service = server.service("robot", "team").await;
    server.queue(&admin, "team", "q").await;
    let push = "mutation($s: JSONString!) { pushToRunQueueByName(input: {entityName: \"team\", queueName: \"q\", \
                runSpec: $s}) { item { author } } }";
    let spec = json!({"s": json!({"docker": {"docker_image": "a"}}).to_string()});
    for (key, named, author) in [
        (&service, "member", "member"),
        (&service, "stranger", "robot"),
        (&admin, "member", "admin"),
    ] {
        let headers = [("x-wandb-username", named)];
        let pushed = server.graphql_as(key, &headers, push, spec.clone()).await;
        assert_eq!(
            pushed.data()["pushToRunQueueByName"]["item"]["author"],
            author,
            "{named}"
        );
        pushed.delivered();
    }
}

#[tokio::test]
async fn a_revoked_key_ends_at_once() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    let viewer = server.official(&key, "GetViewer", json!({})).await.data();
    let id = viewer["viewer"]["apiKeys"]["edges"][0]["node"]["id"].clone();
    server
        .graphql(
            &key,
            "mutation($id: ID!) { revokeApiKey(input: {id: $id}) { success } }",
            json!({"id": id}),
        )
        .await
        .data();
    assert_eq!(server.official(&key, "Viewer", json!({})).await.error().0, 401);
}

#[tokio::test]
async fn administrators_make_users_and_teams_and_others_do_not() {
    let server = TestServer::new().await;
    let root = server.admin("root").await;
    let alice = server.user("alice").await;
    let create = "mutation($n: String!) { createUser(input: {username: $n}) { user { username entity } apiKey } }";
    let refused = server.graphql(&alice, create, json!({"n": "bob"})).await;
    assert_eq!(refused.error().0, 403);
    let made = server.graphql(&root, create, json!({"n": "bob"})).await.data();
    assert_eq!(made["createUser"]["user"], json!({"username": "bob", "entity": "bob"}));
    let key = made["createUser"]["apiKey"].as_str().expect("a key").to_owned();
    let viewer = server.official(&key, "Viewer", json!({})).await.data();
    assert_eq!(viewer["viewer"]["username"], "bob");
    let again = server.graphql(&root, create, json!({"n": "bob"})).await;
    assert_eq!(again.error().0, 409);
}

/// A team whose queue `open` takes overrides and whose queue `guarded` takes template values only,
/// with an ended item of its member in `open` and a waiting one.
async fn guarded_team(server: &TestServer) -> (String, String, [String; 2]) {
    let admin = server.user("admin").await;
    let member = server.user("member").await;
    let store = &server.app.store;
    store.create_team("team", "admin", START).await.expect("a team");
    let role = Some(Role::Member);
    store.set_member("team", "member", role).await.expect("a member");
    make_queue(server, &admin, "open", json!({}), None).await;
    let variables = json!({"memory": {"schema": {"type": "string", "enum": ["1g"], "default": "1g"}}});
    make_queue(
        server,
        &admin,
        "guarded",
        json!({"memory": "{{memory}}"}),
        Some(variables),
    )
    .await;
    let mut items = Vec::new();
    for _ in 0..2 {
        let spec = json!({"docker": {"docker_image": "a"}, "resource_args": {"local-container": {"memory": "64g"}}});
        let document = "mutation($spec: JSONString!, $key: String!) { pushToRunQueueByName(input: {entityName: \
                        \"team\", projectName: \"model-registry\", queueName: \"open\", runSpec: $spec, \
                        idempotencyKey: $key}) { runQueueItemId } }";
        let variables = json!({"spec": spec.to_string(), "key": format!("k{}", items.len())});
        let pushed = server.graphql(&member, document, variables).await.data();
        let id = pushed["pushToRunQueueByName"]["runQueueItemId"].as_str();
        items.push(id.expect("an item").to_owned());
    }
    let cancel = "mutation($id: ID!) { cancelRunQueueItem(input: {runQueueItemId: $id}) { item { state } } }";
    server.graphql(&member, cancel, json!({"id": items[0]})).await.data();
    let [ended, waiting] = <[String; 2]>::try_from(items).expect("two items");
    (admin, member, [ended, waiting])
}

async fn make_queue(
    server: &TestServer,
    key: &str,
    name: &str,
    config: serde_json::Value,
    variables: Option<serde_json::Value>,
) {
    let made = json!({
        "entityName": "team", "projectName": "model-registry", "queueName": name,
        "resourceType": "local-container", "resourceConfig": config.to_string(),
        "templateVariables": variables.map(|variables| variables.to_string()),
    });
    server.official(key, "UpsertRunQueue", made).await.data();
}

const RETRY: &str = "mutation($id: ID!) { retryRunQueueItem(input: {runQueueItemId: $id}) { item { state } } }";

#[tokio::test]
async fn an_item_cannot_be_moved_around_a_queues_guardrails() {
    let server = TestServer::new().await;
    let (admin, member, [_, waiting]) = guarded_team(&server).await;
    let document = "mutation($id: ID!) { moveRunQueueItem(input: {runQueueItemId: $id, queueName: \"guarded\"}) \
                    { item { queueName } } }";
    let id = json!({ "id": waiting });
    let (status, _, message) = server.graphql(&member, document, id.clone()).await.error();
    assert_eq!(status, 400, "{message}");
    assert!(message.contains("/resource_args/local-container/memory"), "{message}");
    let moved = server.graphql(&admin, document, id).await.data();
    assert_eq!(
        moved["moveRunQueueItem"]["item"]["queueName"], "guarded",
        "its owner may"
    );
}

#[tokio::test]
async fn a_retry_meets_the_queues_guardrails_as_they_are_now() {
    let server = TestServer::new().await;
    let (admin, member, [ended, _]) = guarded_team(&server).await;
    let id = json!({ "id": ended });
    server.graphql(&member, RETRY, id.clone()).await.data();
    let variables = json!({"memory": {"schema": {"type": "string", "enum": ["1g"], "default": "1g"}}});
    make_queue(
        &server,
        &admin,
        "open",
        json!({"memory": "{{memory}}"}),
        Some(variables),
    )
    .await;
    let (status, _, message) = server.graphql(&member, RETRY, id.clone()).await.error();
    assert_eq!(status, 400, "{message}");
    server.graphql(&admin, RETRY, id).await.data();
}

#[tokio::test]
async fn a_retry_launches_only_where_the_retrier_may() {
    let server = TestServer::new().await;
    let (_, member, _) = guarded_team(&server).await;
    let other = server.user("other").await;
    let role = Some(Role::Member);
    server
        .app
        .store
        .set_member("team", "other", role)
        .await
        .expect("a member");
    let spec = json!({"docker": {"docker_image": "a"}, "entity": "member", "project": "own"});
    let push = json!({
        "entityName": "team", "projectName": "model-registry", "queueName": "open", "runSpec": spec.to_string(),
    });
    let pushed = server.official(&member, "pushToRunQueueByName", push).await.data();
    let id = json!({"id": pushed["pushToRunQueueByName"]["runQueueItemId"]});
    let cancel = "mutation($id: ID!) { cancelRunQueueItem(input: {runQueueItemId: $id}) { item { state } } }";
    server.graphql(&other, cancel, id.clone()).await.data();
    assert_eq!(server.graphql(&other, RETRY, id.clone()).await.error().0, 404);
    server.graphql(&member, RETRY, id).await.data();
}

#[tokio::test]
async fn whoever_pops_an_item_cannot_read_its_authors_other_entities_with_the_run_key() {
    let server = TestServer::new().await;
    let author = server.user("author").await;
    let member = server.user("member").await;
    let store = &server.app.store;
    for team in ["team", "secret"] {
        store.create_team(team, "author", START).await.expect("a team");
    }
    for team in ["team", "secret"] {
        server.queue(&author, team, "q").await;
    }
    let role = Some(Role::Member);
    store.set_member("team", "member", role).await.expect("a member");
    for project in ["own", "code", "private"] {
        let made = json!({"input": {"entityName": "author", "name": project}});
        server.official(&author, "CreateProject", made).await.data();
    }
    let own_queue = json!({
        "entityName": "author", "projectName": "own", "queueName": "hidden", "resourceType": "local-container",
        "resourceConfig": "{}", "prioritizationMode": "V0",
    });
    server.official(&author, "UpsertRunQueue", own_queue).await.data();
    let hidden = "{ project(name: \"own\", entityName: \"author\") { runQueues { name defaultResourceConfigID } \
                  runQueue(name: \"hidden\") { name } } }";
    let queues = server.graphql(&author, hidden, json!({})).await.data()["project"].clone();
    assert_eq!(queues["runQueue"]["name"], "hidden");
    let config = queues["runQueues"][0]["defaultResourceConfigID"].clone();
    let spec = json!({"job": "author/code/train:latest", "entity": "author", "project": "own"});
    let push = json!({
        "entityName": "team", "projectName": "model-registry", "queueName": "q", "runSpec": spec.to_string(),
    });
    server.official(&author, "pushToRunQueueByName", push).await.delivered();
    let names = json!({"entity": "team", "project": "model-registry", "queueName": "q", "launchAgentId": null});
    let popped = server.official(&member, "popFromRunQueue", names).await.data()["popFromRunQueue"].clone();
    let ack = json!({"itemId": popped["runQueueItemId"], "runId": "r1"});
    let acked = server.official(&member, "ackRunQueueItem", ack).await.data();
    assert_eq!(acked["ackRunQueueItem"]["success"], true);
    let key = popped["runSpec"]["_wandb_api_key"].as_str().expect("a run key");

    let listed = server
        .graphql(key, "{ runQueues { entityName } }", json!({}))
        .await
        .data();
    assert_eq!(listed["runQueues"], json!([{"entityName": "team"}]));
    let viewer = "{ viewer { username apiKeys { edges { node { id } } } teams { edges { node { name } } } } }";
    assert_eq!(
        server.graphql(key, viewer, json!({})).await.data()["viewer"],
        json!({"username": "author", "apiKeys": {"edges": []}, "teams": {"edges": [{"node": {"name": "team"}}]}})
    );
    let project = "query($e: String!, $p: String!) { project(name: $p, entityName: $e) { name } entity(name: $e) \
                   { name } }";
    for (entity, project_name, project_seen, entity_seen) in [
        ("author", "own", true, true),
        ("author", "code", true, true),
        ("author", "private", false, true),
        ("team", "model-registry", true, true),
        ("secret", "model-registry", false, false),
    ] {
        let answer = server
            .graphql(key, project, json!({"e": entity, "p": project_name}))
            .await
            .data();
        assert_eq!(answer["project"].is_object(), project_seen, "{entity}/{project_name}");
        assert_eq!(answer["entity"].is_object(), entity_seen, "{entity}");
    }
    let answer = server.graphql(key, hidden, json!({})).await.data();
    assert_eq!(answer["project"], json!({"runQueues": [], "runQueue": null}));
    let revision = "query($i: ID!) { entity(name: \"author\") { defaultResourceConfig(id: $i) { config } } }";
    let variables = json!({"i": config});
    let seen = server.graphql(&author, revision, variables.clone()).await.data();
    assert!(seen["entity"]["defaultResourceConfig"].is_object());
    let unseen = server.graphql(key, revision, variables).await.data();
    assert_eq!(unseen["entity"]["defaultResourceConfig"], json!(null));
    let own_run = json!({"entity": "author", "project": "own", "name": "r1"});
    server.official(key, "UpsertBucket", own_run).await.data();
}

#[tokio::test]
async fn a_key_ends_when_it_was_made_to() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    let make = "mutation($at: DateTime) { createApiKey(input: {expiresAt: $at}) { apiKey } }";
    let past = json!({"at": crate::graphql::scalars::iso(super::START)});
    let (status, _, message) = server.graphql(&key, make, past).await.error();
    assert_eq!(status, 400, "{message}");
    let soon = json!({"at": crate::graphql::scalars::iso(super::START + 60_000)});
    let made = server.graphql(&key, make, soon).await.data();
    let made = made["createApiKey"]["apiKey"].as_str().expect("a key").to_owned();
    server.official(&made, "Viewer", json!({})).await.data();
    server.pass(60_000);
    assert_eq!(server.official(&made, "Viewer", json!({})).await.error().0, 401);
    server.official(&key, "Viewer", json!({})).await.data();
}
