//! What time brings about, and what it does not.

use slipway_model::id::{AgentId, LeaseHandle};
use slipway_model::item::{AGENT_LOST_TIMEOUT, CRASH_TERM, ItemState, LEASE_TERM};
use slipway_model::queue::QueuePolicy;
use slipway_model::run::RunState;
use slipway_store::items::Acked;
use slipway_store::runs::{Heartbeat, RunUpsert};

use crate::bed::{Bed, T0, USER, new_item, run_of};

crate::cases!(
    a_lease_that_is_not_renewed_ends,
    an_acknowledged_item_without_a_start_is_queued_again,
    a_started_item_stays_with_its_lost_agent_and_fails_in_the_end,
    a_queue_says_how_long_an_agent_may_be_lost,
    an_item_of_an_agent_that_records_no_starts_stays,
    an_acknowledged_item_of_a_silent_agent_and_run_counts_as_crashed,
    an_agent_that_is_heard_keeps_its_acknowledged_item,
    a_crashed_item_goes_on_once_its_run_is_heard,
    a_stopped_item_that_nobody_holds_any_more_ends,
    after_a_gap_every_term_begins_anew,
    a_clock_set_back_ends_nothing,
    a_silent_run_crashes_and_comes_back,
);

async fn a_lease_that_is_not_renewed_ends(bed: &Bed) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("agent", &[queue]).await;
    bed.store.tick(T0).await.unwrap();
    bed.push(queue).await;
    let handle = bed.lease(agent, &[queue], 1, T0).await[0].handle;
    let early = bed.pass_time(T0, T0 + LEASE_TERM - 1).await;
    assert!(early.requeued.is_empty());
    let ticked = bed.store.tick(T0 + LEASE_TERM).await.unwrap();
    assert_eq!(ticked.requeued, [(handle.item, queue)]);
    assert_eq!(bed.history(handle.item, 3).await, ["pushed", "leased", "requeued"]);
    let again = bed.lease(agent, &[queue], 1, T0 + LEASE_TERM).await.remove(0);
    assert_eq!((again.handle.epoch, again.item.attempt), (3, 1));
}

async fn an_acknowledged_item_without_a_start_is_queued_again(bed: &Bed) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("agent", &[queue]).await;
    bed.store.tick(T0).await.unwrap();
    bed.push(queue).await;
    let handle = bed.lease(agent, &[queue], 1, T0).await[0].handle;
    assert_eq!(bed.ack(handle, T0).await, Acked::Yes);
    let ticked = bed.pass_time(T0, T0 + LEASE_TERM).await;
    assert_eq!(ticked.requeued, [(handle.item, queue)]);
    assert_eq!(bed.item(handle.item).await.run, Some(run_of(handle.item)));
}

async fn a_started_item_stays_with_its_lost_agent_and_fails_in_the_end(bed: &Bed) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("agent", &[queue]).await;
    bed.store.tick(T0).await.unwrap();
    let handle = bed.started(agent, queue, T0).await;
    let lost_at = T0 + LEASE_TERM;
    let ticked = bed.pass_time(T0, lost_at).await;
    assert_eq!((ticked.lost, ticked.requeued), (vec![handle.item], vec![]));
    let item = bed.item(handle.item).await;
    assert_eq!((item.state, item.lost_since), (ItemState::Claimed, Some(lost_at)));
    assert_eq!(item.lease_expires_at, None);
    // The agent is back, and lost again.
    assert_eq!(
        bed.store.renew(agent, vec![handle], lost_at).await.unwrap(),
        [Ok(false)]
    );
    assert_eq!(bed.item(handle.item).await.lost_since, None);
    let lost_at = lost_at + LEASE_TERM;
    assert_eq!(bed.pass_time(lost_at - LEASE_TERM, lost_at).await.lost, [handle.item]);
    // A day in steps of seconds would take long: every gap gives a lost agent its time back, so
    // that only time in which it could have been heard counts.
    let ticked = bed.store.tick(lost_at + AGENT_LOST_TIMEOUT).await.unwrap();
    assert_eq!((ticked.deaf_for > 0, ticked.failed.len()), (true, 0));
    let history = bed.history(handle.item, 7).await;
    assert_eq!(history[4..], ["lost", "found", "lost"]);
}

