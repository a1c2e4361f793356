//! Leasing: order, turns, exclusivity, pauses, and what a holder may do.

use std::collections::HashSet;

use proptest::strategy::{Strategy as _, ValueTree as _};
use slipway_model::id::{ItemId, RunName};
use slipway_model::item::{ItemState, LEASE_TERM, Refusal};
use slipway_model::priority::Priority;
use slipway_model::run::RunState;
use slipway_store::items::{Acked, Outcome, ReturnCause};
use slipway_store::queues::QueueUpdate;
use slipway_store::runs::RunUpsert;

use crate::bed::{Bed, T0, USER, failure, new_item, run_of, with_priority};

crate::cases!(
    items_come_by_priority_then_in_order_of_submission,
    queues_are_taken_in_turn,
    an_item_is_leased_once_whoever_asks,
    nothing_comes_from_a_paused_or_unknown_queue,
    a_draining_replaced_or_unknown_agent_gets_nothing,
    a_leased_item_says_what_was_pushed,
    an_acknowledgement_names_the_run_and_may_be_repeated,
    an_acknowledgement_may_record_the_start_in_the_same_step,
    an_answer_comes_for_every_handle_of_a_batch,
    a_start_is_recorded_once,
    a_renewal_tells_of_a_stop_and_of_a_lost_lease,
    an_outcome_ends_the_run,
    a_preempted_item_fails_in_the_end,
    a_preempted_item_goes_to_the_end_of_its_priority,
    a_run_of_somebody_else_is_refused,
    a_report_from_before_a_return_changes_nothing,
    a_stopped_item_is_not_queued_again,
    a_warning_is_kept_and_cleared,
);

async fn items_come_by_priority_then_in_order_of_submission(bed: &Bed) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("agent", &[queue]).await;
    // Some orders, the same in each run.
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let order = proptest::collection::vec((0..4_i64, 1..4_usize), 1..20);
    for _ in 0..5 {
        let pushes = order.new_tree(&mut runner).unwrap().current();
        let mut expected: Vec<(i64, ItemId)> = Vec::new();
        for (priority, count) in pushes {
            let item = with_priority(Priority::from_code(priority).unwrap());
            let ids = bed.push_many(queue, vec![item; count], T0).await;
            expected.extend(ids.into_iter().map(|id| (priority, id)));
        }
        expected.sort_by_key(|(priority, _)| *priority);
        let waiting = bed.store.waiting(queue, 0, 1000).await.unwrap();
        let expected: Vec<ItemId> = expected.into_iter().map(|(_, id)| id).collect();
        assert_eq!(waiting.rows.iter().map(|item| item.id).collect::<Vec<_>>(), expected);
        for (place, id) in expected.iter().enumerate().step_by(7) {
            assert_eq!(bed.store.position(*id).await.unwrap(), Some(place as u64 + 1));
        }
        let mut leased = Vec::new();
        while leased.len() < expected.len() {
            let some = bed.lease(agent, &[queue], 3, T0).await;
            assert!(!some.is_empty());
            leased.extend(some.into_iter().map(|leased| leased.handle.item));
        }
        assert_eq!(leased, expected);
        assert_eq!(bed.store.position(expected[0]).await.unwrap(), None);
    }
}

async fn queues_are_taken_in_turn(bed: &Bed) {
    let queues = [bed.queue("a").await, bed.queue("b").await, bed.queue("c").await];
    for queue in queues {
        bed.push_many(queue, vec![new_item(); 6], T0).await;
    }
    let agent = bed.agent("agent", &queues).await;
    let mut first: Vec<_> = Vec::new();
    for _ in 0..3 {
        first.push(bed.lease(agent, &queues, 1, T0).await[0].item.queue);
    }
    assert_eq!(HashSet::<_>::from_iter(first).len(), 3);
    let six = bed.lease(agent, &queues, 6, T0).await;
    for queue in queues {
        assert_eq!(six.iter().filter(|leased| leased.item.queue == queue).count(), 2);
    }
    // What one queue lacks the others give.
    let rest = bed.lease(agent, &queues, 100, T0).await;
    assert_eq!(rest.len(), 9);
}

