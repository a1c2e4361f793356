//! What people do with items.

use slipway_model::id::ItemId;
use slipway_model::item::{CRASH_TERM, ItemState, Refusal};
use slipway_model::priority::Priority;
use slipway_model::queue::Prioritization;
use slipway_model::run::RunState;
use slipway_store::Error;
use slipway_store::items::{Acked, ItemFilter, NewItem, Outcome, ReturnCause};
use slipway_store::queues::QueueUpdate;
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
    an_item_whose_run_falls_silent_says_so_until_it_finishes,
    a_stopped_run_ends_the_item_that_waits_for_its_next_attempt,
    a_queue_without_prioritization_takes_no_priority_along,
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
    assert!(bed.store.delete_item(id, USER, T0).await.unwrap());
    assert!(!bed.store.delete_item(id, USER, T0).await.unwrap());
    assert_eq!(bed.store.item(id).await.unwrap(), None);
    let handle = bed.started(agent, queue, T0).await;
    assert!(handle.item.number > id.number, "a number is not used again");
    assert!(matches!(
        bed.store.delete_item(handle.item, USER, T0).await,
        Err(Error::Refused(_))
    ));
    bed.finish(handle, Outcome::Finished, T0).await.unwrap();
    assert!(bed.store.delete_item(handle.item, USER, T0).await.unwrap());
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

async fn an_item_whose_run_falls_silent_says_so_until_it_finishes(bed: &Bed) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("agent", &[queue]).await;
    bed.push(queue).await;
    let leased = bed.store.lease(Some(agent), vec![queue], 1, false, T0).await.unwrap();
    let handle = leased[0].handle;
    let run = run_of(handle.item);
    assert_eq!(bed.ack(handle, T0).await, Acked::Yes);
    bed.store.upsert_run(run.clone(), starts(), T0).await.unwrap();
    let silent_at = T0 + CRASH_TERM + 10_000;
    bed.pass_time(T0, silent_at).await;
    let item = bed.item(handle.item).await;
    let failure = item.failure.expect("a reason");
    assert_eq!(
        (item.state, failure.reason.as_str()),
        (ItemState::Crashed, "run-silent")
    );
    assert!(
        failure.message.contains("no heartbeat for 300 s"),
        "{}",
        failure.message
    );
    // The next heartbeat undoes it, and so does a last one that tells of success.
    bed.store
        .heartbeat(&run, Heartbeat::default(), silent_at)
        .await
        .unwrap();
    let item = bed.item(handle.item).await;
    assert_eq!((item.state, item.failure), (ItemState::Running, None));
    bed.pass_time(silent_at, silent_at + CRASH_TERM + 10_000).await;
    assert_eq!(bed.state(handle.item).await, ItemState::Crashed);
    bed.store
        .heartbeat(&run, ends(0), silent_at + CRASH_TERM + 10_000)
        .await
        .unwrap();
    let item = bed.item(handle.item).await;
    assert_eq!((item.state, item.failure), (ItemState::Finished, None));
}

async fn a_stopped_run_ends_the_item_that_waits_for_its_next_attempt(bed: &Bed) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("agent", &[queue]).await;
    let handle = bed.started(agent, queue, T0).await;
    let run = run_of(handle.item);
    let returned = bed.store.hand_back(Some(agent), handle, ReturnCause::Preempted, T0);
    assert_eq!(returned.await.unwrap(), Ok(()));
    assert_eq!(bed.state(handle.item).await, ItemState::Pending);
    assert!(bed.store.stop_run(&run, "bob", T0).await.unwrap());
    assert_eq!(bed.state(handle.item).await, ItemState::Killed);
    assert_eq!(bed.store.run(&run).await.unwrap().unwrap().state, RunState::Killed);
    assert!(bed.lease(agent, &[queue], 1, T0).await.is_empty());
    let history = bed.history(handle.item, 6).await;
    assert_eq!(history.last().map(String::as_str), Some("killed"), "{history:?}");
}

async fn a_queue_without_prioritization_takes_no_priority_along(bed: &Bed) {
    let (here, fifo) = (bed.queue("here").await, bed.queue("fifo").await);
    let agent = bed.agent("agent", &[here, fifo]).await;
    let urgent = vec![with_priority(Priority::Critical)];
    let again = bed.push_many(fifo, urgent.clone(), T0).await[0];
    bed.store.cancel(again, USER, T0).await.unwrap();
    let disabled = QueueUpdate {
        prioritization: Some(Prioritization::Disabled),
        ..QueueUpdate::default()
    };
    bed.store.update_queue(fifo, disabled, USER, T0).await.unwrap();
    let first = bed.push(fifo).await;
    let moved = bed.push_many(here, urgent, T0).await[0];
    let moved = bed.store.move_item(moved, Some(fifo), None, USER, T0).await.unwrap();
    let retried = bed.store.retry(again, USER, 1, T0).await.unwrap();
    assert_eq!((moved.priority, retried.priority), (Priority::Medium, Priority::Medium));
    let leased = bed.lease(agent, &[fifo], 3, T0).await;
    let order: Vec<ItemId> = leased.into_iter().map(|leased| leased.item.id).collect();
    assert_eq!(order, [first, moved.id, retried.id]);
}
