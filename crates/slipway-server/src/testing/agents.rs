//! Agents over GraphQL: the official one and ours.

use serde_json::{Value, json};
use slipway_model::identity::Role;

use super::items::push;
use super::{START, TestServer};

/// Registers an agent of ours that serves a queue of alice; its id.
pub(super) async fn register(server: &TestServer, key: &str, queue: &str) -> Value {
    let made = server
        .graphql(
            key,
            "mutation($queues: [ID!]!) { createLaunchAgent(input: {entityName: \"alice\", runQueues: $queues, \
             hostname: \"h\", name: \"a1\", instance: \"i1\", managed: true, agentConfig: \"{\\\"max_jobs\\\": 2}\"}) \
             { launchAgentId agent { name maxJobs managed active } } }",
            json!({"queues": [queue]}),
        )
        .await
        .data();
    assert_eq!(
        made["createLaunchAgent"]["agent"],
        json!({"name": "a1", "maxJobs": 2, "managed": true, "active": true})
    );
    made["createLaunchAgent"]["launchAgentId"].clone()
}

fn image() -> Value {
    json!({"docker": {"docker_image": "busybox:1"}})
}

#[tokio::test]
async fn the_official_agent_registers_polls_and_ends() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    let queue = server.queue(&key, "alice", "q").await;
    let made = server
        .official(
            &key,
            "createLaunchAgent",
            json!({
                "entity": "alice", "project": "model-registry", "queues": [queue], "hostname": "h",
                "agentConfig": "{\"max_jobs\": 1}", "version": "wandb@0.31.0",
            }),
        )
        .await
        .data();
    let id = made["createLaunchAgent"]["launchAgentId"].clone();
    let agent = server
        .official(&key, "LaunchAgent", json!({"agentId": id}))
        .await
        .data();
    let agent = &agent["launchAgent"];
    assert_eq!(agent["stopPolling"], false);
    assert_eq!(agent["runQueues"], json!([queue]));
    let name = agent["name"].as_str().expect("a name");
    crate::graphql::names::check_run_id(name).expect("the name is a run id");

    for status in ["RUNNING", "KILLED", "POLLING"] {
        server
            .official(&key, "updateLaunchAgent", json!({"agentId": id, "agentStatus": status}))
            .await
            .data();
    }
    let agent = server
        .official(&key, "LaunchAgent", json!({"agentId": id}))
        .await
        .data();
    assert_eq!(
        agent["launchAgent"]["agentStatus"], "KILLED",
        "a late report does not revive it"
    );
    assert_eq!(agent["launchAgent"]["stopPolling"], true);
}

#[tokio::test]
async fn our_agent_takes_an_item_through_its_life_in_batches() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    let queue = server.queue(&key, "alice", "q").await;
    let id = push(&server, &key, "q", &image()).await;
    let agent = register(&server, &key, &queue).await;

    let popped = server
        .graphql(
            &key,
            "mutation($a: ID!) { popRunQueueItems(input: {launchAgentId: $a, limit: 5}) { items { runQueueItemId \
             runSpec queueName queueEntity attempt leaseTermMillis origins template } } }",
            json!({"a": agent}),
        )
        .await
        .data();
    let items = popped["popRunQueueItems"]["items"].as_array().expect("items").clone();
    assert_eq!(items.len(), 1);
    assert_eq!(items[0]["queueName"], "q");
    assert_eq!(items[0]["attempt"], 1);
    let handle = items[0]["runQueueItemId"].clone();

    let acked = server
        .graphql(
            &key,
            "mutation($a: ID!, $i: [AckRunQueueItemsItemInput!]!) { ackRunQueueItems(input: {launchAgentId: $a, \
             items: $i}) { results { success error } } }",
            json!({"a": agent, "i": [
                {"runQueueItemId": handle, "runName": "r1", "projectName": "p"},
                {"runQueueItemId": "nonsense", "runName": "r2"},
            ]}),
        )
        .await
        .data();
    assert_eq!(
        acked["ackRunQueueItems"]["results"],
        json!([{"success": true, "error": null}, {"success": false, "error": "stale"}])
    );

    for mutation in ["startRunQueueItems", "markRunQueueItemsRunning", "renewRunQueueItems"] {
        let document = format!(
            "mutation($a: ID!, $i: [ID!]!) {{ {mutation}(input: {{launchAgentId: $a, runQueueItemIds: $i}}) \
             {{ results {{ success stopRequested error }} }} }}"
        );
        let answer = server
            .graphql(&key, &document, json!({"a": agent, "i": [handle]}))
            .await
            .data();
        assert_eq!(
            answer[mutation]["results"],
            json!([{"success": true, "stopRequested": false, "error": null}]),
            "{mutation}"
        );
    }
    let held = server
        .graphql(
            &key,
            "query($a: ID!) { launchAgent(id: $a) { heldItems { handle state run { state } } } }",
            json!({"a": agent}),
        )
        .await
        .data();
    assert_eq!(held["launchAgent"]["heldItems"][0]["handle"], handle);
    assert_eq!(held["launchAgent"]["heldItems"][0]["state"], "RUNNING");

    let cancelled = server
        .graphql(
            &key,
            "mutation($i: ID!) { cancelRunQueueItem(input: {runQueueItemId: $i}) { item { state stopRequested } } }",
            json!({"i": id}),
        )
        .await
        .data();
    assert_eq!(
        cancelled["cancelRunQueueItem"]["item"],
        json!({"state": "RUNNING", "stopRequested": true})
    );

    let finished = server
        .graphql(
            &key,
            "mutation($a: ID!, $r: [FinishRunQueueItemsReportInput!]!) { finishRunQueueItems(input: {launchAgentId: \
             $a, reports: $r}) { results { success error } } }",
            json!({"a": agent, "r": [{"runQueueItemId": handle, "outcome": "KILLED", "exitCode": 143}]}),
        )
        .await
        .data();
    assert_eq!(finished["finishRunQueueItems"]["results"][0]["success"], true);
    let item = server
        .graphql(
            &key,
            "query($i: ID!) { runQueueItem(id: $i) { state exitCode handle waitReason { code } } }",
            json!({"i": id}),
        )
        .await
        .data();
    assert_eq!(
        item["runQueueItem"],
        json!({"state": "KILLED", "exitCode": 143, "handle": null, "waitReason": null})
    );
}

