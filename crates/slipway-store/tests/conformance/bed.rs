//! A store to test on, and words for what tests do all the time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use slipway_model::Millis;
use slipway_model::id::{AgentId, ItemId, LeaseHandle, QueueId, RunName};
use slipway_model::item::{Failure, ItemState};
use slipway_model::priority::Priority;
use slipway_model::queue::{Access, Prioritization, QUEUE_PROJECT, QueuePolicy, Resource};
use slipway_store::agents::{Agent, NewAgent};
use slipway_store::identity::NewUser;
use slipway_store::items::{Acked, Item, Leased, NewItem, Outcome, Report};
use slipway_store::queues::{NewQueue, NewRevision, Queue};
use slipway_store::{Options, Store};

/// When tests begin.
pub(crate) const T0: Millis = 1_700_000_000_000;

/// The user and entity of tests.
pub(crate) const USER: &str = "alice";

/// A store of its own, deleted in the end.
pub(crate) struct Bed {
    pub(crate) store: Store,
    pub(crate) options: Options,
    place: Place,
}

enum Place {
    Dir(#[expect(dead_code, reason = "deletes the directory when dropped")] tempfile::TempDir),
    Schema(Schema),
}

/// A schema on the test server.
struct Schema {
    url: String,
    name: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Self::Schema(schema) = self {
            schema.execute("DROP SCHEMA $ CASCADE");
        }
    }
}

impl Schema {
    /// Runs a statement in which `$` stands for the schema's name.
    fn execute(&self, sql: &str) {
        self.run(sql, postgres::Client::batch_execute);
    }

    /// Asks for one whole number, likewise.
    fn number(&self, sql: &str) -> i64 {
        self.run(sql, |client, sql| client.query_one(sql, &[])?.try_get(0))
    }

    fn run<T: Send + 'static>(
        &self,
        sql: &str,
        with: impl FnOnce(&mut postgres::Client, &str) -> Result<T, postgres::Error> + Send + 'static,
    ) -> T {
        let (url, sql) = (self.url.clone(), sql.replace('$', &self.name));
        // The synchronous client may not run on a runtime's thread.
        let run = move || {
            postgres::Client::connect(&url, postgres::NoTls)
                .and_then(|mut client| with(&mut client, &sql))
                .unwrap_or_else(|error| panic!("`{sql}` on the test server: {error}"))
        };
        std::thread::spawn(run).join().expect("a statement on the test server")
    }
}

