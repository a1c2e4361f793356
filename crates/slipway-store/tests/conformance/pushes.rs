//! Pushing once, even if the request is sent twice.

use slipway_model::item::ItemState;
use slipway_store::Error;
use slipway_store::items::{ABSORPTION_TERM, IDEMPOTENCY_TERM, NewItem};

use crate::bed::{Bed, T0, USER, new_item};

crate::cases!(
    a_key_returns_the_same_item_for_a_day,
    a_key_is_known_to_its_owner_only,
    a_repeated_push_is_absorbed_until_its_answer_arrived,
    the_same_push_later_is_a_new_item,
    equal_items_of_one_push_are_several,
    pushes_of_one_key_at_the_same_moment_make_one_item,
    a_push_is_all_or_nothing,
    a_large_push_keeps_its_order,
    noting_a_delivery_hides_no_item_from_agents,
    pushes_at_one_moment_get_their_own_answers,
);

fn keyed(key: &str) -> NewItem {
    NewItem {
        idempotency_key: Some(key.to_owned()),
        ..new_item()
    }
}

fn digested(digest: u8) -> NewItem {
    NewItem {
        digest: Some([digest; 32]),
        ..new_item()
    }
}

async fn a_key_returns_the_same_item_for_a_day(bed: &Bed) {
    let queue = bed.queue("q").await;
    let first = bed.store.push(queue, vec![keyed("k")], T0).await.unwrap()[0];
    assert!(first.inserted);
    bed.store.mark_delivered(vec![first.id]).await.unwrap();
    let again = bed
        .store
        .push(queue, vec![keyed("k")], T0 + IDEMPOTENCY_TERM - 1)
        .await
        .unwrap()[0];
    assert_eq!((again.id, again.inserted), (first.id, false));
    let mixed = bed
        .store
        .push(queue, vec![keyed("l"), keyed("k"), keyed("l")], T0)
        .await
        .unwrap();
    assert_eq!((mixed[1].id, mixed[1].inserted), (first.id, false));
    assert_eq!((mixed[2].id, mixed[2].inserted), (mixed[0].id, false));
    let later = bed
        .store
        .push(queue, vec![keyed("k")], T0 + IDEMPOTENCY_TERM)
        .await
        .unwrap()[0];
    assert!(later.inserted && later.id != first.id);
    let newest = bed
        .store
        .push(queue, vec![keyed("k")], T0 + IDEMPOTENCY_TERM + 1)
        .await
        .unwrap()[0];
    assert_eq!(newest.id, later.id);
}

async fn a_key_is_known_to_its_owner_only(bed: &Bed) {
    let queue = bed.queue("q").await;
    let other = NewItem {
        key_id: 2,
        ..keyed("k")
    };
    let pushed = bed.store.push(queue, vec![keyed("k"), other], T0).await.unwrap();
    assert!(pushed[0].inserted && pushed[1].inserted);
    for bad in [String::new(), "x".repeat(256), "a\0b".to_owned()] {
        let error = bed.store.push(queue, vec![keyed(&bad)], T0).await.unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error}");
    }
}

async fn a_repeated_push_is_absorbed_until_its_answer_arrived(bed: &Bed) {
    let queue = bed.queue("q").await;
    let first = bed.store.push(queue, vec![digested(1)], T0).await.unwrap()[0];
    let again = bed.store.push(queue, vec![digested(1)], T0 + 2_000).await.unwrap()[0];
    assert_eq!((again.id, again.inserted), (first.id, false));
    bed.store.mark_delivered(vec![first.id]).await.unwrap();
    let meant = bed.store.push(queue, vec![digested(1)], T0 + 4_000).await.unwrap()[0];
    assert!(meant.inserted);
    let again = bed.store.push(queue, vec![digested(1)], T0 + 6_000).await.unwrap()[0];
    assert_eq!((again.id, again.inserted), (meant.id, false));
}

async fn the_same_push_later_is_a_new_item(bed: &Bed) {
    let queue = bed.queue("q").await;
    bed.store.push(queue, vec![digested(1)], T0).await.unwrap();
    let later = bed
        .store
        .push(queue, vec![digested(1)], T0 + ABSORPTION_TERM)
        .await
        .unwrap()[0];
    assert!(later.inserted);
}

