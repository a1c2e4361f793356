//! Launch agents.

use std::collections::{HashMap, HashSet};

use slipway_model::Millis;
use slipway_model::agent::AgentStatus;
use slipway_model::id::{AgentId, QueueId};
use slipway_model::wait::AgentLoad;

use rand::RngExt as _;
use slipway_model::item::{AGENT_TERM, LEASE_TERM};

use crate::engine::{Dialect, Field, Lane, Records, Row, Tx, params};
use crate::events::{self, NewEvent};
use crate::identity::{self, AuditEntry};
use crate::items::{self, Item, clock};
use crate::{Error, Result, Store};

/// How long an agent that says nothing new is not written again.
const TOUCH_INTERVAL: Millis = 5_000;

/// A registered agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Agent {
    /// Its id.
    pub id: AgentId,
    /// The entity whose queues it serves.
    pub entity: String,
    /// Its name: stable for ours, made up for others. Also the id of the official agent's own run,
    /// so it is a valid run id.
    pub name: String,
    /// The queues that it serves.
    pub queues: Vec<QueueId>,
    /// Where it runs.
    pub hostname: String,
    /// What it says it is, such as `wandb@0.31.0`.
    pub version: String,
    /// Its configuration without secrets, JSON text.
    pub config: String,
    /// From the configuration; -1 for no limit.
    pub max_jobs: i64,
    /// What it last said.
    pub status: AgentStatus,
    /// Whether somebody asked it to drain.
    pub drain_requested: bool,
    /// The number of registrations under this name; an older holder is refused.
    pub epoch: i64,
    /// Whether it speaks our additions.
    pub managed: bool,
    /// When it was last heard from.
    pub heartbeat_at: Millis,
    /// When it registered.
    pub created_at: Millis,
    /// The key it registered with belongs to this user.
    pub user: String,
}

impl Agent {
    /// Whether it was heard from lately and has not ended. Time in which no server listened does not
    /// count against it.
    fn is_active(&self, listening_since: Millis, now: Millis) -> bool {
        self.status != AgentStatus::Killed && self.heartbeat_at.max(listening_since) + AGENT_TERM > now
    }
}

/// A registration.
#[derive(Debug, Clone)]
pub struct NewAgent {
    /// The entity whose queues it serves.
    pub entity: String,
    /// The stable name; `None` makes one up.
    pub name: Option<String>,
    /// Told by the agent, the same across its restarts on one machine: a registration under a live
    /// agent's name by another instance is refused unless `take_over`.
    pub instance: Option<String>,
    /// Take the name from a live holder.
    pub take_over: bool,
    /// The queues that it serves.
    pub queues: Vec<QueueId>,
    /// Where it runs.
    pub hostname: String,
    /// What it says it is.
    pub version: String,
    /// Its configuration without secrets, JSON text.
    pub config: String,
    /// From the configuration.
    pub max_jobs: i64,
    /// Whether it speaks our additions.
    pub managed: bool,
    /// The user whose key it uses.
    pub user: String,
}

const COLUMNS: &str = "a.entity_id, a.id, e.name, a.name, a.hostname, a.version, a.config, a.max_jobs, a.status, \
                       a.drain_requested, a.epoch, a.managed, a.heartbeat_at, a.created_at, a.username";

const FROM: &str = "FROM agents AS a JOIN entities AS e ON e.id = a.entity_id";

/// Reads a row; the queues are not in it.
fn read(row: &Row) -> Result<Agent> {
    let status = row.i64(8)?;
    Ok(Agent {
        id: AgentId {
            entity: row.i64(0)?,
            number: row.i64(1)?,
        },
        entity: row.text(2)?,
        name: row.text(3)?,
        queues: Vec::new(),
        hostname: row.text(4)?,
        version: row.text(5)?,
        config: row.text(6)?,
        max_jobs: row.i64(7)?,
        status: AgentStatus::from_code(status)
            .ok_or_else(|| Error::Internal(format!("an agent has the unknown status {status}")))?,
        drain_requested: row.bool(9)?,
        epoch: row.i64(10)?,
        managed: row.bool(11)?,
        heartbeat_at: row.i64(12)?,
        created_at: row.i64(13)?,
        user: row.text(14)?,
    })
}

