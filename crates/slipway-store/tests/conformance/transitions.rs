//! Every event in every state: the store does what the model's transition table says.

use slipway_model::Millis;
use slipway_model::id::{AgentId, LeaseHandle, QueueId};
use slipway_model::item::{CRASH_TERM, Effect, ItemEvent, ItemState, LEASE_TERM, Refusal, transition};
use slipway_store::items::{Acked, Outcome, ReturnCause};
use slipway_store::runs::{Heartbeat, RunUpsert};

use crate::bed::{Bed, T0, USER, failure, run_of};

crate::cases!(
    every_event_in_every_state_does_what_the_model_says,
    an_agent_that_was_replaced_changes_nothing_in_any_state,
    a_stale_handle_changes_nothing_in_any_state,
);

/// How to bring a new item into a situation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Situation {
    Returned,
    Leased,
    Claimed,
    Started,
    Running,
    Finished,
    Failed,
    Crashed,
    Killed,
}

const SITUATIONS: [Situation; 9] = [
    Situation::Returned,
    Situation::Leased,
    Situation::Claimed,
    Situation::Started,
    Situation::Running,
    Situation::Finished,
    Situation::Failed,
    Situation::Crashed,
    Situation::Killed,
];

/// The events that a holder, or time, brings about.
const EVENTS: [ItemEvent; 12] = [
    ItemEvent::Lease,
    ItemEvent::Ack,
    ItemEvent::Start,
    ItemEvent::RunStarted,
    ItemEvent::Succeed,
    ItemEvent::Fail,
    ItemEvent::Kill,
    ItemEvent::Revive,
    ItemEvent::Expire,
    ItemEvent::ReportAbsent,
    ItemEvent::Preempt,
    ItemEvent::Release,
];

/// How many of these the holder brings about, each with its handle.
const HOLDERS: usize = 9;

fn is_holders(event: &ItemEvent) -> bool {
    !matches!(event, ItemEvent::Lease | ItemEvent::Expire | ItemEvent::Revive)
}

fn stale_writes(history: &[String]) -> usize {
    history.iter().filter(|kind| *kind == "stale-write").count()
}

/// Brings a new item into a situation; the only waiting one of its queue.
async fn arrange(bed: &Bed, agent: AgentId, queue: QueueId, situation: Situation, now: Millis) -> LeaseHandle {
    let store = &bed.store;
    bed.push_many(queue, vec![crate::bed::new_item()], now).await;
    // Only an item whose agent does not report its end follows its run into a crash.
    let managed = situation != Situation::Crashed;
    let leased = store.lease(Some(agent), vec![queue], 1, managed, now).await.unwrap();
    let handle = leased[0].handle;
    let ack = || async { assert_eq!(bed.ack(handle, now).await, Acked::Yes) };
    match situation {
        Situation::Returned => {
            store
                .hand_back(Some(agent), handle, ReturnCause::Released, now)
                .await
                .unwrap()
                .unwrap();
        }
        Situation::Leased => {}
        Situation::Claimed => ack().await,
        Situation::Started | Situation::Running => {
            ack().await;
            assert_eq!(store.start(Some(agent), vec![handle], now).await.unwrap(), [Ok(())]);
            if situation == Situation::Running {
                assert_eq!(store.running(Some(agent), vec![handle], now).await.unwrap(), [Ok(())]);
            }
        }
        Situation::Finished => {
            ack().await;
            bed.finish(handle, Outcome::Finished, now).await.unwrap();
        }
        Situation::Failed => bed
            .finish(handle, Outcome::Failed(failure("exit-code")), now)
            .await
            .unwrap(),
        Situation::Killed => bed.finish(handle, Outcome::Killed, now).await.unwrap(),
        Situation::Crashed => {
            ack().await;
            let upsert = RunUpsert {
                user: USER.to_owned(),
                starts: true,
                ..RunUpsert::default()
            };
            store.upsert_run(run_of(handle.item), upsert, now).await.unwrap();
            let ticked = bed.pass_time(now, now + CRASH_TERM + 10_000).await;
            assert_eq!(ticked.crashed, [run_of(handle.item)]);
        }
    }
    handle
}

