//! What agents do with items: lease, acknowledge, start, renew, finish, hand back.

use std::sync::atomic::Ordering;

use slipway_model::Millis;
use slipway_model::id::{AgentId, ItemId, LeaseHandle, QueueId, RunName};
use slipway_model::item::{CRASH_TERM, Effect, Failure, ItemEvent, ItemState, LEASE_TERM, MAX_PREEMPTIONS, Refusal};

use super::step::{self, Answer, Batch, End, Known};
use super::{Acked, Leased, Outcome, Report, ReturnCause, row};
use crate::engine::{Dialect, Field, Lane, Records, Tx, Value, few, next_number, params};
use crate::events::{self, NewEvent};
use crate::{Result, Store, agents, runs};

/// How many items one call leases at most.
pub const MAX_LEASE: usize = 1000;

/// A request for items.
struct Request {
    agent: Option<AgentId>,
    managed: bool,
    now: Millis,
}

/// An item as it was handed out.
#[derive(Debug, Clone, Copy)]
struct Claim {
    handle: LeaseHandle,
    queue: QueueId,
    attempt: i64,
}

/// A list of what has an entity and a number, in an order.
const PLACED: [(&str, Field); 3] = [("place", Field::Int), ("entity_id", Field::Int), ("id", Field::Int)];

/// Takes the first items of one queue, in order.
fn claim(tx: &mut dyn Tx, request: &Request, queue: QueueId, limit: usize) -> Result<Vec<Claim>> {
    let skip = match tx.dialect() {
        Dialect::Sqlite => "",
        Dialect::Postgres => " FOR UPDATE SKIP LOCKED",
    };
    let rows = tx.query(
        &format!(
            "WITH ready AS MATERIALIZED (SELECT entity_id, id FROM items WHERE queue_id = $2 AND entity_id = $1 \
             AND state = 0 ORDER BY priority, COALESCE(place, id) LIMIT $3{skip}) \
             UPDATE items SET state = 1, epoch = epoch + 1, agent_entity_id = $4, agent_id = $5, managed = $6, \
             leased_at = $7, deadline = $8 FROM ready \
             WHERE items.entity_id = ready.entity_id AND items.id = ready.id AND {} \
             RETURNING items.priority, COALESCE(items.place, items.id), items.id, items.epoch, items.attempt",
            few(tx.dialect(), "ready.id")
        ),
        params![
            queue.entity,
            queue.number,
            i64::try_from(limit).unwrap_or(i64::MAX),
            request.agent.map(|agent| agent.entity),
            request.agent.map(|agent| agent.number),
            request.managed,
            request.now,
            request.now + LEASE_TERM,
        ],
    )?;
    // The order of RETURNING is nobody's promise.
    let mut taken = rows
        .iter()
        .map(|row| Ok([row.i64(0)?, row.i64(1)?, row.i64(2)?, row.i64(3)?, row.i64(4)?]))
        .collect::<Result<Vec<_>>>()?;
    taken.sort_unstable();
    Ok(taken
        .into_iter()
        .map(|[_, _, number, epoch, attempt]| Claim {
            handle: LeaseHandle {
                item: ItemId::new(queue.entity, number),
                epoch,
            },
            queue,
            attempt,
        })
        .collect())
}

/// The queues that hand items out, in the order given.
fn open_queues(tx: &mut dyn Tx, queues: &[QueueId]) -> Result<Vec<QueueId>> {
    let list = queues
        .iter()
        .zip(0_i64..)
        .map(|(queue, place)| params![place, queue.entity, queue.number].to_vec());
    let records = Records::new(tx.dialect(), &PLACED, list)?;
    let rows = tx.query(
        &format!(
            "SELECT q.entity_id, q.id FROM {} AS r JOIN queues AS q \
             ON q.entity_id = r.entity_id AND q.id = r.id WHERE q.paused = 0 ORDER BY r.place",
            records.source(1)
        ),
        &records.after(params![]),
    )?;
    rows.iter()
        .map(|row| {
            Ok(QueueId {
                entity: row.i64(0)?,
                number: row.i64(1)?,
            })
        })
        .collect()
}