/// Reads rows, and what queues their agents serve.
fn read_all(tx: &mut dyn Tx, rows: &[Row]) -> Result<Vec<Agent>> {
    let mut agents = rows.iter().map(read).collect::<Result<Vec<_>>>()?;
    if agents.is_empty() {
        return Ok(agents);
    }
    let keys = agents
        .iter()
        .map(|agent| params![agent.id.entity, agent.id.number].to_vec());
    let keys = Records::new(tx.dialect(), &[("entity_id", Field::Int), ("id", Field::Int)], keys)?;
    let served = tx.query(
        &format!(
            "SELECT DISTINCT q.entity_id, q.agent_id, q.queue_entity_id, q.queue_id FROM {} AS r \
             CROSS JOIN agent_queues AS q WHERE q.entity_id = r.entity_id AND q.agent_id = r.id \
             ORDER BY q.queue_entity_id, q.queue_id",
            keys.source(1)
        ),
        &keys.after(params![]),
    )?;
    let mut queues: HashMap<AgentId, Vec<QueueId>> = HashMap::new();
    for row in &served {
        let agent = AgentId::new(row.i64(0)?, row.i64(1)?);
        let queue = QueueId::new(row.i64(2)?, row.i64(3)?);
        queues.entry(agent).or_default().push(queue);
    }
    for agent in &mut agents {
        agent.queues = queues.get(&agent.id).cloned().unwrap_or_default();
    }
    Ok(agents)
}

/// Finds an agent.
pub(crate) fn find(tx: &mut dyn Tx, id: AgentId) -> Result<Option<Agent>> {
    let rows = tx.query(
        &format!("SELECT {COLUMNS} {FROM} WHERE a.entity_id = $1 AND a.id = $2"),
        params![id.entity, id.number],
    )?;
    Ok(read_all(tx, &rows)?.pop())
}

/// Finds agents; those that do not exist are left out.
pub(crate) fn find_many(tx: &mut dyn Tx, ids: &HashSet<AgentId>) -> Result<Vec<Agent>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let keys = ids.iter().map(|id| params![id.entity, id.number].to_vec());
    let keys = Records::new(tx.dialect(), &[("entity_id", Field::Int), ("id", Field::Int)], keys)?;
    let rows = tx.query(
        &format!(
            "SELECT {COLUMNS} FROM {} AS r CROSS JOIN agents AS a JOIN entities AS e ON e.id = a.entity_id \
             WHERE a.entity_id = r.entity_id AND a.id = r.id",
            keys.source(1)
        ),
        &keys.after(params![]),
    )?;
    read_all(tx, &rows)
}

/// The live agents that serve queues and how busy they are, by name.
pub(crate) fn serving(
    tx: &mut dyn Tx,
    queues: &HashSet<QueueId>,
    now: Millis,
) -> Result<HashMap<QueueId, Vec<(Agent, AgentLoad)>>> {
    let mut found: HashMap<QueueId, Vec<(Agent, AgentLoad)>> = HashMap::new();
    if queues.is_empty() {
        return Ok(found);
    }
    let heard_since = clock::heard_since(tx)?;
    let keys = queues.iter().map(|queue| params![queue.entity, queue.number].to_vec());
    let keys = Records::new(tx.dialect(), &[("entity_id", Field::Int), ("id", Field::Int)], keys)?;
    let rows = tx.query(
        &format!(
            "SELECT {COLUMNS}, (SELECT COUNT(*) FROM items AS i WHERE i.agent_id = a.id \
             AND i.agent_entity_id = a.entity_id AND i.leased_at IS NOT NULL AND i.ended_at IS NULL), q.queue_entity_id, q.queue_id \
             FROM {} AS r CROSS JOIN agent_queues AS q \
             JOIN agents AS a ON a.entity_id = q.entity_id AND a.id = q.agent_id \
             JOIN entities AS e ON e.id = a.entity_id \
             WHERE q.queue_entity_id = r.entity_id AND q.queue_id = r.id AND a.replaced = 0 AND a.status <> $1 \
             ORDER BY a.name",
            keys.source(2)
        ),
        &keys.after(params![AgentStatus::Killed.code()]),
    )?;
    for (row, agent) in rows.iter().zip(read_all(tx, &rows)?) {
        if !agent.is_active(heard_since, now) {
            continue;
        }
        let load = AgentLoad {
            name: agent.name.clone(),
            running: row.i64(15)?,
            max_jobs: agent.max_jobs,
            draining: agent.drain_requested || agent.status == AgentStatus::Draining,
        };
        let queue = QueueId::new(row.i64(16)?, row.i64(17)?);
        found.entry(queue).or_default().push((agent, load));
    }
    Ok(found)
}