async fn a_queue_says_how_long_an_agent_may_be_lost(bed: &Bed) {
    let policy = QueuePolicy {
        agent_lost_timeout: Some(20_000),
        ..QueuePolicy::default()
    };
    let queue = bed.queue_with("q", policy).await.id;
    let agent = bed.agent("agent", &[queue]).await;
    bed.store.tick(T0).await.unwrap();
    let handle = bed.started(agent, queue, T0).await;
    let ticked = bed.pass_time(T0, T0 + LEASE_TERM + 19_999).await;
    assert_eq!((ticked.lost.len(), ticked.failed.len()), (1, 0));
    let ticked = bed.store.tick(T0 + LEASE_TERM + 20_000).await.unwrap();
    assert_eq!(ticked.failed, [handle.item]);
    let item = bed.item(handle.item).await;
    assert_eq!(
        (item.state, item.failure.unwrap().reason.as_str()),
        (ItemState::Failed, "agent-lost")
    );
    assert_eq!(
        bed.store.run(&run_of(handle.item)).await.unwrap().unwrap().state,
        RunState::Failed
    );
}

async fn an_item_of_an_agent_that_records_no_starts_stays(bed: &Bed) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("agent", &[queue]).await;
    bed.store.tick(T0).await.unwrap();
    bed.push(queue).await;
    let leased = bed.store.lease(Some(agent), vec![queue], 1, false, T0).await.unwrap();
    let handle = leased[0].handle;
    assert_eq!(bed.ack(handle, T0).await, Acked::Yes);
    let ticked = bed.pass_time(T0, T0 + 2 * LEASE_TERM).await;
    assert!(ticked.requeued.is_empty() && ticked.lost.is_empty());
    assert_eq!(bed.state(handle.item).await, ItemState::Claimed);
}

/// An item acknowledged at `T0` by an agent that records no starts.
async fn acknowledged(bed: &Bed) -> (AgentId, LeaseHandle) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("agent", &[queue]).await;
    bed.store.tick(T0).await.unwrap();
    bed.push(queue).await;
    let leased = bed.store.lease(Some(agent), vec![queue], 1, false, T0).await.unwrap();
    assert_eq!(bed.ack(leased[0].handle, T0).await, Acked::Yes);
    (agent, leased[0].handle)
}

async fn an_acknowledged_item_of_a_silent_agent_and_run_counts_as_crashed(bed: &Bed) {
    let (_, handle) = acknowledged(bed).await;
    assert_eq!(bed.item(handle.item).await.lease_expires_at, None);
    let ticked = bed.pass_time(T0, T0 + CRASH_TERM - 1).await;
    assert!(ticked.unheard.is_empty());
    let ticked = bed.store.tick(T0 + CRASH_TERM).await.unwrap();
    assert_eq!((ticked.unheard, ticked.requeued), (vec![handle.item], vec![]));
    let item = bed.item(handle.item).await;
    assert_eq!((item.state, item.attempt), (ItemState::Crashed, 1));
    let failure = item.failure.unwrap();
    assert_eq!(
        (failure.stage.as_str(), failure.reason.as_str()),
        ("agent", "agent-lost")
    );
    let run = bed.store.run(&run_of(handle.item)).await.unwrap().unwrap();
    assert_eq!(run.state, RunState::Crashed);
}

async fn an_agent_that_is_heard_keeps_its_acknowledged_item(bed: &Bed) {
    let (agent, handle) = acknowledged(bed).await;
    let heard = T0 + CRASH_TERM - 20_000;
    bed.pass_time(T0, heard).await;
    bed.store.touch_agent(agent, None, heard).await.unwrap();
    assert!(bed.pass_time(heard, heard + CRASH_TERM - 1).await.unheard.is_empty());
    assert_eq!(bed.state(handle.item).await, ItemState::Claimed);
    // Nor is it held against an agent that no server was there to hear it.
    let back = heard + 2 * CRASH_TERM;
    assert!(bed.pass_time(back, back + CRASH_TERM - 1).await.unheard.is_empty());
    let ticked = bed.store.tick(back + CRASH_TERM).await.unwrap();
    assert_eq!(ticked.unheard, [handle.item]);
}

async fn a_crashed_item_goes_on_once_its_run_is_heard(bed: &Bed) {
    let (_, handle) = acknowledged(bed).await;
    let crashed_at = T0 + CRASH_TERM;
    bed.pass_time(T0, crashed_at).await;
    assert_eq!(bed.state(handle.item).await, ItemState::Crashed);
    let starts = RunUpsert {
        user: USER.to_owned(),
        starts: true,
        ..RunUpsert::default()
    };
    let (run, _) = bed
        .store
        .upsert_run(run_of(handle.item), starts, crashed_at)
        .await
        .unwrap();
    assert_eq!(run.state, RunState::Running);
    let item = bed.item(handle.item).await;
    assert_eq!(
        (item.state, item.failure, item.ended_at),
        (ItemState::Running, None, None)
    );
    // From here on only the run's own silence counts.
    bed.store
        .heartbeat(&run_of(handle.item), Heartbeat::default(), crashed_at + CRASH_TERM)
        .await
        .unwrap();
    let ticked = bed.pass_time(crashed_at, crashed_at + CRASH_TERM + 1).await;
    assert!(ticked.unheard.is_empty() && ticked.lost.is_empty());
    assert_eq!(bed.state(handle.item).await, ItemState::Running);
}