/// Brings an event about through the store's interface.
async fn apply(
    bed: &Bed,
    agent: AgentId,
    queue: QueueId,
    handle: LeaseHandle,
    event: &ItemEvent,
    now: Millis,
) -> Result<(), Refusal> {
    let store = &bed.store;
    match event {
        ItemEvent::Lease => {
            let before = bed.item(handle.item).await;
            let leased = bed.lease(agent, &[queue], 1, now).await;
            match leased.first() {
                Some(leased) => {
                    assert_eq!(leased.handle.item, handle.item);
                    assert_eq!(leased.handle.epoch, before.epoch + 1);
                    Ok(())
                }
                None => Err(Refusal::State(bed.state(handle.item).await)),
            }
        }
        ItemEvent::Ack => match store
            .ack(Some(agent), vec![(handle, run_of(handle.item))], now)
            .await
            .unwrap()[0]
        {
            Acked::Yes => Ok(()),
            Acked::No(refusal) => Err(refusal),
            Acked::RunTaken => panic!("the run is the item's own"),
        },
        ItemEvent::Start => store.start(Some(agent), vec![handle], now).await.unwrap()[0],
        ItemEvent::RunStarted => store.running(Some(agent), vec![handle], now).await.unwrap()[0],
        ItemEvent::Succeed => bed.report(Some(agent), handle, Outcome::Finished, now).await,
        ItemEvent::Fail => store
            .fail(Some(agent), handle, failure("exit-code"), now)
            .await
            .unwrap(),
        ItemEvent::Kill => bed.report(Some(agent), handle, Outcome::Killed, now).await,
        ItemEvent::ReportAbsent => store
            .hand_back(Some(agent), handle, ReturnCause::Absent, now)
            .await
            .unwrap(),
        ItemEvent::Preempt => store
            .hand_back(Some(agent), handle, ReturnCause::Preempted, now)
            .await
            .unwrap(),
        ItemEvent::Release => store
            .hand_back(Some(agent), handle, ReturnCause::Released, now)
            .await
            .unwrap(),
        ItemEvent::Expire => {
            let before = bed.state(handle.item).await;
            bed.pass_time(now, now + LEASE_TERM + 1).await;
            let item = bed.item(handle.item).await;
            if item.state != before || item.lost_since.is_some() {
                Ok(())
            } else {
                Err(Refusal::State(item.state))
            }
        }
        ItemEvent::Revive => {
            let before = bed.state(handle.item).await;
            if before == ItemState::Crashed {
                store
                    .heartbeat(&run_of(handle.item), Heartbeat::default(), now)
                    .await
                    .unwrap();
                Ok(())
            } else {
                Err(Refusal::State(before))
            }
        }
        ItemEvent::Crash => unreachable!("arranged as a situation"),
    }
}

async fn every_event_in_every_state_does_what_the_model_says(bed: &Bed) {
    let queue = bed.queue("q").await;
    // Far enough apart that one pair's passing time does not concern the next.
    let mut now = T0;
    for situation in SITUATIONS {
        for event in &EVENTS {
            now += 1_000_000;
            bed.store.tick(now).await.unwrap();
            let pair = format!("{event:?} when {situation:?}");
            let agent = bed.agent(&format!("agent-{now}"), &[queue]).await;
            let handle = arrange(bed, agent, queue, situation, now).await;
            now += CRASH_TERM + 20_000;
            let before = bed.item(handle.item).await;
            let epoch =
                (!matches!(event, ItemEvent::Lease | ItemEvent::Expire | ItemEvent::Revive)).then_some(handle.epoch);
            let expected = transition(before.facts(), event, epoch);
            let answer = apply(bed, agent, queue, handle, event, now).await;
            let after = bed.item(handle.item).await;
            match expected {
                Err(refusal) => {
                    assert_eq!(answer, Err(refusal), "{pair}");
                    assert_eq!(after, before, "{pair}");
                }
                Ok(effect) => {
                    assert_eq!(answer, Ok(()), "{pair}");
                    let (state, attempt) = match effect {
                        Effect::None => (before.state, before.attempt),
                        Effect::To(state) => (state, before.attempt),
                        Effect::Requeue { new_attempt } => {
                            (ItemState::Pending, before.attempt + i64::from(new_attempt))
                        }
                    };
                    assert_eq!((after.state, after.attempt), (state, attempt), "{pair}");
                    if state == ItemState::Pending && before.state != ItemState::Pending {
                        assert!(!after.start_recorded && after.lost_since.is_none(), "{pair}");
                    }
                    assert_eq!(after.state.is_terminal(), after.ended_at.is_some(), "{pair}");
                }
            }
            if before.state.is_held() && after.state == ItemState::Pending {
                assert_eq!(after.epoch, before.epoch + 1, "{pair}: the holder is one no more");
            }
            // Nothing is left for the next pair to find; what has ended refuses.
            let _ended = bed.store.cancel(handle.item, USER, now).await;
            let left = LeaseHandle {
                epoch: after.epoch,
                ..handle
            };
            let _ended = bed.finish(left, Outcome::Killed, now).await;
        }
    }
}

