use proptest::prelude::*;

use super::*;

/// Half a spread: every wait is its interval.
const EVEN: f64 = 0.5;

fn handles(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn core(max_jobs: i64) -> Core {
    Core::new(max_jobs, true, None, [], 0)
}

/// The actions without heartbeats.
fn work(actions: Vec<Action>) -> Vec<Action> {
    actions
        .into_iter()
        .filter(|action| !matches!(action, Action::Heartbeat(_)))
        .collect()
}

#[test]
fn an_idle_agent_pops_at_once_and_then_on_the_servers_word() {
    let mut core = core(2);
    assert_eq!(
        core.handle(Event::Tick, 0, EVEN),
        [Action::Pop(2), Action::Heartbeat(AgentStatus::Polling)]
    );
    // A signal during the pop is not lost: another pop follows.
    assert_eq!(core.handle(Event::StreamOpened, 1, EVEN), []);
    assert_eq!(core.handle(Event::Popped(vec![]), 2, EVEN), [Action::Pop(2)]);
    assert_eq!(core.handle(Event::Popped(vec![]), 3, EVEN), []);
    assert_eq!(core.handle(Event::ItemsWaiting, 4, EVEN), [Action::Pop(2)]);
    let actions = core.handle(Event::Popped(handles(&["a"])), 5, EVEN);
    assert_eq!(
        actions,
        [Action::Renew(handles(&["a"])), Action::Heartbeat(AgentStatus::Running)]
    );
}

#[test]
fn slots_bound_what_is_popped_and_an_end_frees_one() {
    let mut core = core(2);
    core.handle(Event::Tick, 0, EVEN);
    core.handle(Event::Popped(handles(&["a", "b"])), 1, EVEN);
    assert_eq!(work(core.handle(Event::ItemsWaiting, 2, EVEN)), []);
    assert_eq!(work(core.handle(Event::Tick, 1_000_000, EVEN)), []);
    assert_eq!(
        work(core.handle(Event::Ended("a".to_owned()), 3, EVEN)),
        [Action::Pop(1)]
    );
    let mut none = Core::new(0, true, None, [], 0);
    assert_eq!(work(none.handle(Event::ItemsWaiting, 0, EVEN)), []);
    let mut unlimited = Core::new(-1, true, None, [], 0);
    assert_eq!(work(unlimited.handle(Event::Tick, 0, EVEN)), [Action::Pop(POP_LIMIT)]);
}

#[test]
fn polls_follow_the_state_of_the_stream() {
    for (managed, stream, interval) in [
        (true, Event::StreamOpened, SAFETY_POLL),
        (true, Event::StreamBroken, BROKEN_STREAM_POLL),
        (false, Event::StreamBroken, OFFICIAL_POLL),
    ] {
        let mut core = Core::new(1, managed, None, [], 0);
        core.handle(stream, 0, EVEN);
        core.handle(Event::Popped(vec![]), 100, EVEN);
        assert_eq!(work(core.handle(Event::Tick, 99 + interval, EVEN)), []);
        assert_eq!(work(core.handle(Event::Tick, 100 + interval, EVEN)), [Action::Pop(1)]);
    }
}

#[test]
fn an_open_stream_speaks_for_the_agent() {
    let beats = |core: &mut Core, from: Millis, to: Millis| {
        (from..to)
            .step_by(1_000)
            .flat_map(|now| core.handle(Event::Tick, now, EVEN))
            .filter(|action| matches!(action, Action::Heartbeat(_)))
            .count()
    };
    let mut core = Core::new(1, true, None, [], 0);
    assert_eq!(beats(&mut core, 0, 60_000), 3);
    core.handle(Event::StreamOpened, 60_000, EVEN);
    assert_eq!(beats(&mut core, 60_000, 660_000), 1);
    core.handle(Event::StreamBroken, 660_000, EVEN);
    assert_eq!(beats(&mut core, 660_000, 720_000), 2);
}

#[test]
fn failing_pops_back_off_and_signals_do_not_hurry_them() {
    let mut core = core(1);
    let mut now = 0;
    let mut waits = Vec::new();
    core.handle(Event::Tick, now, EVEN);
    for _ in 0..8 {
        assert_eq!(work(core.handle(Event::PopFailed, now, EVEN)), []);
        assert_eq!(work(core.handle(Event::ItemsWaiting, now + 1, EVEN)), []);
        waits.push(core.next_poll - now);
        now = core.next_poll;
        assert_eq!(work(core.handle(Event::Tick, now, EVEN)), [Action::Pop(1)]);
    }
    assert_eq!(waits[..3], [2_000, 4_000, 8_000]);
    assert_eq!(waits.last(), Some(&LONGEST_POLL));
}

#[test]
fn leases_are_renewed_in_one_batch_and_answers_stop_or_abandon() {
    let mut core = Core::new(4, true, None, handles(&["a", "b", "c"]), 0);
    let actions = work(core.handle(Event::Tick, 0, EVEN));
    assert!(actions.contains(&Action::Renew(handles(&["a", "b", "c"]))));
    let answer = Event::Renewed(vec![
        ("a".to_owned(), Lease::Held),
        ("b".to_owned(), Lease::StopRequested),
        ("c".to_owned(), Lease::Over),
        ("gone".to_owned(), Lease::Over),
    ]);
    assert_eq!(
        work(core.handle(answer.clone(), 1, EVEN)),
        [Action::Stop("b".to_owned()), Action::Abandon("c".to_owned())]
    );
    // A task is told to stop once.
    assert_eq!(work(core.handle(Event::StopRequested("b".to_owned()), 2, EVEN)), []);
    assert_eq!(work(core.handle(Event::Tick, RENEW, EVEN)), []);
    assert_eq!(
        work(core.handle(Event::Tick, RENEW + 1, EVEN)),
        [Action::Renew(handles(&["a", "b", "c"]))]
    );
    // An unreachable server never stops a workload.
    assert_eq!(work(core.handle(Event::RenewFailed, RENEW + 2, EVEN)), []);
    assert_eq!(
        work(core.handle(Event::Tick, RENEW + 2 + RENEW_AGAIN, EVEN)),
        [Action::Renew(handles(&["a", "b", "c"]))]
    );
}

#[test]
fn an_outage_of_a_night_ends_no_job_and_asks_now_and_then() {
    const NIGHT: Millis = 10 * 60 * 60 * 1_000;
    let mut core = Core::new(4, true, None, handles(&["a", "b"]), 0);
    let mut due = vec![Event::StreamBroken];
    let (mut now, mut pops, mut renewals) = (0, 0, 0);
    while now < NIGHT {
        let actions: Vec<Action> = due.drain(..).flat_map(|event| core.handle(event, now, EVEN)).collect();
        for action in actions {
            match action {
                Action::Pop(_) => {
                    pops += 1;
                    due.push(Event::PopFailed);
                }
                Action::Renew(leases) => {
                    assert_eq!(leases, handles(&["a", "b"]));
                    renewals += 1;
                    due.push(Event::RenewFailed);
                }
                Action::Heartbeat(_) => {}
                other => panic!("at {now}: {other:?}"),
            }
        }
        assert_eq!(core.running(), 2);
        if due.is_empty() {
            assert!(core.wake_at() > now, "at {now} the loop would spin");
            now = core.wake_at();
            due.push(Event::Tick);
        }
    }
    // No more than the longest waits allow, and no fewer than half as many.
    let most = |longest: Millis| usize::try_from(NIGHT / longest).unwrap();
    assert!(
        (most(LONGEST_POLL) / 2..=most(LONGEST_POLL) + 10).contains(&pops),
        "{pops}"
    );
    assert!(
        (most(RENEW_AGAIN) / 2..=most(RENEW_AGAIN) + 10).contains(&renewals),
        "{renewals}"
    );

    // The server is back: it still knows one of the leases.
    let back = vec![("a".to_owned(), Lease::Held), ("b".to_owned(), Lease::Over)];
    core.handle(Event::StreamOpened, now, EVEN);
    let actions = work(core.handle(Event::Renewed(back), now, EVEN));
    assert!(actions.contains(&Action::Abandon("b".to_owned())), "{actions:?}");
    assert!(!actions.contains(&Action::Abandon("a".to_owned())), "{actions:?}");
}

#[test]
fn a_drain_takes_nothing_new_and_ends_after_the_last_job() {
    let mut core = Core::new(2, true, None, handles(&["a"]), 0);
    core.handle(Event::Tick, 0, EVEN);
    let actions = core.handle(Event::Wish(Wish::Drain), 1, EVEN);
    assert_eq!(actions, [Action::Heartbeat(AgentStatus::Draining)]);
    // The pop that was under way brings one more, which is run.
    core.handle(Event::Popped(handles(&["b"])), 2, EVEN);
    assert_eq!(work(core.handle(Event::ItemsWaiting, 3, EVEN)), []);
    assert_eq!(work(core.handle(Event::Ended("a".to_owned()), 4, EVEN)), []);
    assert_eq!(
        core.handle(Event::Ended("b".to_owned()), 5, EVEN),
        [Action::Heartbeat(AgentStatus::Killed), Action::End(Ending::Drained)]
    );
}

#[test]
fn a_drain_ends_early_on_its_timeout_or_on_a_second_signal() {
    let mut core = Core::new(2, true, Some(5_000), handles(&["a"]), 0);
    core.handle(Event::Tick, 0, EVEN);
    core.handle(Event::Popped(vec![]), 0, EVEN);
    core.handle(Event::Wish(Wish::Drain), 1_000, EVEN);
    assert_eq!(core.wake_at(), 6_000);
    assert_eq!(work(core.handle(Event::Tick, 5_999, EVEN)), []);
    assert_eq!(work(core.handle(Event::Tick, 6_000, EVEN)), [Action::End(Ending::Left)]);

    let mut core = Core::new(2, true, None, handles(&["a"]), 0);
    core.handle(Event::Wish(Wish::Drain), 0, EVEN);
    // Leaving says nothing to the server: the leases wait for a successor.
    assert_eq!(
        core.handle(Event::Wish(Wish::Leave), 1, EVEN),
        [Action::End(Ending::Left)]
    );
}

#[test]
fn the_server_may_ask_for_a_drain_and_take_it_back() {
    let mut core = Core::new(2, true, None, handles(&["a"]), 0);
    core.handle(Event::Tick, 0, EVEN);
    core.handle(Event::Popped(vec![]), 0, EVEN);
    core.handle(Event::DrainRequested(true), 1, EVEN);
    assert_eq!(work(core.handle(Event::ItemsWaiting, 2, EVEN)), []);
    assert_eq!(
        work(core.handle(Event::DrainRequested(false), 3, EVEN)),
        [Action::Pop(1)]
    );
}

#[test]
fn what_waited_during_a_drain_is_taken_once_the_server_knows_that_it_is_over() {
    let mut core = Core::new(2, true, None, handles(&["a"]), 0);
    core.handle(Event::StreamOpened, 0, EVEN);
    core.handle(Event::Popped(vec![]), 0, EVEN);
    core.handle(Event::StatusTaken(AgentStatus::Running), 0, EVEN);
    core.handle(Event::DrainRequested(true), 1, EVEN);
    core.handle(Event::StatusTaken(AgentStatus::Draining), 2, EVEN);
    let actions = core.handle(Event::DrainRequested(false), 3, EVEN);
    assert_eq!(actions, [Action::Pop(1), Action::Heartbeat(AgentStatus::Running)]);
    // The status was lost, and the server gives nothing to an agent that drains.
    core.handle(Event::StatusLost, 4, EVEN);
    assert_eq!(core.handle(Event::Popped(vec![]), 5, EVEN), []);
    assert!(core.wake_at() <= 5 + HEARTBEAT, "{}", core.wake_at());
    assert_eq!(
        core.handle(Event::Tick, core.wake_at(), EVEN),
        [Action::Heartbeat(AgentStatus::Running)]
    );
    let now = core.wake_at();
    assert_eq!(
        core.handle(Event::StatusTaken(AgentStatus::Running), now, EVEN),
        [Action::Pop(1)]
    );
}

#[test]
fn a_replaced_agent_gives_up_its_jobs_before_it_ends() {
    let mut core = Core::new(2, true, None, handles(&["a", "b"]), 0);
    assert_eq!(
        work(core.handle(Event::Replaced, 0, EVEN)),
        [
            Action::Abandon("a".to_owned()),
            Action::Abandon("b".to_owned()),
            Action::Renew(handles(&["a", "b"]))
        ]
    );
    core.handle(Event::Ended("a".to_owned()), 1, EVEN);
    let actions = work(core.handle(Event::Ended("b".to_owned()), 2, EVEN));
    assert_eq!(actions, [Action::End(Ending::Replaced)]);
}

#[test]
fn what_an_agent_waits_for_follows_its_state() {
    let popped = |names: &[&str]| Event::Popped(handles(names));
    for (max_jobs, managed, events, expected) in [
        (2, true, vec![], Waiting::Poll(BROKEN_STREAM_POLL)),
        (2, false, vec![], Waiting::Poll(OFFICIAL_POLL)),
        (2, true, vec![Event::StreamOpened, popped(&[])], Waiting::Items),
        (2, true, vec![Event::StreamOpened, popped(&["a"])], Waiting::Items),
        (2, true, vec![Event::StreamOpened, popped(&["a", "b"])], Waiting::Slot),
        (-1, true, vec![Event::StreamOpened, popped(&["a", "b"])], Waiting::Items),
        (0, true, vec![Event::StreamOpened], Waiting::Limit),
        (2, true, vec![Event::PopFailed], Waiting::Server),
        (
            2,
            true,
            vec![Event::PopFailed, Event::StreamOpened, popped(&[])],
            Waiting::Items,
        ),
        (2, true, vec![popped(&["a"]), Event::Wish(Wish::Drain)], Waiting::Drain),
        (
            2,
            true,
            vec![popped(&["a"]), Event::DrainRequested(true)],
            Waiting::Drain,
        ),
    ] {
        let mut core = Core::new(max_jobs, managed, None, [], 0);
        for event in &events {
            core.handle(event.clone(), 0, EVEN);
        }
        assert_eq!(core.waiting(), expected, "{max_jobs} {managed} {events:?}");
    }
}

fn any_event() -> impl Strategy<Value = Event> {
    let handle = prop::sample::select(vec!["a", "b", "c", "d"]).prop_map(str::to_owned);
    let lease = prop::sample::select(vec![Lease::Held, Lease::StopRequested, Lease::Over]);
    prop_oneof![
        Just(Event::Tick),
        Just(Event::StreamOpened),
        Just(Event::StreamBroken),
        Just(Event::ItemsWaiting),
        Just(Event::PopFailed),
        Just(Event::RenewFailed),
        any::<bool>().prop_map(Event::DrainRequested),
        prop::sample::select(vec![AgentStatus::Running, AgentStatus::Draining]).prop_map(Event::StatusTaken),
        Just(Event::StatusLost),
        handle.clone().prop_map(Event::StopRequested),
        handle.clone().prop_map(Event::Ended),
        prop::collection::vec((handle, lease), 0..4).prop_map(Event::Renewed),
    ]
}

proptest! {
    /// Whatever happens, the agent never asks for more than it has room for, never has two pops under
    /// way, and stops each item at most once.
    #[test]
    fn slots_are_never_exceeded(
        max_jobs in 0..4_i64,
        events in prop::collection::vec((any_event(), 0..40_000_i64, 0.0..1.0_f64), 1..80),
    ) {
        let mut core = core(max_jobs);
        let (mut now, mut taken, mut popping) = (0, 0_u32, None::<usize>);
        let mut stopped = std::collections::BTreeSet::new();
        for (event, wait, spread) in events {
            now += wait;
            // The answer to a pop comes when the service has it, not when the test likes.
            let event = match (popping, event) {
                (None, Event::PopFailed) => Event::Tick,
                (Some(limit), Event::ItemsWaiting) => {
                    let count = limit.min(1 + usize::from(spread > 0.5));
                    let fresh = (0..count).map(|_| { taken += 1; format!("item-{taken}") }).collect();
                    Event::Popped(fresh)
                }
                (_, Event::Ended(_)) => match core.items.keys().next() {
                    Some(first) => Event::Ended(first.clone()),
                    None => Event::Tick,
                },
                (_, event) => event,
            };
            if matches!(event, Event::Popped(_) | Event::PopFailed) {
                popping = None;
            }
            for action in core.handle(event, now, spread) {
                match action {
                    Action::Pop(limit) => {
                        prop_assert!(popping.is_none());
                        prop_assert!(i64::try_from(limit + core.running()).unwrap() <= max_jobs);
                        popping = Some(limit);
                    }
                    Action::Stop(handle) => prop_assert!(stopped.insert(handle)),
                    Action::End(_) => return Ok(()),
                    Action::Renew(_) | Action::Abandon(_) | Action::Heartbeat(_) => {}
                }
            }
            prop_assert!(core.running() <= usize::try_from(max_jobs).unwrap());
        }
    }
}
