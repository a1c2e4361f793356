//! What people do with items.

use slipway_model::id::ItemId;
use slipway_model::item::{ItemState, Refusal};
use slipway_model::priority::Priority;
use slipway_store::Error;
use slipway_store::items::{Acked, ItemFilter, NewItem, Outcome};
use slipway_store::runs::{Heartbeat, RunUpsert};

use crate::bed::{Bed, T0, USER, failure, new_item, run_of, with_priority};

crate::cases!(
    what_cannot_run_yet_is_cancelled_at_once,
    what_may_run_is_asked_to_stop,
    an_ended_item_is_not_cancelled,
    a_retry_is_a_new_item_without_the_run,
    a_waiting_item_moves_and_changes_priority,
    an_item_is_deleted_unless_it_is_held,
    listings_are_filtered_and_paged,
    an_item_of_another_agent_follows_its_run,
    the_agent_of_a_managed_item_decides,
);

async fn what_cannot_run_yet_is_cancelled_at_once(bed: &Bed) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("agent", &[queue]).await;
    let waiting = bed.push(queue).await;
    assert_eq!(
        bed.store.cancel(waiting, USER, T0).await.unwrap().state,
        ItemState::Killed
    );
    bed.push(queue).await;
    let leased = bed.lease(agent, &[queue], 1, T0).await[0].handle;
    assert_eq!(
        bed.store.cancel(leased.item, USER, T0).await.unwrap().state,
        ItemState::Killed
    );
    assert_eq!(bed.ack(leased, T0).await, Acked::No(Refusal::State(ItemState::Killed)));
    bed.push(queue).await;
    let claimed = bed.lease(agent, &[queue], 1, T0).await[0].handle;
    assert_eq!(bed.ack(claimed, T0).await, Acked::Yes);
    assert_eq!(
        bed.store.cancel(claimed.item, USER, T0).await.unwrap().state,
        ItemState::Killed
    );
    let start = bed.store.start(None, vec![claimed], T0).await.unwrap();
    assert_eq!(start, [Err(Refusal::State(ItemState::Killed))]);
    // Cancelling twice is no error.
    assert_eq!(
        bed.store.cancel(waiting, USER, T0).await.unwrap().state,
        ItemState::Killed
    );
}

async fn what_may_run_is_asked_to_stop(bed: &Bed) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("agent", &[queue]).await;
    let handle = bed.started(agent, queue, T0).await;
    let item = bed.store.cancel(handle.item, USER, T0).await.unwrap();
    assert_eq!((item.state, item.stop_requested), (ItemState::Claimed, true));
    assert!(
        bed.store
            .run(&run_of(handle.item))
            .await
            .unwrap()
            .unwrap()
            .stop_requested
    );
    // An agent that records no starts may have started what it acknowledged.
    bed.push(queue).await;
    let leased = bed.store.lease(Some(agent), vec![queue], 1, false, T0).await.unwrap();
    assert_eq!(bed.ack(leased[0].handle, T0).await, Acked::Yes);
    let item = bed.store.cancel(leased[0].handle.item, USER, T0).await.unwrap();
    assert_eq!((item.state, item.stop_requested), (ItemState::Claimed, true));
    assert_eq!(
        bed.history(item.id, 4).await,
        ["pushed", "leased", "acked", "stop-requested"]
    );
}

async fn an_ended_item_is_not_cancelled(bed: &Bed) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("agent", &[queue]).await;
    let handle = bed.started(agent, queue, T0).await;
    bed.finish(handle, Outcome::Finished, T0).await.unwrap();
    let error = bed.store.cancel(handle.item, USER, T0).await.unwrap_err();
    assert!(
        matches!(error, Error::Refused(Refusal::State(ItemState::Finished))),
        "{error}"
    );
    let unknown = ItemId::new(handle.item.entity, 4711);
    let error = bed.store.cancel(unknown, USER, T0).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { kind: "item", .. }), "{error}");
}

async fn a_retry_is_a_new_item_without_the_run(bed: &Bed) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("agent", &[queue]).await;
    let new = NewItem {
        spec: r#"{"run_id":"abc","entity":"alice","project":"p"}"#.to_owned(),
        ..with_priority(Priority::High)
    };
    let id = bed.push_many(queue, vec![new], T0).await[0];
    assert!(matches!(bed.store.retry(id, USER, 2, T0).await, Err(Error::Refused(_))));
    let handle = bed.lease(agent, &[queue], 1, T0).await[0].handle;
    bed.finish(handle, Outcome::Failed(failure("exit-code")), T0)
        .await
        .unwrap();
    let retried = bed.store.retry(id, USER, 2, T0 + 1).await.unwrap();
    assert_ne!(retried.id, id);
    assert_eq!(
        (retried.state, retried.attempt, retried.epoch),
        (ItemState::Pending, 1, 0)
    );
    assert_eq!((retried.priority, retried.pushed_by_key), (Priority::High, 2));
    assert_eq!(retried.spec, r#"{"entity":"alice","project":"p"}"#);
    assert!(retried.revision.is_some() && retried.run.is_none());
}

async fn a_waiting_item_moves_and_changes_priority(bed: &Bed) {
    let (here, there) = (bed.queue("here").await, bed.queue("there").await);
    let agent = bed.agent("agent", &[here, there]).await;
    let id = bed.push(here).await;
    let moved = bed
        .store
        .move_item(id, Some(there), Some(Priority::Critical), USER, T0)
        .await
        .unwrap();
    assert_eq!((moved.queue, moved.priority), (there, Priority::Critical));
    let revision = bed
        .store
        .queue_by_id(there)
        .await
        .unwrap()
        .unwrap()
        .revision
        .unwrap()
        .id;
    assert_eq!(moved.revision, Some(revision));
    assert!(bed.lease(agent, &[here], 1, T0).await.is_empty());
    let unknown = slipway_model::id::QueueId::new(here.entity, 4711);
    let refused = bed.store.move_item(id, Some(unknown), None, USER, T0).await;
    assert!(matches!(refused, Err(Error::NotFound { kind: "queue", .. })));
    assert_eq!(bed.lease(agent, &[there], 1, T0).await[0].handle.item, id);
    let refused = bed.store.move_item(id, Some(here), None, USER, T0).await;
    assert!(matches!(
        refused,
        Err(Error::Refused(Refusal::State(ItemState::Leased)))
    ));
}