async fn an_agent_that_was_replaced_changes_nothing_in_any_state(bed: &Bed) {
    let queue = bed.queue("q").await;
    for (place, situation) in SITUATIONS.into_iter().enumerate() {
        // A crashed item is nobody's; the others of these have ended.
        if !matches!(
            situation,
            Situation::Leased | Situation::Claimed | Situation::Started | Situation::Running
        ) {
            continue;
        }
        let name = format!("agent-{place}");
        let replaced = bed.agent(&name, &[queue]).await;
        let handle = arrange(bed, replaced, queue, situation, T0).await;
        let successor = bed.agent(&name, &[queue]).await;
        let before = bed.item(handle.item).await;
        assert_eq!((before.agent, before.epoch), (Some(successor), handle.epoch));
        for event in EVENTS.iter().filter(|event| is_holders(event)) {
            let pair = format!("{event:?} when {situation:?}");
            let answer = apply(bed, replaced, queue, handle, event, T0).await;
            assert_eq!(answer, Err(Refusal::Stale), "{pair}");
            assert_eq!(bed.item(handle.item).await, before, "{pair}");
        }
        let warned = bed.store.warn(Some(replaced), handle, failure("x"), T0).await.unwrap();
        assert_eq!(warned, Err(Refusal::Stale), "{situation:?}");
        let steps = match situation {
            Situation::Leased => 2,
            Situation::Claimed => 3,
            Situation::Started => 4,
            _ => 5,
        };
        let history = bed.history(handle.item, steps + HOLDERS + 1).await;
        assert_eq!(stale_writes(&history), HOLDERS + 1, "{situation:?}: {history:?}");
        // What it holds is the successor's, and the successor's alone to end.
        bed.store
            .fail(Some(successor), handle, failure("x"), T0)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(bed.state(handle.item).await, ItemState::Failed, "{situation:?}");
    }
}

async fn a_stale_handle_changes_nothing_in_any_state(bed: &Bed) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("agent", &[queue]).await;
    for situation in SITUATIONS
        .into_iter()
        .filter(|situation| *situation != Situation::Crashed)
    {
        let stale = arrange(bed, agent, queue, Situation::Returned, T0).await;
        let current = bed.lease(agent, &[queue], 1, T0).await[0].handle;
        assert_eq!(current.item, stale.item);
        match situation {
            Situation::Returned => {
                let returned = bed
                    .store
                    .hand_back(Some(agent), current, ReturnCause::Released, T0)
                    .await
                    .unwrap();
                assert_eq!(returned, Ok(()));
            }
            Situation::Leased => {}
            Situation::Finished | Situation::Claimed | Situation::Started | Situation::Running | Situation::Crashed => {
                assert_eq!(bed.ack(current, T0).await, Acked::Yes);
                if situation == Situation::Finished {
                    bed.finish(current, Outcome::Finished, T0).await.unwrap();
                }
            }
            Situation::Failed => bed.finish(current, Outcome::Failed(failure("x")), T0).await.unwrap(),
            Situation::Killed => bed.finish(current, Outcome::Killed, T0).await.unwrap(),
        }
        let before = bed.item(stale.item).await;
        let steps = match situation {
            Situation::Leased => 4,
            Situation::Finished => 6,
            _ => 5,
        };
        for event in EVENTS.iter().filter(|event| is_holders(event)) {
            let answer = apply(bed, agent, queue, stale, event, T0).await;
            assert_eq!(answer, Err(Refusal::Stale), "{event:?} when {situation:?}");
            assert_eq!(bed.item(stale.item).await, before, "{event:?} when {situation:?}");
        }
        let history = bed.history(stale.item, steps + HOLDERS).await;
        assert_eq!(stale_writes(&history), HOLDERS, "{situation:?}: {history:?}");
        if before.state == ItemState::Pending {
            bed.store.cancel(stale.item, USER, T0).await.unwrap();
        }
    }
}