async fn an_item_is_leased_once_whoever_asks(bed: &Bed) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("agent", &[queue]).await;
    let pushed: HashSet<ItemId> = bed
        .push_many(queue, vec![new_item(); 200], T0)
        .await
        .into_iter()
        .collect();
    let lessees = (0..8).map(|_| {
        let store = bed.store.clone();
        tokio::spawn(async move {
            let mut mine = Vec::new();
            loop {
                let some = store.lease(Some(agent), vec![queue], 7, true, T0).await.unwrap();
                if some.is_empty() {
                    return mine;
                }
                mine.extend(some.into_iter().map(|leased| leased.handle.item));
            }
        })
    });
    let mut all = Vec::new();
    for lessee in lessees.collect::<Vec<_>>() {
        all.extend(lessee.await.unwrap());
    }
    // A lessee that skips locked rows may find nothing while another still holds them.
    all.extend(
        bed.lease(agent, &[queue], 1000, T0)
            .await
            .into_iter()
            .map(|leased| leased.handle.item),
    );
    assert_eq!(all.len(), pushed.len());
    assert_eq!(all.into_iter().collect::<HashSet<_>>(), pushed);
}

async fn nothing_comes_from_a_paused_or_unknown_queue(bed: &Bed) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("agent", &[queue]).await;
    bed.push(queue).await;
    let pause = |paused| QueueUpdate {
        paused: Some(paused),
        ..QueueUpdate::default()
    };
    bed.store.update_queue(queue, pause(true), USER, T0).await.unwrap();
    assert!(bed.lease(agent, &[queue], 1, T0).await.is_empty());
    bed.store.update_queue(queue, pause(false), USER, T0).await.unwrap();
    let unknown = slipway_model::id::QueueId::new(queue.entity, 4711);
    assert!(bed.lease(agent, &[unknown], 1, T0).await.is_empty());
    assert_eq!(bed.lease(agent, &[unknown, queue], 1, T0).await.len(), 1);
}

async fn a_draining_replaced_or_unknown_agent_gets_nothing(bed: &Bed) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("agent", &[queue]).await;
    bed.push(queue).await;
    bed.store.request_drain(agent, true, USER, T0).await.unwrap();
    assert!(bed.lease(agent, &[queue], 1, T0).await.is_empty());
    let successor = bed.agent("agent", &[queue]).await;
    assert!(bed.lease(agent, &[queue], 1, T0).await.is_empty());
    let unknown = slipway_model::id::AgentId::new(agent.entity, 4711);
    assert!(bed.lease(unknown, &[queue], 1, T0).await.is_empty());
    assert_eq!(bed.lease(successor, &[queue], 1, T0).await.len(), 1);
}

async fn a_leased_item_says_what_was_pushed(bed: &Bed) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("agent", &[queue]).await;
    let mut new = with_priority(Priority::High);
    new.spec = r#"{"job":"ü \" \\ \n"}"#.to_owned();
    new.template_values = r#"{"a":1}"#.to_owned();
    new.key_id = 42;
    let id = bed.push_many(queue, vec![new.clone()], T0).await[0];
    let leased = bed.lease(agent, &[queue], 1, T0 + 5).await.remove(0);
    assert_eq!(leased.handle.epoch, 1);
    let item = leased.item;
    assert_eq!((item.id, item.queue, item.state), (id, queue, ItemState::Leased));
    assert_eq!((&item.spec, &item.template_values), (&new.spec, &new.template_values));
    assert_eq!(
        (item.priority, item.pushed_by_key, item.author.as_str()),
        (Priority::High, 42, USER)
    );
    assert_eq!((item.agent, item.managed, item.attempt), (Some(agent), true, 1));
    assert_eq!((item.created_at, item.leased_at), (T0, Some(T0 + 5)));
    assert_eq!(item.lease_expires_at, Some(T0 + 5 + LEASE_TERM));
    assert_eq!(bed.item(id).await, item);
}