/// Takes items from queues in turn, beginning with another one each time: first a fair share of
/// each, then what is left of the limit from whoever has more.
fn take_in_turn(
    tx: &mut dyn Tx,
    request: &Request,
    queues: &[QueueId],
    limit: usize,
    turn: usize,
) -> Result<Vec<Claim>> {
    let mut open = open_queues(tx, queues)?;
    if open.is_empty() {
        return Ok(Vec::new());
    }
    let start = turn % open.len();
    open.rotate_left(start);
    let mut taken = Vec::new();
    let mut share = limit.div_ceil(open.len());
    while !open.is_empty() && taken.len() < limit {
        let mut more = Vec::new();
        for queue in open {
            let wanted = share.min(limit - taken.len());
            if wanted == 0 {
                break;
            }
            let claimed = claim(tx, request, queue, wanted)?;
            if claimed.len() == wanted {
                more.push(queue);
            }
            taken.extend(claimed);
        }
        open = more;
        share = limit - taken.len();
    }
    Ok(taken)
}

fn lease(tx: &mut dyn Tx, request: &Request, queues: &[QueueId], limit: usize, turn: usize) -> Result<Vec<Claim>> {
    let actor = match request.agent {
        Some(agent) => match agents::may_lease(tx, agent)? {
            Some(name) => name,
            None => return Ok(Vec::new()),
        },
        None => String::new(),
    };
    let taken = take_in_turn(tx, request, queues, limit, turn)?;
    let record: Vec<NewEvent> = taken
        .iter()
        .map(|claim| NewEvent {
            entity: claim.queue.entity,
            kind: "leased",
            queue: Some(claim.queue.number),
            item: Some(claim.handle.item.number),
            agent: request.agent,
            actor: actor.clone(),
            detail: serde_json::json!({"epoch": claim.handle.epoch, "attempt": claim.attempt}).to_string(),
        })
        .collect();
    events::append(tx, request.now, &record)?;
    Ok(taken)
}

/// Reads items that were handed out, in order. One that changed hands at the same moment, or was
/// deleted, is nobody's lease any more.
fn handed_out(tx: &mut dyn Tx, claims: &[Claim]) -> Result<Vec<Leased>> {
    let list = claims
        .iter()
        .zip(0_i64..)
        .map(|(claim, place)| params![place, claim.handle.item.entity, claim.handle.item.number].to_vec());
    let records = Records::new(tx.dialect(), &PLACED, list)?;
    let items = row::select(
        tx,
        &format!(
            "JOIN {} AS r ON i.entity_id = r.entity_id AND i.id = r.id ORDER BY r.place",
            records.source(1)
        ),
        &records.after(params![]),
    )?;
    let mut claims = claims.iter().map(|claim| claim.handle);
    Ok(items
        .into_iter()
        .filter_map(|item| {
            let handle = claims.find(|handle| handle.item == item.id)?;
            let held = item.epoch == handle.epoch && item.state == ItemState::Leased;
            held.then_some(Leased { handle, item })
        })
        .collect())
}

/// What an acknowledgement says beyond the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Also {
    Nothing,
    /// That the attempt starts: its agent has nothing to prepare.
    Start,
}

