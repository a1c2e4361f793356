use proptest::prelude::*;

use super::*;

const EVENTS: [ItemEvent; 13] = ItemEvent::ALL;

fn facts(state: ItemState, start_recorded: bool) -> ItemFacts {
    ItemFacts {
        state,
        epoch: 3,
        start_recorded,
    }
}

/// The table as it is meant, one row per state: what each event leads to. Anything else is refused.
fn expected(state: ItemState, event: &ItemEvent, start_recorded: bool) -> Option<Effect> {
    use Effect::{None as Same, Requeue, To};
    use ItemEvent as E;
    use ItemState as S;
    let back = Requeue { new_attempt: false };
    let again = Requeue { new_attempt: true };
    let row: &[(E, Effect)] = match state {
        S::Pending => &[(E::Lease, To(S::Leased)), (E::Kill, To(S::Killed))],
        S::Leased => &[
            (E::Ack, To(S::Claimed)),
            (E::Fail, To(S::Failed)),
            (E::Kill, To(S::Killed)),
            (E::Expire, back),
            (E::Release, back),
        ],
        S::Claimed if start_recorded => &[
            (E::Ack, Same),
            (E::Start, Same),
            (E::RunStarted, To(S::Running)),
            (E::Succeed, To(S::Finished)),
            (E::Fail, To(S::Failed)),
            (E::Crash, To(S::Crashed)),
            (E::Kill, To(S::Killed)),
            (E::Expire, Same),
            (E::ReportAbsent, again),
            (E::Preempt, again),
        ],
        S::Claimed => &[
            (E::Ack, Same),
            (E::Start, Same),
            (E::RunStarted, To(S::Running)),
            (E::Succeed, To(S::Finished)),
            (E::Fail, To(S::Failed)),
            (E::Crash, To(S::Crashed)),
            (E::Kill, To(S::Killed)),
            (E::Expire, back),
            (E::Release, back),
            (E::ReportAbsent, again),
            (E::Preempt, again),
        ],
        S::Running => &[
            (E::Ack, Same),
            (E::RunStarted, Same),
            (E::Succeed, To(S::Finished)),
            (E::Fail, To(S::Failed)),
            (E::Crash, To(S::Crashed)),
            (E::Kill, To(S::Killed)),
            (E::Expire, Same),
            (E::ReportAbsent, again),
            (E::Preempt, again),
        ],
        S::Crashed => &[
            (E::Crash, Same),
            (E::Revive, To(S::Running)),
            (E::Succeed, To(S::Finished)),
            (E::Fail, To(S::Failed)),
            (E::Kill, To(S::Killed)),
            (E::ReportAbsent, again),
            (E::Preempt, again),
        ],
        S::Finished => &[(E::Succeed, Same)],
        S::Failed => &[(E::Fail, Same)],
        S::Killed => &[(E::Kill, Same)],
    };
    row.iter().find(|(known, _)| known == event).map(|(_, effect)| *effect)
}

#[test]
fn every_pair_of_state_and_event_is_decided_as_meant() {
    for state in ItemState::ALL {
        for event in &EVENTS {
            for start_recorded in [false, true] {
                let decided = transition(facts(state, start_recorded), event, Some(3));
                let meant = expected(state, event, start_recorded).ok_or(Refusal::State(state));
                assert_eq!(decided, meant, "{state:?} {event:?} start_recorded={start_recorded}");
            }
        }
    }
}

#[test]
fn a_handle_of_another_epoch_is_stale_whatever_the_event() {
    for state in ItemState::ALL {
        for event in &EVENTS {
            for epoch in [0, 2, 4] {
                assert_eq!(transition(facts(state, false), event, Some(epoch)), Err(Refusal::Stale));
            }
        }
    }
}

#[test]
fn only_a_heartbeat_or_a_report_leaves_a_terminal_state() {
    for state in ItemState::ALL.into_iter().filter(|state| state.is_terminal()) {
        for event in &EVENTS {
            let left = matches!(
                transition(facts(state, true), event, None),
                Ok(Effect::To(_) | Effect::Requeue { .. })
            );
            assert!(!left || state == ItemState::Crashed, "{state:?} {event:?}");
        }
    }
}