async fn an_acknowledgement_names_the_run_and_may_be_repeated(bed: &Bed) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("agent", &[queue]).await;
    bed.push(queue).await;
    let handle = bed.lease(agent, &[queue], 1, T0).await[0].handle;
    let run = run_of(handle.item);
    assert_eq!(bed.ack(handle, T0).await, Acked::Yes);
    assert_eq!(bed.ack(handle, T0).await, Acked::Yes);
    let other = RunName {
        run: "other".to_owned(),
        ..run.clone()
    };
    let refused = bed.store.ack(None, vec![(handle, other)], T0).await.unwrap();
    assert_eq!(refused, [Acked::No(Refusal::State(ItemState::Claimed))]);
    let item = bed.item(handle.item).await;
    assert_eq!((item.state, item.run.as_ref()), (ItemState::Claimed, Some(&run)));
    let row = bed.store.run(&run).await.unwrap().unwrap();
    assert_eq!((row.state, row.item), (RunState::Pending, Some(handle.item)));
    assert_eq!(bed.history(handle.item, 3).await, ["pushed", "leased", "acked"]);
}

async fn an_answer_comes_for_every_handle_of_a_batch(bed: &Bed) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("agent", &[queue]).await;
    bed.push_many(queue, vec![new_item(); 3], T0).await;
    let leased = bed.lease(agent, &[queue], 3, T0).await;
    let mut handles: Vec<_> = leased.iter().map(|leased| leased.handle).collect();
    let acks = handles.iter().map(|handle| (*handle, run_of(handle.item))).collect();
    assert_eq!(bed.store.ack(None, acks, T0).await.unwrap(), [Acked::Yes; 3]);
    let mut stale = handles[1];
    stale.epoch += 1;
    let mut unknown = handles[1];
    unknown.item.number = 4711;
    handles.extend([stale, unknown, handles[0]]);
    let answers = bed.store.start(None, handles, T0).await.unwrap();
    let no = Err(Refusal::Stale);
    assert_eq!(answers, [Ok(()), Ok(()), Ok(()), no, no, Ok(())]);
    assert!(bed.store.start(None, Vec::new(), T0).await.unwrap().is_empty());
}

async fn a_start_is_recorded_once(bed: &Bed) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("agent", &[queue]).await;
    let handle = bed.started(agent, queue, T0).await;
    assert_eq!(bed.store.start(None, vec![handle], T0).await.unwrap(), [Ok(())]);
    assert!(bed.item(handle.item).await.start_recorded);
    assert_eq!(
        bed.history(handle.item, 4).await,
        ["pushed", "leased", "acked", "started"]
    );
    let released = bed
        .store
        .hand_back(None, handle, ReturnCause::Released, T0)
        .await
        .unwrap();
    assert_eq!(released, Err(Refusal::State(ItemState::Claimed)));
}

async fn an_acknowledgement_may_record_the_start_in_the_same_step(bed: &Bed) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("agent", &[queue]).await;
    bed.push_many(queue, vec![new_item(); 3], T0).await;
    let leased = bed.lease(agent, &[queue], 3, T0).await;
    let [fresh, acked, taken] = [leased[0].handle, leased[1].handle, leased[2].handle];
    bed.ack(acked, T0).await;
    let mut stale = fresh;
    stale.epoch += 1;
    let acks = vec![
        (fresh, run_of(fresh.item)),
        (acked, run_of(acked.item)),
        // A run that is another item's.
        (taken, run_of(acked.item)),
        (stale, run_of(fresh.item)),
    ];
    let answers = [Acked::Yes, Acked::Yes, Acked::RunTaken, Acked::No(Refusal::Stale)];
    for _ in 0..2 {
        assert_eq!(
            bed.store.ack_and_start(Some(agent), acks.clone(), T0).await.unwrap(),
            answers
        );
    }
    for handle in [fresh, acked] {
        let item = bed.item(handle.item).await;
        assert_eq!((item.state, item.start_recorded), (ItemState::Claimed, true));
        assert_eq!(item.run, Some(run_of(handle.item)));
    }
    assert_eq!(
        bed.history(acked.item, 4).await,
        ["pushed", "leased", "acked", "started"]
    );
    let item = bed.item(taken.item).await;
    assert_eq!(
        (item.state, item.start_recorded, item.run),
        (ItemState::Leased, false, None)
    );
    // Another run than the one that it was acknowledged with starts nothing.
    let other = vec![(acked, run_of(taken.item))];
    assert_eq!(
        bed.store.ack_and_start(Some(agent), other, T0).await.unwrap(),
        [Acked::No(Refusal::State(ItemState::Claimed))]
    );
}