/// The name of an agent that may take items now: it has not ended or been replaced, and does not
/// drain.
pub(crate) fn may_lease(tx: &mut dyn Tx, id: AgentId) -> Result<Option<String>> {
    tx.query_opt(
        "SELECT name FROM agents WHERE entity_id = $1 AND id = $2 AND replaced = 0 AND drain_requested = 0 \
         AND status IN ($3, $4)",
        params![
            id.entity,
            id.number,
            AgentStatus::Polling.code(),
            AgentStatus::Running.code(),
        ],
    )?
    .map(|row| row.text(0))
    .transpose()
}

/// The current holder of a name.
struct Holder {
    number: i64,
    epoch: i64,
    instance: Option<String>,
    hostname: String,
    alive: bool,
}

fn holder(tx: &mut dyn Tx, entity: i64, name: &str, now: Millis) -> Result<Option<Holder>> {
    let sql = format!(
        "SELECT id, epoch, instance, hostname, status, heartbeat_at FROM agents \
         WHERE entity_id = $1 AND name = $2 AND replaced = 0{}",
        tx.for_update()
    );
    let Some(row) = tx.query_opt(&sql, params![entity, name])? else {
        return Ok(None);
    };
    // Time in which no server listened does not count against the holder.
    let heard = row.i64(5)?.max(clock::heard_since(tx)?);
    Ok(Some(Holder {
        number: row.i64(0)?,
        epoch: row.i64(1)?,
        instance: row.opt_text(2)?,
        hostname: row.text(3)?,
        alive: row.i64(4)? != AgentStatus::Killed.code() && heard + AGENT_TERM > now,
    }))
}

fn note(
    tx: &mut dyn Tx,
    id: AgentId,
    kind: &'static str,
    actor: &str,
    detail: &serde_json::Value,
    now: Millis,
) -> Result<()> {
    let event = NewEvent {
        entity: id.entity,
        kind,
        queue: None,
        item: None,
        agent: Some(id),
        actor: actor.to_owned(),
        detail: detail.to_string(),
    };
    events::append(tx, now, &[event])
}

/// Passes a name, and what its holder holds, on to a new registration.
fn replace(tx: &mut dyn Tx, old: AgentId, new: AgentId, name: &str, now: Millis) -> Result<()> {
    // The successor was just heard from, so what it inherits is not lost.
    tx.execute(
        "UPDATE items SET agent_id = $3, lost_since = NULL, \
         deadline = CASE WHEN deadline IS NULL THEN NULL ELSE CAST($4 AS BIGINT) END \
         WHERE agent_id = $2 AND agent_entity_id = $1 AND leased_at IS NOT NULL AND ended_at IS NULL",
        params![old.entity, old.number, new.number, now + LEASE_TERM],
    )?;
    tx.execute(
        "DELETE FROM agent_queues WHERE entity_id = $1 AND agent_id = $2",
        params![old.entity, old.number],
    )?;
    note(
        tx,
        old,
        "agent-replaced",
        name,
        &serde_json::json!({"by": new.to_string()}),
        now,
    )
}

