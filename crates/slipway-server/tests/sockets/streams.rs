//! Event streams: what agents and people hear, and how a stream is resumed.

use serde_json::{Value, json};

use super::bed::{Bed, get, now, post};

pub(crate) const PUSH: &str = "mutation($e: String!, $s: JSONString!) { pushToRunQueueByName(input: {entityName: $e, \
                               projectName: \"model-registry\", queueName: \"q\", runSpec: $s}) { runQueueItemId } }";

/// Pushes to a user's queue `q`; returns the item's id.
async fn push(bed: &Bed, key: &str, entity: &str, image: &str) -> String {
    let spec = json!({"docker": {"docker_image": image}}).to_string();
    let pushed = bed.data(key, PUSH, json!({"e": entity, "s": spec})).await;
    pushed["pushToRunQueueByName"]["runQueueItemId"]
        .as_str()
        .unwrap()
        .to_owned()
}

const POP: &str = "mutation($a: ID!) { popRunQueueItems(input: {launchAgentId: $a, limit: 5}) { items \
                   { runQueueItemId } } }";

const CANCEL: &str = "mutation($i: ID!) { cancelRunQueueItem(input: {runQueueItemId: $i}) { item { state } } }";

#[tokio::test]
async fn an_agent_hears_of_items_of_a_stop_and_of_a_drain() {
    let bed = Bed::start().await;
    let key = bed.user("ann").await;
    let queue = bed.queue(&key, "ann", "q").await;
    let agent = bed.agent(&key, "ann", &queue).await;
    let mut stream = bed
        .events(&key, &format!("/slipway/v1/agents/{agent}/events"), None)
        .await;
    assert_eq!(stream.next().await.unwrap().json(), json!({"drain": false}));
    assert_eq!(stream.next().await.unwrap().kind, "items", "at once on connecting");

    // One that is not started yet ends at once, and its agent is preparing it.
    let early = push(&bed, &key, "ann", "a").await;
    assert_eq!(stream.next().await.unwrap().kind, "items", "after the push");
    let popped = bed.data(&key, POP, json!({"a": agent})).await;
    let handle = popped["popRunQueueItems"]["items"][0]["runQueueItemId"].clone();
    let cancelled = bed.data(&key, CANCEL, json!({"i": early})).await;
    assert_eq!(cancelled["cancelRunQueueItem"]["item"]["state"], "KILLED");
    let stop = stream.expect("stop").await;
    assert_eq!(stop.json(), json!({"runQueueItemId": handle}));

    let item = push(&bed, &key, "ann", "a").await;
    assert_eq!(stream.next().await.unwrap().kind, "items", "after the push");
    let popped = bed.data(&key, POP, json!({"a": agent})).await;
    let handle = popped["popRunQueueItems"]["items"][0]["runQueueItemId"].clone();
    let ack = "mutation($a: ID!, $i: ID!) { ackRunQueueItems(input: {launchAgentId: $a, items: [{runQueueItemId: \
               $i, runName: \"r\"}]}) { results { success } } startRunQueueItems(input: {launchAgentId: $a, \
               runQueueItemIds: [$i]}) { results { success } } }";
    bed.data(&key, ack, json!({"a": agent, "i": handle})).await;

    bed.data(&key, CANCEL, json!({"i": item})).await;
    let stop = stream.expect("stop").await;
    assert_eq!(stop.json(), json!({"runQueueItemId": handle}));

    let drain = "mutation($a: ID!) { drainLaunchAgent(input: {launchAgentId: $a, drain: true}) { agent { id } } }";
    bed.data(&key, drain, json!({"a": agent})).await;
    assert_eq!(stream.expect("drain").await.json(), json!({"drain": true}));

    let mut again = bed
        .events(&key, &format!("/slipway/v1/agents/{agent}/events"), None)
        .await;
    let mut heard = [
        again.next().await.unwrap().kind,
        again.next().await.unwrap().kind,
        again.next().await.unwrap().kind,
    ];
    heard.sort();
    assert_eq!(
        heard,
        ["drain", "items", "stop"],
        "a new connection hears what still holds"
    );
}

#[tokio::test]
async fn the_record_is_resumed_without_a_gap_and_without_a_repetition() {
    let bed = Bed::start().await;
    let key = bed.user("ann").await;
    bed.queue(&key, "ann", "q").await;
    let path = "/slipway/v1/events?entity=ann";
    let mut stream = bed.events(&key, path, None).await;
    let first = push(&bed, &key, "ann", "a").await;
    let seen = stream.expect("event").await;
    assert_eq!(seen.json()["item"], json!(first));
    assert_eq!(seen.json()["kind"], "pushed");
    let second = push(&bed, &key, "ann", "b").await;
    assert_eq!(stream.expect("event").await.json()["item"], json!(second));
    drop(stream);

    let third = push(&bed, &key, "ann", "c").await;
    let mut resumed = bed.events(&key, path, Some(&seen.id)).await;
    let fourth = push(&bed, &key, "ann", "d").await;
    for expected in [second, third, fourth] {
        assert_eq!(resumed.expect("event").await.json()["item"], json!(expected));
    }
}