async fn a_renewal_tells_of_a_stop_and_of_a_lost_lease(bed: &Bed) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("agent", &[queue]).await;
    let handle = bed.started(agent, queue, T0).await;
    let renew = |agent, now| bed.store.renew(agent, vec![handle], now);
    assert_eq!(renew(agent, T0 + 20_000).await.unwrap(), [Ok(false)]);
    assert_eq!(
        bed.item(handle.item).await.lease_expires_at,
        Some(T0 + 20_000 + LEASE_TERM)
    );
    bed.store.cancel(handle.item, USER, T0).await.unwrap();
    assert_eq!(renew(agent, T0 + 30_000).await.unwrap(), [Ok(true)]);
    let other = bed.agent("other", &[queue]).await;
    assert_eq!(renew(other, T0).await.unwrap(), [Err(Refusal::Stale)]);
    bed.finish(handle, Outcome::Killed, T0).await.unwrap();
    assert_eq!(
        renew(agent, T0).await.unwrap(),
        [Err(Refusal::State(ItemState::Killed))]
    );
}

async fn an_outcome_ends_the_run(bed: &Bed) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("agent", &[queue]).await;
    for (outcome, item, run) in [
        (Outcome::Finished, ItemState::Finished, RunState::Finished),
        (
            Outcome::Failed(failure("image-pull")),
            ItemState::Failed,
            RunState::Failed,
        ),
        (Outcome::Killed, ItemState::Killed, RunState::Killed),
    ] {
        let handle = bed.started(agent, queue, T0).await;
        bed.finish(handle, outcome.clone(), T0 + 9).await.unwrap();
        bed.finish(handle, outcome.clone(), T0 + 10).await.unwrap();
        let stored = bed.item(handle.item).await;
        assert_eq!((stored.state, stored.ended_at), (item, Some(T0 + 9)));
        assert_eq!(stored.failure.is_some(), item == ItemState::Failed);
        assert_eq!(stored.lease_expires_at, None);
        assert_eq!(bed.store.run(&run_of(handle.item)).await.unwrap().unwrap().state, run);
    }
    let counts = bed.store.queue_counts(&[queue]).await.unwrap();
    assert_eq!(counts[0].last_success_at, Some(T0 + 9));
    assert!(bed.store.held_items(agent).await.unwrap().is_empty());
}

async fn a_preempted_item_fails_in_the_end(bed: &Bed) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("agent", &[queue]).await;
    let mut handle = bed.started(agent, queue, T0).await;
    for attempt in 2..=6 {
        let returned = bed
            .store
            .hand_back(None, handle, ReturnCause::Preempted, T0)
            .await
            .unwrap();
        assert_eq!(returned, Ok(()));
        let leased = bed.lease(agent, &[queue], 1, T0).await.remove(0);
        assert_eq!((leased.item.id, leased.item.attempt), (handle.item, attempt));
        assert_eq!(leased.item.run, Some(run_of(handle.item)), "the run is kept");
        handle = leased.handle;
        assert_eq!(bed.ack(handle, T0).await, Acked::Yes);
    }
    bed.store
        .hand_back(None, handle, ReturnCause::Preempted, T0)
        .await
        .unwrap()
        .unwrap();
    let item = bed.item(handle.item).await;
    assert_eq!((item.state, item.preemptions), (ItemState::Failed, 5));
    assert_eq!(item.failure.unwrap().reason, "preempted");
}