async fn a_stopped_item_that_nobody_holds_any_more_ends(bed: &Bed) {
    let (_, handle) = acknowledged(bed).await;
    bed.store.cancel(handle.item, USER, T0).await.unwrap();
    assert_eq!(bed.state(handle.item).await, ItemState::Claimed);
    bed.pass_time(T0, T0 + CRASH_TERM).await;
    assert_eq!(bed.state(handle.item).await, ItemState::Killed);
}

async fn after_a_gap_every_term_begins_anew(bed: &Bed) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("agent", &[queue]).await;
    bed.store.tick(T0).await.unwrap();
    let started = bed.started(agent, queue, T0).await;
    bed.push_many(queue, vec![new_item()], T0).await;
    let leased = bed.store.lease(Some(agent), vec![queue], 1, false, T0).await.unwrap()[0].handle;
    assert_eq!(bed.ack(leased, T0).await, Acked::Yes);
    let run = run_of(leased.item);
    let starts = RunUpsert {
        user: USER.to_owned(),
        starts: true,
        ..RunUpsert::default()
    };
    bed.store.upsert_run(run.clone(), starts, T0).await.unwrap();

    let back = T0 + 600_000;
    let ticked = bed.store.tick(back).await.unwrap();
    assert_eq!(ticked.deaf_for, 600_000);
    assert!(ticked.lost.is_empty() && ticked.crashed.is_empty());
    let ticked = bed.pass_time(back, back + LEASE_TERM - 1).await;
    assert!(ticked.lost.is_empty() && ticked.crashed.is_empty());
    // The agent may be heard again after a term, no sooner; the run after its own.
    let ticked = bed.store.tick(back + LEASE_TERM).await.unwrap();
    assert_eq!(ticked.lost, [started.item]);
    let ticked = bed.pass_time(back + LEASE_TERM, back + CRASH_TERM - 1).await;
    assert!(ticked.crashed.is_empty());
    let ticked = bed.store.tick(back + CRASH_TERM + 1).await.unwrap();
    assert_eq!(ticked.crashed, [run]);
}

async fn a_clock_set_back_ends_nothing(bed: &Bed) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("agent", &[queue]).await;
    bed.store.tick(T0).await.unwrap();
    bed.push(queue).await;
    let handle = bed.lease(agent, &[queue], 1, T0).await[0].handle;
    let back = T0 - 3_600_000;
    bed.store.tick(back).await.unwrap();
    assert_eq!(bed.item(handle.item).await.lease_expires_at, Some(back + LEASE_TERM));
    let ticked = bed.pass_time(back, back + LEASE_TERM).await;
    assert_eq!(ticked.requeued, [(handle.item, queue)]);
}

async fn a_silent_run_crashes_and_comes_back(bed: &Bed) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("agent", &[queue]).await;
    bed.store.tick(T0).await.unwrap();
    bed.push(queue).await;
    let handle = bed.store.lease(Some(agent), vec![queue], 1, false, T0).await.unwrap()[0].handle;
    assert_eq!(bed.ack(handle, T0).await, Acked::Yes);
    let run = run_of(handle.item);
    let starts = RunUpsert {
        user: USER.to_owned(),
        starts: true,
        ..RunUpsert::default()
    };
    bed.store.upsert_run(run.clone(), starts, T0).await.unwrap();
    let ticked = bed.pass_time(T0, T0 + CRASH_TERM + 5_000).await;
    assert_eq!(ticked.crashed, [run.clone()]);
    assert_eq!(bed.state(handle.item).await, ItemState::Crashed);
    let ack = bed
        .store
        .heartbeat(&run, Heartbeat::default(), T0 + CRASH_TERM + 6_000)
        .await
        .unwrap();
    assert_eq!((ack.changed, ack.item), (Some(RunState::Running), Some(handle.item)));
    assert_eq!(bed.state(handle.item).await, ItemState::Running);
    let history = bed.history(handle.item, 6).await;
    assert_eq!(history[3..], ["running", "crashed", "revived"]);
}