#[tokio::test]
async fn a_reader_that_was_away_too_long_is_told_to_start_anew() {
    let bed = Bed::start().await;
    let key = bed.user("ann").await;
    bed.queue(&key, "ann", "q").await;
    let path = "/slipway/v1/events?entity=ann";
    let mut stream = bed.events(&key, path, None).await;
    let item = push(&bed, &key, "ann", "a").await;
    let old = stream.expect("event").await.id;
    bed.data(&key, CANCEL, json!({"i": item})).await;
    stream.expect("event").await;
    while bed.store.prune_events(now() + 1_000, 100).await.unwrap() > 0 {}

    let mut resumed = bed.events(&key, path, Some(&old)).await;
    let reset = resumed.next().await.unwrap();
    assert_eq!(reset.kind, "reset");
    let next = push(&bed, &key, "ann", "b").await;
    assert_eq!(resumed.expect("event").await.json()["item"], json!(next));
    let mut from_reset = bed.events(&key, path, Some(&reset.id)).await;
    assert_eq!(
        from_reset.next().await.unwrap().json()["item"],
        json!(next),
        "the id of `reset` is a place to go on from"
    );
}

#[tokio::test]
async fn a_position_that_is_none_is_refused() {
    let bed = Bed::start().await;
    let key = bed.user("ann").await;
    let mut request = get(&key, "/slipway/v1/events");
    request
        .headers_mut()
        .insert("last-event-id", "yesterday".parse().unwrap());
    let (status, body) = bed.send(request).await;
    assert_eq!(status, 400, "{}", String::from_utf8_lossy(&body));
}

#[tokio::test]
async fn revoking_a_key_ends_its_streams_and_no_others() {
    let bed = Bed::start().await;
    let key = bed.user("ann").await;
    let other = bed.key("ann", None).await;
    bed.queue(&key, "ann", "q").await;
    let path = "/slipway/v1/events?entity=ann";
    let mut ending = bed.events(&other, path, None).await;
    let mut staying = bed.events(&key, path, None).await;

    let listed = "{ viewer { apiKeys { edges { node { id name } } } } }";
    let keys = bed.data(&key, listed, json!({})).await["viewer"]["apiKeys"]["edges"].clone();
    let hint = slipway_server::auth::key_hint(&other);
    let keys: Vec<Value> = keys.as_array().unwrap().clone();
    let revoked = keys.iter().find(|edge| edge["node"]["name"] == json!(hint)).unwrap();
    let revoke = "mutation($i: ID!) { revokeApiKey(input: {id: $i}) { success } }";
    bed.data(&key, revoke, json!({"i": revoked["node"]["id"]})).await;

    let word = ending.next().await.unwrap();
    assert!(word.comment.contains("the key has ended"), "{word:?}");
    assert_eq!(ending.next().await, None);
    let item = push(&bed, &key, "ann", "a").await;
    assert_eq!(staying.expect("event").await.json()["item"], json!(item));
}

#[tokio::test]
async fn binary_output_is_kept_byte_by_byte_and_followed_as_text() {
    let bed = Bed::start().await;
    let key = bed.user("ann").await;
    let queue = bed.queue(&key, "ann", "q").await;
    let agent = bed.agent(&key, "ann", &queue).await;
    let item = push(&bed, &key, "ann", "a").await;
    let popped = bed.data(&key, POP, json!({"a": agent})).await;
    let handle = popped["popRunQueueItems"]["items"][0]["runQueueItemId"]
        .as_str()
        .unwrap()
        .to_owned();
    let bytes: Vec<u8> = (0..=255).chain(*b"\nend\n").collect();
    let path = format!("/slipway/v1/items/{handle}/output?attempt=1&offset=0");
    let (status, answer) = bed.send(post(&key, &path, bytes.clone())).await;
    assert_eq!(
        (status, answer),
        (200, json!({"end": bytes.len()}).to_string().into_bytes())
    );

    let (status, read) = bed.send(get(&key, &format!("/slipway/v1/items/{item}/output"))).await;
    assert_eq!((status, read), (200, bytes.clone()));
    let follow = format!("/slipway/v1/items/{item}/output?follow=true");
    let mut stream = bed.events(&key, &follow, None).await;
    let event = stream.expect("output").await;
    let text = event.json()["text"].as_str().unwrap().to_owned();
    assert!(text.contains("ABC") && text.ends_with("\nend\n"), "{text}");
    assert_eq!(event.id, bytes.len().to_string());
    let mut resumed = bed.events(&key, &follow, Some("256")).await;
    assert_eq!(resumed.expect("output").await.json()["text"], "\nend\n");
}

#[tokio::test]
async fn console_lines_with_control_characters_come_back() {
    let bed = Bed::start().await;
    let key = bed.user("ann").await;
    let made = "mutation { upsertBucket(input: {name: \"r\", entityName: \"ann\", modelName: \"p\"}) { inserted } }";
    bed.data(&key, made, json!({})).await;
    let lines = json!({"files": {"output.log": {"offset": 0, "content": ["a\u{0}b", "\u{1b}[31mred", "tab\tend"]}}});
    let stream = "/files/ann/p/r/file_stream";
    let (status, _) = bed.send(post(&key, stream, lines.to_string())).await;
    assert_eq!(status, 200);
    let half = "{\"files\":{\"output.log\":{\"offset\":3,\"content\":[\"half \\ud800 pair\"]}}}";
    let (status, _) = bed.send(post(&key, stream, half)).await;
    assert!(status == 200 || status == 400, "{status}");
    let (status, log) = bed.send(get(&key, "/slipway/v1/runs/ann/p/r/log")).await;
    let log = String::from_utf8(log).unwrap();
    assert_eq!(status, 200);
    assert!(log.contains("red\n") && log.contains("tab\tend\n"), "{log:?}");
}