fn ack(
    tx: &mut dyn Tx,
    holder: Option<AgentId>,
    acks: &[(LeaseHandle, RunName)],
    also: Also,
    now: Millis,
) -> Result<Vec<Acked>> {
    let handles: Vec<LeaseHandle> = acks.iter().map(|(handle, _)| *handle).collect();
    let fields = [
        ("run_entity", Field::Text),
        ("run_project", Field::Text),
        ("run_id", Field::Text),
    ];
    let values = |place: usize| {
        acks.get(place).map_or_else(Vec::new, |(_, run)| {
            vec![(&run.entity).into(), (&run.project).into(), (&run.run).into()]
        })
    };
    let step = match also {
        Also::Nothing => "state = 2",
        Also::Start => "state = 2, start_recorded = 1",
    };
    let set = format!("{step}, run_entity = r.run_entity, run_project = r.run_project, run_id = r.run_id");
    // The lease of an agent that records its starts goes on as it is; not to name its end spares the
    // index of ends a change.
    let managed = Batch {
        set: &set,
        guard: "items.state = 1 AND items.managed = 1",
        fields: &fields,
        params: Vec::new(),
    };
    let mut moved = step::update(tx, managed, holder, &handles, values)?;
    if moved.len() < handles.len() {
        let others = Batch {
            // An agent that records no starts may have started: its lease no longer runs out, but the
            // clock asks now and then whether anybody is still heard from.
            set: &format!("{set}, deadline = CAST($1 AS BIGINT)"),
            guard: "items.state = 1 AND items.managed = 0",
            fields: &fields,
            params: vec![Value::from(now + CRASH_TERM)],
        };
        moved.extend(step::update(tx, others, holder, &handles, values)?);
    }
    let named: Vec<runs::Named<'_>> = acks
        .iter()
        .filter_map(|(handle, run)| {
            // Of two acknowledgements of one item, the one that the row holds counts.
            let item = moved.get(&handle.item).filter(|item| item.run.as_ref() == Some(run))?;
            Some(runs::Named {
                run,
                author: &item.author,
                item: item.id,
            })
        })
        .collect();
    let taken = runs::ensure_pending(tx, &named, now)?;
    for item in &taken {
        unack(tx, *item, now)?;
    }
    let mut record = Vec::with_capacity(moved.len());
    let mut answers = Vec::with_capacity(acks.len());
    let mut earlier = Vec::new();
    for (handle, run) in acks {
        if taken.contains(&handle.item) {
            answers.push(Acked::RunTaken);
            continue;
        }
        if let Some(item) = moved.remove(&handle.item) {
            let detail = serde_json::json!({"run": run.to_string(), "attempt": item.attempt}).to_string();
            let kind = match also {
                Also::Nothing => "acked",
                Also::Start => "started",
            };
            record.push(item.event(kind, detail));
            answers.push(Acked::Yes);
            continue;
        }
        let answer = match step::unmoved(tx, holder, *handle, &ItemEvent::Ack, "ack", now)? {
            Err(refusal) => Acked::No(refusal),
            Ok(()) => {
                let item = row::require(tx, handle.item)?;
                if item.run.as_ref() == Some(run) {
                    earlier.push((answers.len(), *handle));
                    Acked::Yes
                } else {
                    Acked::No(Refusal::State(item.state))
                }
            }
        };
        answers.push(answer);
    }
    events::append(tx, now, &record)?;
    if also == Also::Start {
        // Of those that were acknowledged before, the start may be recorded already: that changes nothing.
        let handles: Vec<LeaseHandle> = earlier.iter().map(|(_, handle)| *handle).collect();
        for ((place, _), answer) in earlier.into_iter().zip(start(tx, holder, &handles, now)?) {
            if let (Err(refusal), Some(place)) = (answer, answers.get_mut(place)) {
                *place = Acked::No(refusal);
            }
        }
    }
    Ok(answers)
}

fn start(tx: &mut dyn Tx, holder: Option<AgentId>, handles: &[LeaseHandle], now: Millis) -> Result<Vec<Answer<()>>> {
    let batch = Batch {
        set: "start_recorded = 1",
        guard: "items.state = 2 AND items.start_recorded = 0",
        fields: &[],
        params: Vec::new(),
    };
    advance(tx, holder, handles, batch, &ItemEvent::Start, "started", now)
}