#[test]
fn an_item_whose_start_was_recorded_returns_only_when_its_holder_says_so() {
    for state in ItemState::ALL {
        for event in &EVENTS {
            if let Ok(Effect::Requeue { .. }) = transition(facts(state, true), event, None) {
                let reported = matches!(event, ItemEvent::ReportAbsent | ItemEvent::Preempt);
                assert!(reported || state == ItemState::Leased, "{state:?} {event:?}");
            }
        }
    }
}

#[test]
fn stored_numbers_round_trip() {
    for state in ItemState::ALL {
        assert_eq!(ItemState::from_code(state.code()), Some(state));
    }
    for code in [-1, 8, i64::MAX] {
        assert_eq!(ItemState::from_code(code), None);
    }
}

/// A queue in memory that knows nothing but the transition table.
#[derive(Default)]
struct Model {
    items: Vec<ModelItem>,
}

struct ModelItem {
    facts: ItemFacts,
    priority: i64,
    /// The agent that holds it.
    holder: Option<usize>,
    /// Starts that were not reported absent or preempted since.
    live_starts: u32,
}

/// What agents believe that they hold: item and epoch.
type Belief = Vec<(usize, i64)>;

#[derive(Debug, Clone)]
enum Step {
    Push(i64),
    Pop(usize),
    /// An agent applies an event with the nth handle it ever got.
    Hold(usize, usize, ItemEvent),
    /// The server applies an event to an item.
    Serve(usize, ItemEvent),
}

impl Model {
    fn apply(&mut self, index: usize, event: &ItemEvent, epoch: Option<i64>) -> Result<Effect, Refusal> {
        let item = &mut self.items[index];
        let effect = transition(item.facts, event, epoch)?;
        match effect {
            Effect::None => {}
            Effect::To(state) => item.facts.state = state,
            Effect::Requeue { .. } => {
                item.facts.state = ItemState::Pending;
                item.facts.epoch += 1;
                item.facts.start_recorded = false;
                item.live_starts = 0;
                item.holder = None;
            }
        }
        if *event == ItemEvent::Start && !item.facts.start_recorded {
            item.facts.start_recorded = true;
            item.live_starts += 1;
        }
        if item.facts.state.is_terminal() && item.facts.state != ItemState::Crashed {
            item.holder = None;
        }
        Ok(effect)
    }

    /// The first of the lowest priority number.
    fn next(&self) -> Option<usize> {
        let pending = self
            .items
            .iter()
            .enumerate()
            .filter(|(_, item)| item.facts.state == ItemState::Pending);
        pending
            .min_by_key(|(index, item)| (item.priority, *index))
            .map(|(index, _)| index)
    }

    fn pop(&mut self, agent: usize) -> Option<(usize, i64)> {
        let index = self.next()?;
        self.apply(index, &ItemEvent::Lease, None)
            .expect("a pending item can be leased");
        let item = &mut self.items[index];
        item.facts.epoch += 1;
        item.holder = Some(agent);
        Some((index, item.facts.epoch))
    }
}

fn step() -> impl Strategy<Value = Step> {
    let event = prop::sample::select(EVENTS.to_vec());
    let by_holder = prop::sample::select(vec![
        ItemEvent::Ack,
        ItemEvent::Start,
        ItemEvent::RunStarted,
        ItemEvent::Succeed,
        ItemEvent::Fail,
        ItemEvent::Release,
        ItemEvent::ReportAbsent,
        ItemEvent::Preempt,
    ]);
    prop_oneof![
        2 => (0_i64..4).prop_map(Step::Push),
        3 => (0_usize..3).prop_map(Step::Pop),
        6 => (0_usize..3, 0_usize..16, by_holder).prop_map(|(agent, nth, event)| Step::Hold(agent, nth, event)),
        2 => (0_usize..16, event).prop_map(|(item, event)| Step::Serve(item, event)),
    ]
}