async fn an_item_is_deleted_unless_it_is_held(bed: &Bed) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("agent", &[queue]).await;
    let id = bed.push(queue).await;
    assert!(bed.store.delete_item(id).await.unwrap());
    assert!(!bed.store.delete_item(id).await.unwrap());
    assert_eq!(bed.store.item(id).await.unwrap(), None);
    let handle = bed.started(agent, queue, T0).await;
    assert!(handle.item.number > id.number, "a number is not used again");
    assert!(matches!(
        bed.store.delete_item(handle.item).await,
        Err(Error::Refused(_))
    ));
    bed.finish(handle, Outcome::Finished, T0).await.unwrap();
    assert!(bed.store.delete_item(handle.item).await.unwrap());
}

async fn listings_are_filtered_and_paged(bed: &Bed) {
    let (a, b) = (bed.queue("a").await, bed.queue("b").await);
    let agent = bed.agent("agent", &[a, b]).await;
    let mut of_a = bed.push_many(a, vec![new_item(); 5], T0).await;
    bed.push_many(b, vec![new_item(); 2], T0).await;
    of_a.reverse();
    let filter = ItemFilter {
        queue: Some(a),
        ..ItemFilter::default()
    };
    let first = bed.store.items(filter.clone(), None, 3).await.unwrap();
    assert!(first.more);
    let second = bed.store.items(filter, Some(first.rows[2].id.number), 3).await.unwrap();
    assert!(!second.more);
    let listed: Vec<ItemId> = first.rows.iter().chain(&second.rows).map(|item| item.id).collect();
    assert_eq!(listed, of_a);

    let handle = bed.lease(agent, &[b], 1, T0).await[0].handle;
    assert_eq!(bed.ack(handle, T0).await, Acked::Yes);
    let count = |filter: ItemFilter| async { bed.store.items(filter, None, 100).await.unwrap().rows.len() };
    for (filter, expected) in [
        (ItemFilter::default(), 7),
        (
            ItemFilter {
                entity: Some(a.entity),
                ..ItemFilter::default()
            },
            7,
        ),
        (
            ItemFilter {
                entity: Some(a.entity + 1),
                ..ItemFilter::default()
            },
            0,
        ),
        (
            ItemFilter {
                agent: Some(agent),
                ..ItemFilter::default()
            },
            1,
        ),
        (
            ItemFilter {
                author: Some(USER.to_owned()),
                ..ItemFilter::default()
            },
            7,
        ),
        (
            ItemFilter {
                author: Some("bob".to_owned()),
                ..ItemFilter::default()
            },
            0,
        ),
        (
            ItemFilter {
                states: vec![ItemState::Claimed, ItemState::Killed],
                ..ItemFilter::default()
            },
            1,
        ),
        (
            ItemFilter {
                queue: Some(b),
                states: vec![ItemState::Pending],
                ..ItemFilter::default()
            },
            1,
        ),
    ] {
        let text = format!("{filter:?}");
        assert_eq!(count(filter).await, expected, "{text}");
    }
}

fn starts() -> RunUpsert {
    RunUpsert {
        user: USER.to_owned(),
        starts: true,
        ..RunUpsert::default()
    }
}

fn ends(exit_code: i64) -> Heartbeat {
    Heartbeat {
        exit_code: Some(exit_code),
        ..Heartbeat::default()
    }
}

async fn an_item_of_another_agent_follows_its_run(bed: &Bed) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("agent", &[queue]).await;
    for (exit_code, expected) in [(0, ItemState::Finished), (3, ItemState::Failed)] {
        bed.push(queue).await;
        let leased = bed.store.lease(Some(agent), vec![queue], 1, false, T0).await.unwrap();
        let handle = leased[0].handle;
        let run = run_of(handle.item);
        assert_eq!(bed.ack(handle, T0).await, Acked::Yes);
        bed.store.upsert_run(run.clone(), starts(), T0).await.unwrap();
        assert_eq!(bed.state(handle.item).await, ItemState::Running);
        bed.store.heartbeat(&run, ends(exit_code), T0).await.unwrap();
        let item = bed.item(handle.item).await;
        assert_eq!((item.state, item.exit_code), (expected, Some(exit_code)));
        assert_eq!(item.failure.is_some(), expected == ItemState::Failed);
    }
}

async fn the_agent_of_a_managed_item_decides(bed: &Bed) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("agent", &[queue]).await;
    let handle = bed.started(agent, queue, T0).await;
    let run = run_of(handle.item);
    bed.store.upsert_run(run.clone(), starts(), T0).await.unwrap();
    assert_eq!(bed.state(handle.item).await, ItemState::Running);
    bed.store.heartbeat(&run, ends(3), T0).await.unwrap();
    assert_eq!(bed.state(handle.item).await, ItemState::Running);
    bed.finish(handle, Outcome::Finished, T0).await.unwrap();
    assert_eq!(bed.state(handle.item).await, ItemState::Finished);
    // The run keeps what it said of itself.
    let state = bed.store.run(&run).await.unwrap().unwrap().state;
    assert_eq!(state, slipway_model::run::RunState::Failed);
}