async fn a_preempted_item_goes_to_the_end_of_its_priority(bed: &Bed) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("agent", &[queue]).await;
    let low = bed.push_many(queue, vec![with_priority(Priority::Low)], T0).await[0];
    let medium = bed.push_many(queue, vec![new_item(); 3], T0).await;
    let leased = bed.lease(agent, &[queue], 2, T0).await;
    assert_eq!(leased[0].item.id, medium[0]);
    for leased in &leased {
        assert_eq!(bed.ack(leased.handle, T0).await, Acked::Yes);
        let returned = bed
            .store
            .hand_back(Some(agent), leased.handle, ReturnCause::Preempted, T0);
        assert_eq!(returned.await.unwrap(), Ok(()));
    }
    let last = bed.push(queue).await;
    let expected = [medium[2], medium[0], medium[1], last, low];
    let waiting = bed.store.waiting(queue, 0, 10).await.unwrap();
    assert_eq!(waiting.rows.iter().map(|item| item.id).collect::<Vec<_>>(), expected);
    for (place, id) in expected.into_iter().enumerate() {
        assert_eq!(bed.store.position(id).await.unwrap(), Some(place as u64 + 1));
    }
    let again = bed.lease(agent, &[queue], 10, T0).await;
    assert_eq!(again.iter().map(|leased| leased.item.id).collect::<Vec<_>>(), expected);
    // Any other return keeps the place.
    for leased in [&again[1], &again[0]] {
        let returned = bed
            .store
            .hand_back(Some(agent), leased.handle, ReturnCause::Released, T0);
        assert_eq!(returned.await.unwrap(), Ok(()));
    }
    let kept = bed.lease(agent, &[queue], 10, T0).await;
    assert_eq!(
        kept.iter().map(|leased| leased.item.id).collect::<Vec<_>>(),
        expected[..2]
    );
}

async fn a_run_of_somebody_else_is_refused(bed: &Bed) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("agent", &[queue]).await;
    let name = |run: &str| RunName {
        run: run.to_owned(),
        ..run_of(ItemId::new(1, 1))
    };
    let upsert = RunUpsert {
        user: "bob".to_owned(),
        starts: true,
        ..RunUpsert::default()
    };
    bed.store.upsert_run(name("theirs"), upsert.clone(), T0).await.unwrap();
    bed.store.upsert_run(name("resumed"), upsert, T0).await.unwrap();
    let mut resumes = new_item();
    resumes.spec = r#"{"entity":"alice","project":"p","run_id":"resumed"}"#.to_owned();
    bed.push_many(queue, vec![new_item(), new_item(), new_item(), resumes], T0)
        .await;
    let leased = bed.lease(agent, &[queue], 4, T0).await;
    let ack = |acks: &[(usize, &str)]| {
        let acks = acks.iter().map(|(place, run)| (leased[*place].handle, name(run)));
        bed.store.ack(Some(agent), acks.collect(), T0 + 1)
    };
    let before = bed.item(leased[0].item.id).await;
    // One refusal leaves the rest of the batch alone; of two items one gets a new run.
    let answers = ack(&[(0, "theirs"), (1, "new"), (2, "new"), (3, "resumed")])
        .await
        .unwrap();
    assert_eq!(answers, [Acked::RunTaken, Acked::Yes, Acked::RunTaken, Acked::Yes]);
    let refused = bed.item(leased[0].item.id).await;
    assert_eq!((refused.state, refused.run), (ItemState::Leased, None));
    assert_eq!((refused.epoch, refused.agent), (before.epoch, before.agent));
    assert_eq!(refused.lease_expires_at, Some(T0 + 1 + LEASE_TERM));
    let item_of = |run: &str| {
        let name = name(run);
        async move { bed.store.run(&name).await.unwrap().unwrap().item }
    };
    assert_eq!(item_of("theirs").await, None);
    assert_eq!(item_of("new").await, Some(leased[1].item.id));
    assert_eq!(item_of("resumed").await, Some(leased[3].item.id));
    assert_eq!(bed.history(leased[0].item.id, 2).await, ["pushed", "leased"]);
    // Its lease goes on, for a run of its own.
    assert_eq!(ack(&[(0, "own")]).await.unwrap(), [Acked::Yes]);
    // And a later attempt goes on with that.
    let returned = bed
        .store
        .hand_back(Some(agent), leased[0].handle, ReturnCause::Absent, T0)
        .await;
    assert_eq!(returned.unwrap(), Ok(()));
    let again = bed.lease(agent, &[queue], 1, T0).await.remove(0);
    let acked = bed.store.ack(Some(agent), vec![(again.handle, name("own"))], T0).await;
    assert_eq!(acked.unwrap(), [Acked::Yes]);
}

