//! What time alone brings about: leases end, agents are lost, runs count as crashed.

use std::sync::atomic::Ordering;

use slipway_model::Millis;
use slipway_model::item::{
    AGENT_LOST_TIMEOUT, CRASH_TERM, Effect, Failure, ItemEvent, ItemState, LEASE_TERM, transition,
};
use slipway_model::queue::QueuePolicy;

use super::clock::{self, GAP, Listening};
use super::push::IDEMPOTENCY_TERM;
use super::step::{self, End};
use super::{Item, Ticked, row};
use crate::engine::{Dialect, Lane, Tx, params};
use crate::{Result, Store, events, runs};

/// How many items, and how many runs, one turn handles: the rest waits for the next second, so
/// that a mass expiry does not hold up others.
const SLICE: usize = 500;

/// How often the time of a turn is recorded. Each recording is a commit.
const RECORD_INTERVAL: Millis = 2_000;

/// Whether this server is the one that works this turn.
fn elected(tx: &mut dyn Tx) -> Result<bool> {
    match tx.dialect() {
        Dialect::Sqlite => Ok(true),
        Dialect::Postgres => {
            let row = tx.query_one(
                "SELECT CASE WHEN pg_try_advisory_xact_lock(hashtextextended(current_schema() || '.tick', 0)) \
                 THEN CAST(1 AS BIGINT) ELSE CAST(0 AS BIGINT) END",
                params![],
            )?;
            row.bool(0)
        }
    }
}

/// Finds out how long nobody listened, and gives every term a new beginning after that.
///
/// `first`: this is the first turn of the only server, which therefore was not there before.
fn listen(tx: &mut dyn Tx, first: bool, now: Millis) -> Result<(Listening, Millis)> {
    let Some(before) = clock::load(tx)? else {
        let listening = Listening {
            last_turn: now,
            since: now,
        };
        clock::save(tx, listening)?;
        return Ok((listening, 0));
    };
    let elapsed = now - before.last_turn;
    if !first && (0..GAP).contains(&elapsed) {
        if elapsed >= RECORD_INTERVAL {
            clock::save(
                tx,
                Listening {
                    last_turn: now,
                    since: before.since,
                },
            )?;
        }
        return Ok((before, 0));
    }
    let listening = Listening {
        last_turn: now,
        since: now,
    };
    clock::save(tx, listening)?;
    // Who holds a lease has a full term again; who is lost has as long as before. A clock that was
    // set back makes `elapsed` negative, which is right for them too.
    tx.execute(
        "UPDATE items SET deadline = CASE WHEN lost_since IS NULL THEN CAST($1 AS BIGINT) ELSE deadline + $2 END \
         WHERE deadline IS NOT NULL",
        params![now + LEASE_TERM, elapsed],
    )?;
    Ok((listening, elapsed.max(0)))
}

/// How long the item's queue lets a lost agent stay lost.
fn lost_timeout(tx: &mut dyn Tx, item: &Item) -> Result<Millis> {
    let Some(revision) = item.revision else {
        return Ok(AGENT_LOST_TIMEOUT);
    };
    let row = tx.query_opt(
        "SELECT policy FROM revisions WHERE entity_id = $1 AND id = $2",
        params![revision.entity, revision.number],
    )?;
    let policy: Option<QueuePolicy> = match row {
        Some(row) => serde_json::from_str(&row.text(0)?).ok(),
        None => None,
    };
    Ok(policy
        .and_then(|policy| policy.agent_lost_timeout)
        .unwrap_or(AGENT_LOST_TIMEOUT))
}

/// When an agent last gave a sign of life; `None` if the item names none.
fn heard_at(tx: &mut dyn Tx, item: &Item) -> Result<Option<Millis>> {
    let Some(agent) = item.agent else { return Ok(None) };
    tx.query_opt(
        "SELECT heartbeat_at FROM agents WHERE entity_id = $1 AND id = $2",
        params![agent.entity, agent.number],
    )?
    .map(|row| row.i64(0))
    .transpose()
}

/// Looks at an acknowledged item whose agent records no starts, and whose run has not been heard
/// from. While the agent lives, it may be at work on it. Once that is silent as well, the item counts
/// as crashed for as long as the run stays silent. It is not queued again: its job may have started.
fn look_after(tx: &mut dyn Tx, item: &Item, since: Millis, ticked: &mut Ticked, now: Millis) -> Result<()> {
    let heard = heard_at(tx, item)?.max(item.leased_at).unwrap_or(now).max(since);
    if now < heard + CRASH_TERM {
        return look_again(tx, item, Some(heard + CRASH_TERM));
    }
    let failure = Failure {
        stage: "agent".to_owned(),
        message: format!(
            "The agent acknowledged this item and has not been heard from for {} s, nor has the run; if the run \
             calls wandb.init after all, the item goes on, else retry it",
            (now - heard) / 1000
        ),
        reason: "agent-lost".to_owned(),
        file_paths: Vec::new(),
    };
    let end = End {
        state: if item.stop_requested {
            ItemState::Killed
        } else {
            ItemState::Crashed
        },
        failure: Some(&failure),
        exit_code: None,
        actor: "",
    };
    step::end(tx, item, &end, now)?;
    ticked.unheard.push(item.id);
    Ok(())
}