/// Whether a start is recorded shows in what becomes of an item that its agent gives up: one that may
/// have started is not handed to another.
#[tokio::test]
async fn an_acknowledgement_records_the_start_only_if_it_says_so() {
    for (start, released) in [
        (
            json!(true),
            json!({"success": false, "error": "not possible while the item is CLAIMED"}),
        ),
        (json!(false), json!({"success": true, "error": null})),
        (json!(null), json!({"success": true, "error": null})),
    ] {
        let server = TestServer::new().await;
        let key = server.user("alice").await;
        let queue = server.queue(&key, "alice", "q").await;
        push(&server, &key, "q", &image()).await;
        let agent = register(&server, &key, &queue).await;
        let pop = "mutation($a: ID!) { popRunQueueItems(input: {launchAgentId: $a, limit: 1}) \
                   { items { runQueueItemId } } }";
        let popped = server.graphql(&key, pop, json!({"a": agent})).await.data();
        let handle = popped["popRunQueueItems"]["items"][0]["runQueueItemId"].clone();
        let ack = "mutation($input: AckRunQueueItemsInput!) { ackRunQueueItems(input: $input) \
                   { results { success error } } }";
        let items = json!([{"runQueueItemId": handle, "runName": "r"}]);
        let acked = server
            .graphql(
                &key,
                ack,
                json!({"input": {"launchAgentId": agent, "items": items, "start": start}}),
            )
            .await
            .data();
        assert_eq!(
            acked["ackRunQueueItems"]["results"],
            json!([{"success": true, "error": null}]),
            "{start}"
        );
        let give_up = "mutation($input: ReturnRunQueueItemInput!) { returnRunQueueItem(input: $input) \
                       { result { success error } } }";
        let answer = server
            .graphql(
                &key,
                give_up,
                json!({"input": {"launchAgentId": agent, "runQueueItemId": handle, "cause": "RELEASED"}}),
            )
            .await
            .data();
        assert_eq!(answer["returnRunQueueItem"]["result"], released, "{start}");
    }
}

#[tokio::test]
async fn an_agent_may_not_touch_items_of_another_entity() {
    let server = TestServer::new().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    server.queue(&alice, "alice", "q").await;
    push(&server, &alice, "q", &image()).await;
    let handle = super::items::pop(&server, &alice, "q").await["runQueueItemId"].clone();
    let queue = server.queue(&bob, "bob", "q").await;
    let made = server
        .graphql(
            &bob,
            "mutation($q: [ID!]!) { createLaunchAgent(input: {runQueues: $q, hostname: \"h\", managed: true}) \
             { launchAgentId } }",
            json!({"q": [queue]}),
        )
        .await
        .data();
    let agent = made["createLaunchAgent"]["launchAgentId"].clone();
    let started = server
        .graphql(
            &bob,
            "mutation($a: ID!, $i: [ID!]!) { startRunQueueItems(input: {launchAgentId: $a, runQueueItemIds: $i}) \
             { results { success error } } }",
            json!({"a": agent, "i": [handle]}),
        )
        .await
        .data();
    assert_eq!(
        started["startRunQueueItems"]["results"],
        json!([{"success": false, "error": "stale"}])
    );
    let (status, ..) = server
        .official(&bob, "ackRunQueueItem", json!({"itemId": handle, "runId": "r"}))
        .await
        .error();
    assert_eq!(status, 404);
}