proptest! {
    #[test]
    fn no_interleaving_gives_an_item_to_two_holders_or_starts_it_twice(steps in prop::collection::vec(step(), 1..120)) {
        let mut model = Model::default();
        let mut beliefs: [Belief; 3] = Default::default();
        for step in steps {
            match step {
                Step::Push(priority) => model.items.push(ModelItem {
                    facts: ItemFacts { state: ItemState::Pending, epoch: 0, start_recorded: false },
                    priority,
                    holder: None,
                    live_starts: 0,
                }),
                Step::Pop(agent) => {
                    if let Some(handle) = model.pop(agent) {
                        beliefs[agent].push(handle);
                    }
                }
                Step::Hold(agent, nth, event) => {
                    let Some((index, epoch)) = beliefs[agent].get(nth).copied() else { continue };
                    let before = model.items[index].facts;
                    let outcome = model.apply(index, &event, Some(epoch));
                    if epoch != before.epoch {
                        prop_assert_eq!(outcome, Err(Refusal::Stale));
                        prop_assert_eq!(model.items[index].facts, before);
                    }
                }
                Step::Serve(index, event) => {
                    // Leasing is what `Pop` does, with an epoch of its own.
                    if index < model.items.len() && event != ItemEvent::Lease {
                        let _ = model.apply(index, &event, None);
                    }
                }
            }
            for (index, item) in model.items.iter().enumerate() {
                let holders = beliefs
                    .iter()
                    .filter(|belief| belief.contains(&(index, item.facts.epoch)))
                    .count();
                prop_assert!(holders <= 1, "one epoch is one agent's");
                prop_assert!(holders == 0 || item.facts.state != ItemState::Pending, "a waiting item is nobody's");
                prop_assert!(item.live_starts <= 1, "an attempt starts at most once");
                prop_assert!(!item.facts.state.is_held() || item.holder.is_some(), "a held item has a holder");
            }
        }
    }

    #[test]
    fn items_leave_by_priority_then_by_submission(priorities in prop::collection::vec(0_i64..4, 0..40)) {
        let mut model = Model::default();
        for priority in &priorities {
            model.items.push(ModelItem {
                facts: ItemFacts { state: ItemState::Pending, epoch: 0, start_recorded: false },
                priority: *priority,
                holder: None,
                live_starts: 0,
            });
        }
        let popped: Vec<usize> = std::iter::from_fn(|| model.pop(0).map(|(index, _)| index)).collect();
        let mut sorted: Vec<usize> = (0..priorities.len()).collect();
        sorted.sort_by_key(|index| priorities[*index]);
        prop_assert_eq!(popped, sorted);
    }
}

/// The table of `docs/state-machine.md`, from the code.
fn table() -> String {
    let mut table = String::from("| Event | ");
    table.push_str(&ItemState::ALL.map(ItemState::as_str).join(" | "));
    table.push_str(" |\n| --- |");
    table.push_str(&" --- |".repeat(ItemState::ALL.len()));
    table.push('\n');
    for event in &EVENTS {
        let cells = ItemState::ALL.map(|state| {
            let cell = |start_recorded| match transition(facts(state, start_recorded), event, None) {
                Ok(Effect::None) => "=".to_owned(),
                Ok(Effect::To(next)) => next.as_str().to_owned(),
                Ok(Effect::Requeue { new_attempt: false }) => "requeue".to_owned(),
                Ok(Effect::Requeue { new_attempt: true }) => "requeue, attempt + 1".to_owned(),
                Err(_) => "–".to_owned(),
            };
            match (cell(false), cell(true)) {
                (before, after) if before == after => before,
                (before, after) => format!("{before}; once started {after}"),
            }
        });
        table.push_str(&format!("| {event:?} | {} |\n", cells.join(" | ")));
    }
    table
}

#[test]
fn the_documented_table_is_the_codes() {
    let document = include_str!("../../../../docs/state-machine.md");
    let documented = document
        .split_once("<!-- table: begin -->\n")
        .and_then(|(_, rest)| rest.split_once("<!-- table: end -->"))
        .map(|(table, _)| table.trim());
    let table = table();
    assert_eq!(
        documented,
        Some(table.trim()),
        "docs/state-machine.md should hold:\n\n{table}"
    );
}