/// Takes back the acknowledgement that this transaction has made of an item, whose run turned out to
/// be somebody else's. Nearly every acknowledgement names a new run, and looking first would cost
/// all of them a statement.
fn unack(tx: &mut dyn Tx, item: ItemId, now: Millis) -> Result<()> {
    tx.execute(
        "UPDATE items SET state = 1, start_recorded = 0, run_entity = NULL, run_project = NULL, run_id = NULL, \
         deadline = $3 WHERE entity_id = $1 AND id = $2",
        params![item.entity, item.number, now + LEASE_TERM],
    )
    .map(drop)
}

/// A batch without fields of its own, recorded as `kind`.
fn advance(
    tx: &mut dyn Tx,
    holder: Option<AgentId>,
    handles: &[LeaseHandle],
    batch: Batch<'_>,
    event: &ItemEvent,
    kind: &'static str,
    now: Millis,
) -> Result<Vec<Answer<()>>> {
    let moved = step::update(tx, batch, holder, handles, |_| Vec::new())?;
    let record: Vec<NewEvent> = handles
        .iter()
        .filter_map(|handle| moved.get(&handle.item))
        .map(|item| item.event(kind, serde_json::json!({"attempt": item.attempt}).to_string()))
        .collect();
    events::append(tx, now, &record)?;
    step::answers(tx, holder, handles, moved, |_| *event, kind, now)
}

fn renew(tx: &mut dyn Tx, agent: AgentId, handles: &[LeaseHandle], now: Millis) -> Result<Vec<Answer<bool>>> {
    const HELD: &str = "items.state IN (1, 2, 3)";
    let found = Batch {
        set: "lost_since = NULL",
        guard: &format!("{HELD} AND items.lost_since IS NOT NULL"),
        fields: &[],
        params: Vec::new(),
    };
    let found = step::update(tx, found, Some(agent), handles, |_| Vec::new())?;
    let record: Vec<NewEvent> = found
        .values()
        .map(|item| item.event("found", "{}".to_owned()))
        .collect();
    events::append(tx, now, &record)?;

    let renewed = Batch {
        set: "deadline = CASE WHEN items.deadline IS NULL THEN NULL ELSE CAST($1 AS BIGINT) END",
        guard: HELD,
        fields: &[],
        params: vec![Value::from(now + LEASE_TERM)],
    };
    let renewed = step::update(tx, renewed, Some(agent), handles, |_| Vec::new())?;
    handles
        .iter()
        .map(|handle| {
            if let Some(item) = renewed.get(&handle.item) {
                return Ok(Ok(item.stop_requested));
            }
            Ok(Err(match step::known(tx, handle.item)? {
                Some(Known { facts, .. }) if facts.epoch == handle.epoch && !facts.state.is_held() => {
                    Refusal::State(facts.state)
                }
                _ => Refusal::Stale,
            }))
        })
        .collect()
}

/// The event and the end of an outcome.
const fn ending(outcome: &Outcome) -> (ItemEvent, ItemState) {
    match outcome {
        Outcome::Finished => (ItemEvent::Succeed, ItemState::Finished),
        Outcome::Failed(_) => (ItemEvent::Fail, ItemState::Failed),
        Outcome::Killed => (ItemEvent::Kill, ItemState::Killed),
    }
}