#[tokio::test]
async fn an_agents_configuration_is_shown_without_its_secrets() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    let queue = server.queue(&key, "alice", "q").await;
    let config = json!({
        "max_jobs": 3, "builder": {"type": "noop", "registry_password": "hush1"},
        "environment": {"url": "https://me:hush2@host/"}, "api_key": "hush3",
    });
    let made = server
        .graphql(
            &key,
            "mutation($q: [ID!]!, $c: JSONString!) { createLaunchAgent(input: {entityName: \"alice\", runQueues: $q, \
             hostname: \"h\", agentConfig: $c}) { agent { maxJobs config } } }",
            json!({"q": [queue], "c": config.to_string()}),
        )
        .await
        .data();
    let agent = &made["createLaunchAgent"]["agent"];
    assert_eq!(agent["maxJobs"], 3);
    assert_eq!(agent["config"]["builder"]["type"], "noop");
    let shown = agent.to_string();
    assert!(!shown.contains("hush"), "{shown}");
}

#[tokio::test]
async fn a_leased_item_says_what_its_submitter_may_set() {
    let server = TestServer::new().await;
    let owner = server.user("owner").await;
    let member = server.user("member").await;
    let store = &server.app.store;
    store.create_team("team", "owner", START).await.expect("a team");
    let role = Some(Role::Member);
    store.set_member("team", "member", role).await.expect("a member");
    let mut queues = Vec::new();
    for (name, policy) in [
        ("open", json!({"allowed_overrides": ["/volume"]})),
        ("closed", json!({})),
    ] {
        let input = json!({
            "entityName": "team", "projectName": "model-registry", "queueName": name, "policy": policy.to_string(),
            "resourceType": "local-container", "resourceConfig": "{\"volume\": [\"/data:/data\"]}",
        });
        let document = "mutation($input: UpsertRunQueueInput!) { upsertRunQueue(input: $input) { queue { id } } }";
        let made = server.graphql(&owner, document, json!({"input": input})).await.data();
        queues.push(made["upsertRunQueue"]["queue"]["id"].clone());
    }
    let submit = async |key: &str, queue: &str, volume: &str| {
        let spec = json!({"docker": {"docker_image": "a"}, "resource_args": {"local-container": {"volume": [volume]}}});
        let pushed = json!({
            "entityName": "team", "projectName": "model-registry", "queueName": queue, "runSpec": spec.to_string(),
        });
        let pushed = server.official(key, "pushToRunQueueByName", pushed).await;
        pushed.data()["pushToRunQueueByName"]["runQueueItemId"].clone()
    };
    submit(&member, "open", "/other:/other").await;
    // What repeats the queue's own value is nobody's change.
    submit(&member, "closed", "/data:/data").await;
    submit(&owner, "closed", "/other:/other").await;
    let moved = submit(&member, "open", "/moved:/moved").await;
    let document = "mutation($id: ID!) { moveRunQueueItem(input: {runQueueItemId: $id, queueName: \"closed\"}) \
                    { item { queueName } } }";
    server.graphql(&owner, document, json!({"id": moved})).await.data();

    let agent = server
        .graphql(
            &owner,
            "mutation($queues: [ID!]!) { createLaunchAgent(input: {entityName: \"team\", runQueues: $queues, \
             hostname: \"h\", name: \"a1\", instance: \"i1\", managed: true}) { launchAgentId } }",
            json!({"queues": queues}),
        )
        .await
        .data();
    let popped = server
        .graphql(
            &owner,
            "mutation($a: ID!) { popRunQueueItems(input: {launchAgentId: $a, limit: 9}) { items { queueName runSpec \
             origins allowedOverrides } } }",
            json!({"a": agent["createLaunchAgent"]["launchAgentId"]}),
        )
        .await
        .data();
    let items = popped["popRunQueueItems"]["items"].as_array().expect("items");
    let mut told: Vec<String> = items
        .iter()
        .map(|item| {
            let volume = &item["runSpec"]["resource_args"]["local-container"]["volume"][0];
            format!(
                "{} {volume} {} {}",
                item["queueName"], item["origins"]["/volume"], item["allowedOverrides"]
            )
        })
        .collect();
    told.sort();
    assert_eq!(
        told,
        [
            r#""closed" "/data:/data" "queue" []"#,
            r#""closed" "/moved:/moved" "submitter" [""]"#,
            r#""closed" "/other:/other" "submitter" [""]"#,
            r#""open" "/other:/other" "submitter" ["/volume"]"#,
        ]
    );
}