fn made_up_name() -> String {
    const LETTERS: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut random = rand::rng();
    let letters = (0..8).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())]));
    format!("agent-{}", letters.collect::<String>())
}

fn register(tx: &mut dyn Tx, new: &NewAgent, now: Millis) -> Result<Agent> {
    let entity = identity::require_entity(tx, &new.entity)?;
    let name = new.name.clone().unwrap_or_else(made_up_name);
    let holder = holder(tx, entity, &name, now)?;
    if let Some(holder) = &holder {
        let same = holder.instance.is_some() && holder.instance == new.instance;
        if holder.alive && !same && !new.take_over {
            return Err(Error::AgentHeld {
                name,
                host: holder.hostname.clone(),
            });
        }
        tx.execute(
            "UPDATE agents SET replaced = 1, status = $3 WHERE entity_id = $1 AND id = $2",
            params![entity, holder.number, AgentStatus::Killed.code()],
        )?;
    }
    let epoch = holder.as_ref().map_or(0, |holder| holder.epoch) + 1;
    let row = tx.query_one(
        "INSERT INTO agents (entity_id, name, instance, hostname, version, config, max_jobs, status, drain_requested, \
         epoch, managed, replaced, username, heartbeat_at, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, $9, $10, 0, $11, $12, $12) RETURNING id",
        params![
            entity,
            &name,
            new.instance.clone(),
            &new.hostname,
            &new.version,
            &new.config,
            new.max_jobs,
            AgentStatus::Polling.code(),
            epoch,
            new.managed,
            &new.user,
            now,
        ],
    )?;
    let id = AgentId {
        entity,
        number: row.i64(0)?,
    };
    for queue in &new.queues {
        tx.execute(
            "INSERT INTO agent_queues (entity_id, agent_id, queue_entity_id, queue_id) VALUES ($1, $2, $3, $4) \
             ON CONFLICT DO NOTHING",
            params![entity, id.number, queue.entity, queue.number],
        )?;
    }
    if let Some(holder) = holder {
        let old = AgentId {
            entity,
            number: holder.number,
        };
        replace(tx, old, id, &name, now)?;
    }
    let detail = serde_json::json!({"name": name, "hostname": new.hostname, "epoch": epoch});
    note(tx, id, "agent-registered", &name, &detail, now)?;
    find(tx, id)?.ok_or_else(|| Error::not_found("agent", id))
}

/// What a word of an agent is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Nothing: it is unknown, has ended or was replaced.
    Refused,
    /// It was heard from a moment ago and says nothing new.
    Nothing,
    /// It says nothing new, and when it was heard from is to be written down.
    Contact,
    /// It has another status than before.
    Status(AgentStatus),
}

fn hear(tx: &mut dyn Tx, id: AgentId, status: Option<AgentStatus>, now: Millis) -> Result<Heard> {
    let row = tx.query_opt(
        "SELECT status, heartbeat_at, replaced FROM agents WHERE entity_id = $1 AND id = $2",
        params![id.entity, id.number],
    )?;
    let Some(row) = row else { return Ok(Heard::Refused) };
    let (known, heard) = (row.i64(0)?, row.i64(1)?);
    if row.bool(2)? || known == AgentStatus::Killed.code() {
        return Ok(Heard::Refused);
    }
    if let Some(status) = status.filter(|status| status.code() != known) {
        return Ok(Heard::Status(status));
    }
    // A heartbeat from the future was written before the clock was set back.
    let recent = (heard..heard + TOUCH_INTERVAL).contains(&now);
    Ok(if recent { Heard::Nothing } else { Heard::Contact })
}

impl Store {
    /// Registers an agent, or takes over its name: with a new id and epoch, and the items that the
    /// earlier holder of the name holds. The earlier id is then refused.
    ///
    /// # Errors
    /// [`Error::AgentHeld`] if another live instance has the name and `take_over` is not set.
    pub async fn register_agent(&self, agent: NewAgent, now: Millis) -> Result<Agent> {
        let now = self.clock(now);
        self.write(Lane::Control, "register-agent", move |tx| register(tx, &agent, now))
            .await
    }