fn finish(tx: &mut dyn Tx, holder: Option<AgentId>, reports: &[Report], now: Millis) -> Result<Vec<Answer<()>>> {
    let handles: Vec<LeaseHandle> = reports.iter().map(|report| report.handle).collect();
    let failures = reports
        .iter()
        .map(|report| match &report.outcome {
            Outcome::Failed(failure) => step::failure_text(failure).map(Some),
            Outcome::Finished | Outcome::Killed => Ok(None),
        })
        .collect::<Result<Vec<_>>>()?;
    let batch = Batch {
        set: "state = r.state, deadline = NULL, lost_since = NULL, ended_at = $1, \
              failure = CASE WHEN r.state = 4 THEN NULL ELSE COALESCE(r.failure, items.failure) END, \
              exit_code = r.exit_code",
        guard: "((r.state = 4 AND items.state IN (2, 3, 6)) OR (r.state = 5 AND items.state IN (1, 2, 3, 6)) \
                OR (r.state = 7 AND items.state IN (1, 2, 3, 6)))",
        fields: &[
            ("state", Field::Int),
            ("exit_code", Field::Int),
            ("failure", Field::Text),
        ],
        params: vec![Value::from(now)],
    };
    let moved = step::update(tx, batch, holder, &handles, |place| {
        reports.get(place).map_or_else(Vec::new, |report| {
            vec![
                ending(&report.outcome).1.code().into(),
                report.exit_code.into(),
                failures.get(place).cloned().flatten().into(),
            ]
        })
    })?;
    let mut record = Vec::with_capacity(moved.len());
    let mut ended = Vec::with_capacity(moved.len());
    let mut noted = std::collections::HashSet::new();
    for report in reports {
        let Some(item) = moved.get(&report.handle.item).filter(|item| noted.insert(item.id)) else {
            continue;
        };
        let state = ending(&report.outcome).1;
        let failure = match &report.outcome {
            Outcome::Failed(failure) => Some(failure),
            Outcome::Finished | Outcome::Killed => None,
        };
        record.push(item.event(step::kind(state), step::end_detail(failure, report.exit_code)));
        if let (Some(run), Some(state)) = (&item.run, step::run_state(state)) {
            ended.push((run, state));
        }
    }
    runs::end_with_items(tx, &ended, now)?;
    events::append(tx, now, &record)?;
    let event = |place: usize| {
        reports
            .get(place)
            .map_or(ItemEvent::Fail, |report| ending(&report.outcome).0)
    };
    step::answers(tx, holder, &handles, moved, event, "finish", now)
}

fn hand_back(
    tx: &mut dyn Tx,
    holder: Option<AgentId>,
    handle: LeaseHandle,
    cause: ReturnCause,
    now: Millis,
) -> Result<Answer<()>> {
    let (event, why) = match cause {
        ReturnCause::Released => (ItemEvent::Release, "released"),
        ReturnCause::Absent => (ItemEvent::ReportAbsent, "absent"),
        ReturnCause::Preempted => (ItemEvent::Preempt, "preempted"),
    };
    row::lock(tx, handle.item)?;
    let Some(item) = row::find(tx, handle.item)? else {
        return Ok(Err(Refusal::Stale));
    };
    let new_attempt = match step::decide(item.facts(), item.agent, holder, &event, handle.epoch) {
        Ok(Effect::Requeue { new_attempt }) => new_attempt,
        Ok(Effect::None | Effect::To(_)) => return Ok(Ok(())),
        Err(_) => return step::unmoved(tx, holder, handle, &event, "return", now),
    };
    if cause == ReturnCause::Preempted {
        if item.preemptions >= MAX_PREEMPTIONS {
            let failure = Failure {
                stage: "run".to_owned(),
                message: format!(
                    "The job was preempted {} times; queue it on a resource that lets it finish",
                    item.preemptions + 1
                ),
                reason: "preempted".to_owned(),
                file_paths: Vec::new(),
            };
            let failed = End {
                state: ItemState::Failed,
                failure: Some(&failure),
                exit_code: None,
                actor: "",
            };
            return step::end(tx, &item, &failed, now).map(Ok);
        }
        // It has had its turn, and goes to the end of its priority.
        let place = next_number(tx, "items")?;
        tx.execute(
            "UPDATE items SET preemptions = preemptions + 1, place = $3 WHERE entity_id = $1 AND id = $2",
            params![item.id.entity, item.id.number, place],
        )?;
    }
    step::requeue(tx, &item, new_attempt, why, now).map(|_| Ok(()))
}