impl Bed {
    pub(crate) async fn sqlite() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let options = Options::sqlite(dir.path());
        Self::open(options, Place::Dir(dir)).await
    }

    pub(crate) async fn postgres() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let url = std::env::var("SLIPWAY_TEST_POSTGRES_URL").unwrap_or_else(|_| {
            panic!(
                "this test needs PostgreSQL 15 or later: run `make test`, or \
                 SLIPWAY_TEST_POSTGRES_URL=$(scripts/postgres.sh start) cargo test"
            )
        });
        let name = format!("case_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let schema = Schema { url: url.clone(), name };
        schema.execute("CREATE SCHEMA $");
        let separator = if url.contains('?') { '&' } else { '?' };
        let name = &schema.name;
        let url = format!("{url}{separator}application_name={name}&options=-csearch_path%3D{name}");
        let mut options = Options::postgres(url);
        if let slipway_store::Database::Postgres { connections, .. } = &mut options.database {
            *connections = 4;
        }
        Self::open(options, Place::Schema(schema)).await
    }

    async fn open(options: Options, place: Place) -> Self {
        let store = Store::open(options.clone()).await.expect("a store");
        let user = NewUser {
            username: USER.to_owned(),
            name: String::new(),
            email: String::new(),
            admin: true,
            service_of: None,
            password_hash: None,
        };
        store.create_user(user, T0).await.expect("a user");
        Self { store, options, place }
    }

    /// On PostgreSQL, breaks every connection of the store; elsewhere there are none to break.
    pub(crate) fn break_connections(&self) {
        if let Place::Schema(schema) = &self.place {
            schema.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '$'");
        }
    }

    /// How many rows PostgreSQL's planner expects in a table; -1 if it has never looked.
    pub(crate) fn expected_rows(&self, table: &str) -> i64 {
        let Place::Schema(schema) = &self.place else {
            panic!("a PostgreSQL bed is asked")
        };
        schema.number(&format!(
            "SELECT CAST(reltuples AS BIGINT) FROM pg_class WHERE oid = CAST('$.{table}' AS regclass)"
        ))
    }

    /// Leaves a table's statistics to the store.
    pub(crate) fn without_autovacuum(&self, table: &str) {
        let Place::Schema(schema) = &self.place else {
            panic!("a PostgreSQL bed is asked")
        };
        schema.execute(&format!("ALTER TABLE $.{table} SET (autovacuum_enabled = off)"));
    }

    /// A queue without prioritization rules of its own.
    pub(crate) async fn queue(&self, name: &str) -> QueueId {
        self.queue_with(name, QueuePolicy::default()).await.id
    }

    pub(crate) async fn queue_with(&self, name: &str, policy: QueuePolicy) -> Queue {
        let revision = NewRevision {
            resource: Resource::LocalProcess,
            config: r#"{"resource_args":{"local-process":{}}}"#.to_owned(),
            template_variables: "{}".to_owned(),
            policy: Some(policy),
            created_by: USER.to_owned(),
        };
        let revision = self.store.add_revision(USER, revision, T0).await.expect("a revision");
        let mut queue = new_queue(name);
        queue.revision = Some(revision);
        self.store.create_queue(queue, T0).await.expect("a queue")
    }

    /// Pushes one item.
    pub(crate) async fn push(&self, queue: QueueId) -> ItemId {
        self.push_many(queue, vec![new_item()], T0).await[0]
    }

    pub(crate) async fn push_many(&self, queue: QueueId, items: Vec<NewItem>, now: Millis) -> Vec<ItemId> {
        let revision = self
            .store
            .queue_by_id(queue)
            .await
            .expect("a queue")
            .expect("the queue")
            .revision;
        let items = items
            .into_iter()
            .map(|item| NewItem {
                revision: revision.as_ref().map(|revision| revision.id),
                ..item
            })
            .collect();
        let pushed = self.store.push(queue, items, now).await.expect("a push");
        pushed.into_iter().map(|pushed| pushed.id).collect()
    }

    /// An agent of ours that serves some queues.
    pub(crate) async fn agent(&self, name: &str, queues: &[QueueId]) -> AgentId {
        self.register(new_agent(name, queues), T0).await.id
    }

    pub(crate) async fn register(&self, agent: NewAgent, now: Millis) -> Agent {
        self.store.register_agent(agent, now).await.expect("an agent")
    }

    /// Leases by an agent of ours.
    pub(crate) async fn lease(&self, agent: AgentId, queues: &[QueueId], limit: usize, now: Millis) -> Vec<Leased> {
        self.store
            .lease(Some(agent), queues.to_vec(), limit, true, now)
            .await
            .expect("a lease")
    }

    /// Acknowledges with a run of its own.
    pub(crate) async fn ack(&self, handle: LeaseHandle, now: Millis) -> Acked {
        let run = run_of(handle.item);
        let acked = self.store.ack(None, vec![(handle, run)], now).await.expect("an answer");
        acked[0]
    }

    pub(crate) async fn item(&self, id: ItemId) -> Item {
        self.store.item(id).await.expect("an answer").expect("the item")
    }

    pub(crate) async fn state(&self, id: ItemId) -> ItemState {
        self.item(id).await.state
    }

    /// Reports an outcome without saying who reports.
    pub(crate) async fn finish(
        &self,
        handle: LeaseHandle,
        outcome: Outcome,
        now: Millis,
    ) -> Result<(), slipway_model::item::Refusal> {
        self.report(None, handle, outcome, now).await
    }

    /// Reports an outcome.
    pub(crate) async fn report(
        &self,
        holder: Option<AgentId>,
        handle: LeaseHandle,
        outcome: Outcome,
        now: Millis,
    ) -> Result<(), slipway_model::item::Refusal> {
        let report = Report {
            handle,
            exit_code: matches!(outcome, Outcome::Finished).then_some(0),
            outcome,
        };
        self.store.finish(holder, vec![report], now).await.expect("an answer")[0]
    }

    /// A managed item up to its recorded start.
    pub(crate) async fn started(&self, agent: AgentId, queue: QueueId, now: Millis) -> LeaseHandle {
        self.push_many(queue, vec![new_item()], now).await;
        let handle = self.lease(agent, &[queue], 1, now).await[0].handle;
        assert_eq!(self.ack(handle, now).await, Acked::Yes);
        assert_eq!(
            self.store.start(None, vec![handle], now).await.expect("an answer"),
            [Ok(())]
        );
        handle
    }

    /// What the record of an item says happened, once it has that many entries: on PostgreSQL an
    /// event shows only when every earlier transaction has ended.
    pub(crate) async fn history(&self, item: ItemId, entries: usize) -> Vec<String> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let scope = slipway_store::events::Scope::Item(item);
            let events = self
                .store
                .events(scope, Default::default(), 1000)
                .await
                .expect("events");
            let events = events.expect("an item's history is never too old");
            if events.len() >= entries || Instant::now() > deadline {
                return events.into_iter().map(|event| event.kind.into_owned()).collect();
            }
            tokio::task::yield_now().await;
        }
    }

    /// Runs the tick once a second from one time to another, so that there is no gap.
    pub(crate) async fn pass_time(&self, from: Millis, to: Millis) -> slipway_store::items::Ticked {
        let mut all = slipway_store::items::Ticked::default();
        let mut now = from;
        loop {
            let ticked = self.store.tick(now).await.expect("a turn");
            all.requeued.extend(ticked.requeued);
            all.lost.extend(ticked.lost);
            all.failed.extend(ticked.failed);
            all.unheard.extend(ticked.unheard);
            all.crashed.extend(ticked.crashed);
            all.deaf_for += ticked.deaf_for;
            if now >= to {
                return all;
            }
            now = (now + 5_000).min(to);
        }
    }
}

