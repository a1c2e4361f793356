//! Pushes whose answers are lost, and pushes whose answers arrive.

use serde_json::json;

use super::bed::{Bed, graphql, soon};
use super::streams::PUSH;

#[tokio::test]
async fn a_push_whose_answer_was_never_written_and_that_is_sent_again_makes_one_item() {
    let bed = Bed::start().await;
    let key = bed.user("ann").await;
    bed.queue(&key, "ann", "q").await;
    let spec = json!({"docker": {"docker_image": "a"}}).to_string();
    let variables = json!({"e": "ann", "s": spec});

    // The first client takes no byte of its answer's body, and goes away once the push is committed.
    let mut record = bed.events(&key, "/slipway/v1/events?entity=ann", None).await;
    let (mut sender, connection) = bed.connect_without_window().await;
    let mut request = graphql(&key, PUSH, &variables);
    *request.uri_mut() = format!("http://{}/graphql", bed.address).parse().unwrap();
    let answer = soon("the answer's head", sender.send_request(request)).await.unwrap();
    assert_eq!(answer.status(), 200);
    let pushed = record.expect("event").await.json();
    assert_eq!(pushed["kind"], "pushed");
    drop((answer, sender));
    connection.abort();

    let id = |body: serde_json::Value| body["pushToRunQueueByName"]["runQueueItemId"].clone();
    let again = id(bed.data(&key, PUSH, variables.clone()).await);
    assert_eq!(again, pushed["item"], "the same item");
    let wanted = id(bed.data(&key, PUSH, variables).await);
    assert_ne!(wanted, again, "an answered push that is sent again is meant");
    assert_eq!(bed.items(&key).await.len(), 2);
}

#[tokio::test]
async fn identical_pushes_at_the_same_time_that_are_all_answered_make_an_item_each() {
    let bed = Bed::start().await;
    let key = bed.user("ann").await;
    bed.queue(&key, "ann", "q").await;
    let variables = json!({"e": "ann", "s": json!({"docker": {"docker_image": "a"}}).to_string()});
    let pushes = (0..5).map(|_| bed.data(&key, PUSH, variables.clone()));
    let mut ids: Vec<String> = futures::future::join_all(pushes)
        .await
        .into_iter()
        .map(|data| data["pushToRunQueueByName"]["runQueueItemId"].to_string())
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 5);
    assert_eq!(bed.items(&key).await.len(), 5);
}