fn warn(
    tx: &mut dyn Tx,
    holder: Option<AgentId>,
    handle: LeaseHandle,
    warning: &Failure,
    now: Millis,
) -> Result<Answer<()>> {
    if warning.message.is_empty() {
        return clear_warning(tx, holder, handle, now);
    }
    let batch = Batch {
        set: "warning = r.warning",
        guard: "items.state <> 0",
        fields: &[("warning", Field::Text)],
        params: Vec::new(),
    };
    let text = step::failure_text(warning)?;
    let moved = step::update(tx, batch, holder, &[handle], |_| vec![text.as_str().into()])?;
    match moved.get(&handle.item) {
        Some(item) => {
            events::append(tx, now, &[item.event("warning", step::end_detail(Some(warning), None))])?;
            Ok(Ok(()))
        }
        None => step::unmoved(tx, holder, handle, &ItemEvent::Start, "warning", now),
    }
}

/// Takes a warning away. Where there is none, nothing has happened.
fn clear_warning(tx: &mut dyn Tx, holder: Option<AgentId>, handle: LeaseHandle, now: Millis) -> Result<Answer<()>> {
    let clear = |guard| Batch {
        set: "warning = NULL",
        guard,
        fields: &[],
        params: Vec::new(),
    };
    let there = clear("items.state <> 0 AND items.warning IS NOT NULL");
    let moved = step::update(tx, there, holder, &[handle], |_| Vec::new())?;
    if let Some(item) = moved.get(&handle.item) {
        events::append(tx, now, &[item.event("warning-cleared", "{}".to_owned())])?;
        return Ok(Ok(()));
    }
    let moved = step::update(tx, clear("items.state <> 0"), holder, &[handle], |_| Vec::new())?;
    if moved.contains_key(&handle.item) {
        return Ok(Ok(()));
    }
    step::unmoved(tx, holder, handle, &ItemEvent::Start, "warning", now)
}

/// Who calls: where an operation takes a `holder`, an item that another agent holds is stale for it,
/// also with the current epoch, which a successor of the same name takes over. `None` is a client
/// that does not say which agent it is; only the epoch fences it.
impl Store {
    /// Leases up to `limit` items (at most [`MAX_LEASE`]) from these queues, taking them in turn;
    /// each queue in order of priority, then submission. Nothing from paused queues or for agents
    /// that drain, have ended or were replaced. `managed`: the agent renews leases and reports
    /// starts and outcomes (ours); others only acknowledge.
    pub async fn lease(
        &self,
        agent: Option<AgentId>,
        queues: Vec<QueueId>,
        limit: usize,
        managed: bool,
        now: Millis,
    ) -> Result<Vec<Leased>> {
        let request = Request {
            agent,
            managed,
            now: self.clock(now),
        };
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let limit = limit.min(MAX_LEASE);
        let claims = self
            .write(Lane::Control, "lease", move |tx| {
                lease(tx, &request, &queues, limit, turn)
            })
            .await?;
        if claims.is_empty() {
            return Ok(Vec::new());
        }
        // Not the writer's work: others wait for it.
        self.read(Lane::Control, "leased", move |tx| handed_out(tx, &claims))
            .await
    }

    /// Names the run of each item; idempotent per handle and run. Makes the run, pending, if it
    /// does not exist, attributed to the item's author. A run that exists must be that of an earlier
    /// attempt, or be named by the item's spec.
    pub async fn ack(
        &self,
        holder: Option<AgentId>,
        acks: Vec<(LeaseHandle, RunName)>,
        now: Millis,
    ) -> Result<Vec<Acked>> {
        let now = self.clock(now);
        self.write(Lane::Control, "ack", move |tx| {
            ack(tx, holder, &acks, Also::Nothing, now)
        })
        .await
    }

    /// Acknowledges items as [`Store::ack`] does, and records in the same step that their attempts start:
    /// for an agent that has nothing to prepare. Of an item that was acknowledged with this run before,
    /// only the start is recorded.
    pub async fn ack_and_start(
        &self,
        holder: Option<AgentId>,
        acks: Vec<(LeaseHandle, RunName)>,
        now: Millis,
    ) -> Result<Vec<Acked>> {
        let now = self.clock(now);
        self.write(Lane::Control, "start", move |tx| {
            ack(tx, holder, &acks, Also::Start, now)
        })
        .await
    }