/// Sets when the clock looks at an item again.
fn look_again(tx: &mut dyn Tx, item: &Item, deadline: Option<Millis>) -> Result<()> {
    tx.execute(
        "UPDATE items SET deadline = $3 WHERE entity_id = $1 AND id = $2",
        params![item.id.entity, item.id.number, deadline],
    )
    .map(drop)
}

fn fail_lost(tx: &mut dyn Tx, item: &Item, since: Millis, now: Millis) -> Result<()> {
    let failure = Failure {
        stage: "agent".to_owned(),
        message: format!(
            "The agent that held this item has not been heard from for {} s; start it again under the same name to \
             look for the workload, or retry the item",
            (now - since) / 1000
        ),
        reason: "agent-lost".to_owned(),
        file_paths: Vec::new(),
    };
    let failed = End {
        state: ItemState::Failed,
        failure: Some(&failure),
        exit_code: None,
        actor: "",
    };
    step::end(tx, item, &failed, now)
}

/// Handles one item whose deadline has passed.
fn expire(tx: &mut dyn Tx, item: &Item, since: Millis, ticked: &mut Ticked, now: Millis) -> Result<()> {
    if !item.managed && item.state == ItemState::Claimed {
        return look_after(tx, item, since, ticked, now);
    }
    if let Some(since) = item.lost_since {
        fail_lost(tx, item, since, now)?;
        ticked.failed.push(item.id);
        return Ok(());
    }
    match transition(item.facts(), &ItemEvent::Expire, None) {
        Ok(Effect::Requeue { new_attempt }) => match step::requeue(tx, item, new_attempt, "lease-expired", now)? {
            ItemState::Pending => ticked.requeued.push((item.id, item.queue)),
            ItemState::Failed => ticked.failed.push(item.id),
            _ => {}
        },
        // It may run: only its agent, or the agent's successor, can tell.
        Ok(Effect::None) => {
            let timeout = lost_timeout(tx, item)?;
            tx.execute(
                "UPDATE items SET lost_since = $3, deadline = $4 WHERE entity_id = $1 AND id = $2",
                params![item.id.entity, item.id.number, now, now.saturating_add(timeout)],
            )?;
            events::append(tx, now, &[item.event("lost", "", "{}".to_owned())])?;
            ticked.lost.push(item.id);
        }
        Ok(Effect::To(_)) | Err(_) => look_again(tx, item, None)?,
    }
    Ok(())
}

fn tick(tx: &mut dyn Tx, first: bool, now: Millis) -> Result<Ticked> {
    let mut ticked = Ticked::default();
    if !elected(tx)? {
        return Ok(ticked);
    }
    let (listening, deaf_for) = listen(tx, first, now)?;
    ticked.deaf_for = deaf_for;
    let skip = match tx.dialect() {
        Dialect::Sqlite => "",
        Dialect::Postgres => " FOR UPDATE OF i SKIP LOCKED",
    };
    let limit = i64::try_from(SLICE).unwrap_or(i64::MAX);
    let due = row::select(
        tx,
        &format!("WHERE i.deadline <= $1 ORDER BY i.deadline LIMIT $2{skip}"),
        params![now, limit],
    )?;
    for item in &due {
        expire(tx, item, listening.since, &mut ticked, now)?;
    }
    if now >= listening.since + CRASH_TERM {
        ticked.crashed = runs::mark_crashed(tx, now, SLICE)?;
    }
    tx.execute(
        "DELETE FROM pushes WHERE id IN (SELECT id FROM pushes WHERE at < $1 LIMIT $2)",
        params![now - IDEMPOTENCY_TERM, limit],
    )?;
    Ok(ticked)
}

impl Store {
    /// Ends leases whose term is over, marks agents lost and runs crashed, ends what stayed lost.
    /// Only time in which a server ran counts: after a gap between two turns (a stopped server, a
    /// suspended machine, a clock that jumped) every term starts anew. Called about once a second
    /// by every server; on PostgreSQL the database's clock rules and one server at a time works.
    /// One turn handles at most some hundred items; the rest follows in the next.
    pub async fn tick(&self, now: Millis) -> Result<Ticked> {
        let now = self.clock(now);
        // Other servers on PostgreSQL may have listened while this one was not there.
        let first = self.dialect() == Dialect::Sqlite && !self.ticked.load(Ordering::Acquire);
        let ticked = self
            .write(Lane::Control, "tick", move |tx| tick(tx, first, now))
            .await?;
        self.ticked.store(true, Ordering::Release);
        Ok(ticked)
    }
}