async fn a_report_from_before_a_return_changes_nothing(bed: &Bed) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("agent", &[queue]).await;
    for cause in [ReturnCause::Released, ReturnCause::Absent, ReturnCause::Preempted] {
        bed.push(queue).await;
        let handle = bed.lease(agent, &[queue], 1, T0).await[0].handle;
        assert_eq!(bed.ack(handle, T0).await, Acked::Yes);
        bed.store
            .hand_back(Some(agent), handle, cause, T0)
            .await
            .unwrap()
            .unwrap();
        let waiting = bed.item(handle.item).await;
        assert_eq!((waiting.state, waiting.epoch), (ItemState::Pending, handle.epoch + 1));
        for outcome in [Outcome::Finished, Outcome::Failed(failure("late")), Outcome::Killed] {
            for holder in [None, Some(agent)] {
                let answer = bed.report(holder, handle, outcome.clone(), T0).await;
                assert_eq!(answer, Err(Refusal::Stale), "{outcome:?} after {cause:?}");
            }
        }
        assert_eq!(bed.item(handle.item).await, waiting, "{cause:?}");
        bed.store.cancel(handle.item, USER, T0).await.unwrap();
    }
}

async fn a_stopped_item_is_not_queued_again(bed: &Bed) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("agent", &[queue]).await;
    let handle = bed.started(agent, queue, T0).await;
    bed.store.cancel(handle.item, USER, T0).await.unwrap();
    bed.store
        .hand_back(None, handle, ReturnCause::Absent, T0)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(bed.state(handle.item).await, ItemState::Killed);
}

async fn a_warning_is_kept_and_cleared(bed: &Bed) {
    let queue = bed.queue("q").await;
    let agent = bed.agent("agent", &[queue]).await;
    let handle = bed.started(agent, queue, T0).await;
    bed.store
        .warn(None, handle, failure("unschedulable"), T0)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(bed.item(handle.item).await.warning, Some(failure("unschedulable")));
    let mut nothing = failure("unschedulable");
    nothing.message.clear();
    for _ in 0..2 {
        let cleared = bed.store.warn(None, handle, nothing.clone(), T0).await.unwrap();
        assert_eq!((cleared, bed.item(handle.item).await.warning), (Ok(()), None));
    }
    // A word of what happened, once.
    assert_eq!(bed.history(handle.item, 6).await[4..], ["warning", "warning-cleared"]);
    bed.store
        .warn(None, handle, failure("unschedulable"), T0)
        .await
        .unwrap()
        .unwrap();
    bed.store.running(None, vec![handle], T0).await.unwrap()[0].unwrap();
    let item = bed.item(handle.item).await;
    assert_eq!(
        (item.state, item.warning, item.started_at),
        (ItemState::Running, None, Some(T0))
    );
}