    /// Records, before the workload is created, that each item's attempt starts. Idempotent per
    /// handle.
    pub async fn start(
        &self,
        holder: Option<AgentId>,
        handles: Vec<LeaseHandle>,
        now: Millis,
    ) -> Result<Vec<std::result::Result<(), Refusal>>> {
        let now = self.clock(now);
        self.write(Lane::Control, "start", move |tx| start(tx, holder, &handles, now))
            .await
    }

    /// Notes that the workload runs (our agent) and moves the item to running.
    pub async fn running(
        &self,
        holder: Option<AgentId>,
        handles: Vec<LeaseHandle>,
        now: Millis,
    ) -> Result<Vec<std::result::Result<(), Refusal>>> {
        let now = self.clock(now);
        self.write(Lane::Control, "running", move |tx| {
            let batch = Batch {
                set: "state = 3, started_at = COALESCE(items.started_at, CAST($1 AS BIGINT)), warning = NULL, \
                      deadline = CASE WHEN items.managed = 1 THEN items.deadline END",
                guard: "items.state = 2",
                fields: &[],
                params: vec![Value::from(now)],
            };
            advance(tx, holder, &handles, batch, &ItemEvent::RunStarted, "running", now)
        })
        .await
    }

    /// Extends the leases of an agent that was heard from; returns, per handle, whether somebody
    /// asked the item to stop, or why the agent holds it no longer.
    pub async fn renew(
        &self,
        agent: AgentId,
        handles: Vec<LeaseHandle>,
        now: Millis,
    ) -> Result<Vec<std::result::Result<bool, Refusal>>> {
        let now = self.clock(now);
        self.write(Lane::Control, "renew", move |tx| renew(tx, agent, &handles, now))
            .await
    }

    /// Ends items by the report of the agent that holds them, and their runs, unless the run
    /// reported its own end. A stale report changes nothing but the item's record.
    pub async fn finish(
        &self,
        holder: Option<AgentId>,
        reports: Vec<Report>,
        now: Millis,
    ) -> Result<Vec<std::result::Result<(), Refusal>>> {
        let now = self.clock(now);
        self.write(Lane::Control, "finish", move |tx| finish(tx, holder, &reports, now))
            .await
    }

    /// Gives an item back: to its old place, or after a preemption to the end of its priority. One
    /// that somebody asked to stop ends as killed instead.
    pub async fn hand_back(
        &self,
        holder: Option<AgentId>,
        handle: LeaseHandle,
        cause: ReturnCause,
        now: Millis,
    ) -> Result<std::result::Result<(), Refusal>> {
        let now = self.clock(now);
        self.write(Lane::Control, "hand-back", move |tx| {
            hand_back(tx, holder, handle, cause, now)
        })
        .await
    }

    /// Fails an item by its holder's report. A stale handle changes nothing but the item's record,
    /// and answers `Ok(Err(Stale))`.
    pub async fn fail(
        &self,
        holder: Option<AgentId>,
        handle: LeaseHandle,
        failure: Failure,
        now: Millis,
    ) -> Result<std::result::Result<(), Refusal>> {
        let report = Report {
            handle,
            outcome: Outcome::Failed(failure),
            exit_code: None,
        };
        let answers = self.finish(holder, vec![report], now).await?;
        Ok(answers.into_iter().next().unwrap_or(Err(Refusal::Stale)))
    }

    /// Attaches a warning to an item that was handed out, in place of an earlier one. One without words
    /// takes it away.
    pub async fn warn(
        &self,
        holder: Option<AgentId>,
        handle: LeaseHandle,
        warning: Failure,
        now: Millis,
    ) -> Result<std::result::Result<(), Refusal>> {
        let now = self.clock(now);
        self.write(Lane::Control, "warn", move |tx| warn(tx, holder, handle, &warning, now))
            .await
    }
}