async fn equal_items_of_one_push_are_several(bed: &Bed) {
    let queue = bed.queue("q").await;
    let pushed = bed
        .store
        .push(queue, vec![digested(1), digested(1), new_item()], T0)
        .await
        .unwrap();
    assert!(pushed.iter().all(|pushed| pushed.inserted));
    assert_eq!(bed.store.waiting(queue, 0, 10).await.unwrap().rows.len(), 3);
}

async fn pushes_of_one_key_at_the_same_moment_make_one_item(bed: &Bed) {
    let queue = bed.queue("q").await;
    let pushes = (0..8).map(|_| {
        let store = bed.store.clone();
        tokio::spawn(async move { store.push(queue, vec![keyed("k")], T0).await.unwrap()[0] })
    });
    let mut inserted = 0;
    let mut ids = std::collections::HashSet::new();
    for push in pushes.collect::<Vec<_>>() {
        let pushed = push.await.unwrap();
        inserted += usize::from(pushed.inserted);
        ids.insert(pushed.id);
    }
    assert_eq!((inserted, ids.len()), (1, 1));
}

async fn a_push_is_all_or_nothing(bed: &Bed) {
    let queue = bed.queue("q").await;
    let unknown = slipway_model::id::QueueId::new(queue.entity, 4711);
    let error = bed.store.push(unknown, vec![new_item()], T0).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { kind: "queue", .. }), "{error}");
    let error = bed
        .store
        .push(queue, vec![new_item(), keyed("")], T0)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{error}");
    assert!(bed.store.waiting(queue, 0, 10).await.unwrap().rows.is_empty());
    assert!(bed.store.push(queue, Vec::new(), T0).await.unwrap().is_empty());
}

async fn a_large_push_keeps_its_order(bed: &Bed) {
    let queue = bed.queue("q").await;
    let items = (0..5_000)
        .map(|number| NewItem {
            spec: format!(r#"{{"number":{number}}}"#),
            ..new_item()
        })
        .collect();
    let ids = bed.push_many(queue, items, T0).await;
    assert!(ids.is_sorted());
    let last = bed.store.waiting(queue, 4_999, 10).await.unwrap();
    assert_eq!(last.rows[0].spec, r#"{"number":4999}"#);
    assert_eq!((last.rows[0].id, last.rows[0].state), (ids[4_999], ItemState::Pending));
    assert!(!last.more);
}

/// An agent pops when it hears of a push, which is when its answer is being delivered.
async fn noting_a_delivery_hides_no_item_from_agents(bed: &Bed) {
    let queue = bed.queue("q").await;
    let queues = [queue];
    let agent = bed.agent("a", &queues).await;
    for round in 0..100 {
        let item = bed.store.push(queue, vec![digested(round)], T0).await.unwrap()[0].id;
        let delivered = bed.store.mark_delivered(vec![item]);
        let (delivered, leased) = tokio::join!(delivered, bed.lease(agent, &queues, 1, T0));
        delivered.unwrap();
        assert_eq!(leased.len(), 1, "round {round}");
    }
}

async fn pushes_at_one_moment_get_their_own_answers(bed: &Bed) {
    let queues = [bed.queue("a").await, bed.queue("b").await];
    let gone = bed.queue("gone").await;
    bed.store.delete_queue(gone, USER, T0).await.unwrap();
    let pushes = (0..40_usize).map(|number| async move {
        let item = NewItem {
            author: format!("author-{number}"),
            ..new_item()
        };
        let (queue, items) = match number % 10 {
            // What its database cannot hold, and a queue that is not there: nobody else's trouble.
            3 => (
                queues[number % 2],
                vec![NewItem {
                    spec: "\0".to_owned(),
                    ..item
                }],
            ),
            7 => (gone, vec![item]),
            _ => (queues[number % 2], vec![item; number % 3 + 1]),
        };
        (number, items.len(), bed.store.push(queue, items, T0).await)
    });
    for (number, count, answer) in futures::future::join_all(pushes).await {
        match (number % 10, answer) {
            (7, answer) => assert!(matches!(answer, Err(Error::NotFound { .. })), "{answer:?}"),
            (3, Err(error)) => assert!(matches!(error, Error::Invalid(_)), "{error}"),
            (_, answer) => {
                let pushed = answer.unwrap();
                assert_eq!(pushed.len(), count);
                for one in pushed {
                    assert!(one.inserted);
                    let item = bed.item(one.id).await;
                    assert_eq!(
                        (item.author, item.queue),
                        (format!("author-{number}"), queues[number % 2])
                    );
                }
            }
        }
    }
}