    /// Finds an agent; one that was replaced or has ended, too.
    pub async fn agent(&self, id: AgentId) -> Result<Option<Agent>> {
        self.read(Lane::Control, "agent", move |tx| find(tx, id)).await
    }

    /// Finds the present agent of a name.
    pub async fn agent_by_name(&self, entity: &str, name: &str) -> Result<Option<Agent>> {
        let names = [entity.to_owned(), name.to_owned()];
        self.read(Lane::Control, "agent-by-name", move |tx| {
            let [entity, name] = &names;
            let rows = tx.query(
                &format!("SELECT {COLUMNS} {FROM} WHERE e.name = $1 AND a.name = $2 AND a.replaced = 0"),
                params![entity, name],
            )?;
            Ok(read_all(tx, &rows)?.pop())
        })
        .await
    }

    /// The agents of an entity, newest first, without those that were replaced.
    pub async fn agents(&self, entity: &str) -> Result<Vec<Agent>> {
        let entity = entity.to_owned();
        self.read(Lane::Control, "agents", move |tx| {
            let rows = tx.query(
                &format!("SELECT {COLUMNS} {FROM} WHERE e.name = $1 AND a.replaced = 0 ORDER BY a.id DESC"),
                params![&entity],
            )?;
            read_all(tx, &rows)
        })
        .await
    }

    /// What a word of an agent is worth, without writing anything down: thousands of idle agents ask all
    /// the time, and only those with news are to reach the writer.
    pub async fn hear_agent(&self, id: AgentId, status: Option<AgentStatus>, now: Millis) -> Result<Heard> {
        let now = self.clock(now);
        self.read(Lane::Control, "hear-agent", move |tx| hear(tx, id, status, now))
            .await
    }

    /// Notes that an agent was heard from, and what it said. `false` if it is unknown, has ended or
    /// was replaced. Writes at most once in five seconds unless something changed.
    pub async fn touch_agent(&self, id: AgentId, status: Option<AgentStatus>, now: Millis) -> Result<bool> {
        let now = self.clock(now);
        match self.hear_agent(id, status, now).await? {
            Heard::Refused => return Ok(false),
            Heard::Nothing => return Ok(true),
            Heard::Contact | Heard::Status(_) => {}
        }
        self.write(Lane::Control, "touch-agent", move |tx| {
            let changed = match hear(tx, id, status, now)? {
                Heard::Refused => return Ok(false),
                Heard::Nothing => return Ok(true),
                Heard::Contact => None,
                Heard::Status(status) => Some(status),
            };
            // On PostgreSQL its last word may have come in between.
            let written = tx.execute(
                "UPDATE agents SET heartbeat_at = $3, status = COALESCE(CAST($4 AS BIGINT), status) \
                 WHERE entity_id = $1 AND id = $2 AND replaced = 0 AND status <> $5",
                params![
                    id.entity,
                    id.number,
                    now,
                    changed.map(AgentStatus::code),
                    AgentStatus::Killed.code(),
                ],
            )?;
            if written == 0 {
                return Ok(false);
            }
            if let Some(status) = changed {
                note(
                    tx,
                    id,
                    "agent-status",
                    "",
                    &serde_json::json!({"status": status.as_str()}),
                    now,
                )?;
            }
            Ok(true)
        })
        .await
    }