pub(crate) fn new_item() -> NewItem {
    NewItem {
        spec: r#"{"entity":"alice","project":"p"}"#.to_owned(),
        template_values: "{}".to_owned(),
        priority: Priority::Medium,
        revision: None,
        author: USER.to_owned(),
        key_id: 1,
        idempotency_key: None,
        digest: None,
    }
}

pub(crate) fn with_priority(priority: Priority) -> NewItem {
    NewItem { priority, ..new_item() }
}

pub(crate) fn new_queue(name: &str) -> NewQueue {
    NewQueue {
        entity: USER.to_owned(),
        project: QUEUE_PROJECT.to_owned(),
        name: name.to_owned(),
        access: Access::Project,
        prioritization: Prioritization::V0,
        revision: None,
        links: Default::default(),
        created_by: USER.to_owned(),
    }
}

pub(crate) fn new_agent(name: &str, queues: &[QueueId]) -> NewAgent {
    NewAgent {
        entity: USER.to_owned(),
        name: Some(name.to_owned()),
        instance: Some("machine-1".to_owned()),
        take_over: false,
        queues: queues.to_vec(),
        hostname: "machine".to_owned(),
        version: "slipway@0.1.0".to_owned(),
        config: "{}".to_owned(),
        max_jobs: 4,
        managed: true,
        user: USER.to_owned(),
    }
}

pub(crate) fn failure(reason: &str) -> Failure {
    Failure {
        stage: "run".to_owned(),
        message: "it did not work".to_owned(),
        reason: reason.to_owned(),
        file_paths: vec!["1/error.log".to_owned()],
    }
}

pub(crate) fn run_of(item: ItemId) -> RunName {
    RunName {
        entity: USER.to_owned(),
        project: "p".to_owned(),
        run: format!("run{}", item.number),
    }
}