    /// Notes that agents were heard from. Passes over those that are unknown, have ended or were replaced.
    pub async fn touch_agents(&self, mut ids: Vec<AgentId>, now: Millis) -> Result<()> {
        let now = self.clock(now);
        // In one order, so that two servers do not wait for each other.
        ids.sort_unstable_by_key(|id| (id.entity, id.number));
        self.write(Lane::Control, "touch-agents", move |tx| {
            let present = format!(
                "agents.replaced = 0 AND agents.status <> {}",
                AgentStatus::Killed.code()
            );
            match tx.dialect() {
                Dialect::Sqlite => {
                    let sql =
                        format!("UPDATE agents SET heartbeat_at = $3 WHERE entity_id = $1 AND id = $2 AND {present}");
                    ids.iter()
                        .try_for_each(|id| tx.execute(&sql, params![id.entity, id.number, now]).map(drop))
                }
                Dialect::Postgres => {
                    let keys = ids.iter().map(|id| params![id.entity, id.number].to_vec());
                    let keys = Records::new(tx.dialect(), &[("entity_id", Field::Int), ("id", Field::Int)], keys)?;
                    let sql = format!(
                        "UPDATE agents SET heartbeat_at = $1 FROM {} AS r \
                         WHERE agents.entity_id = r.entity_id AND agents.id = r.id AND {present}",
                        keys.source(2)
                    );
                    tx.execute(&sql, &keys.after(params![now])).map(drop)
                }
            }
        })
        .await
    }

    /// Asks an agent to drain, or takes that back.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such agent.
    pub async fn request_drain(&self, id: AgentId, drain: bool, by: &str, now: Millis) -> Result<()> {
        let by = by.to_owned();
        self.write(Lane::Control, "request-drain", move |tx| {
            let row = tx.query_opt(
                &format!(
                    "SELECT drain_requested FROM agents WHERE entity_id = $1 AND id = $2{}",
                    tx.for_update()
                ),
                params![id.entity, id.number],
            )?;
            let row = row.ok_or_else(|| Error::not_found("agent", id))?;
            if row.bool(0)? == drain {
                return Ok(());
            }
            tx.execute(
                "UPDATE agents SET drain_requested = $3 WHERE entity_id = $1 AND id = $2",
                params![id.entity, id.number, drain],
            )?;
            let detail = serde_json::json!({"drain": drain});
            note(tx, id, "agent-status", &by, &detail, now)?;
            let subject = find(tx, id)?.map_or_else(String::new, |agent| format!("{}/{}", agent.entity, agent.name));
            let entry = AuditEntry {
                at: now,
                actor: by.clone(),
                action: "agent.drain".to_owned(),
                subject,
                detail: detail.to_string(),
            };
            identity::audit(tx, &entry)
        })
        .await
    }

    /// Whether an agent was heard from lately and has not ended, as [`Store::queue_agents`] sees it.
    pub async fn is_active(&self, agent: &Agent, now: Millis) -> Result<bool> {
        let now = self.clock(now);
        let since = self.read(Lane::Control, "listening-since", clock::heard_since).await?;
        Ok(agent.is_active(since, now))
    }

    /// The items that an agent holds, oldest first.
    pub async fn held_items(&self, id: AgentId) -> Result<Vec<Item>> {
        self.read(Lane::Control, "held-items", move |tx| {
            items::row::select(
                tx,
                "WHERE i.agent_id = $2 AND i.agent_entity_id = $1 AND i.leased_at IS NOT NULL \
                 AND i.ended_at IS NULL ORDER BY i.id",
                params![id.entity, id.number],
            )
        })
        .await
    }

    /// The live agents that serve a queue and how busy they are, by name.
    pub async fn queue_agents(&self, queue: QueueId, now: Millis) -> Result<Vec<(Agent, AgentLoad)>> {
        let mut agents = self.agents_of_queues(&[queue], now).await?;
        Ok(agents.remove(&queue).unwrap_or_default())
    }

    /// As [`Store::queue_agents`], for many queues; one that no agent serves is absent.
    pub async fn agents_of_queues(
        &self,
        queues: &[QueueId],
        now: Millis,
    ) -> Result<HashMap<QueueId, Vec<(Agent, AgentLoad)>>> {
        let now = self.clock(now);
        let queues = queues.iter().copied().collect();
        self.read(Lane::Control, "queue-agents", move |tx| serving(tx, &queues, now))
            .await
    }
}
