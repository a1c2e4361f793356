//! The agent's loop: performs what [`crate::core`] decides, and tells it what became of it.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use slipway_client::{AgentEvent, Client, PopRequest, Retry};
use slipway_model::Millis;
use slipway_model::agent::AgentStatus;
use slipway_model::queue::QUEUE_PROJECT;
use slipway_runner::{Runner, WorkloadId};
use slipway_wire::item::{Item, ItemResult, LeasedItem};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::check::{CheckReport, Target, check};
use crate::core::{Action, Core, Ending, Event, Lease, Waiting, Wish};
use crate::error::AgentError;
use crate::health::Vitals;
use crate::here::{self, HereError};
use crate::item::plan::workload_id;
use crate::item::{ItemTask, Order, Shared, Stood, give_back};
use crate::options::AgentOptions;
use crate::patience::patiently;
use crate::recovery::{self, Takeover};
use crate::registration::{self, Registered};
use crate::state_directory::{self, Home, StateDirectory};
use crate::targets;

/// How often the status is printed at the default verbosity, and above it.
const STATUS_LINE: [Duration; 2] = [Duration::from_secs(300), Duration::from_secs(20)];

/// How long an agent that ends waits for the server to hear of it: the server notices silence too.
const LAST_WORD: Duration = Duration::from_secs(5);

/// How long an agent that has drained waits for what is still to be removed.
const REMOVALS: Duration = Duration::from_secs(60);

/// After how much of that it is told.
const REMOVALS_TOLD: Duration = Duration::from_secs(1);

/// Leases renewed by one call; servers take at most 1,000.
const RENEW_LIMIT: usize = 500;

/// How an agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Every job that it had has ended and was reported.
    Drained,
    /// Jobs still run; an agent of the same name takes them over.
    Left {
        /// How many.
        jobs: usize,
    },
}

/// Tells a running agent what is wanted of it.
#[derive(Debug, Clone)]
pub struct Handle {
    wish: Arc<watch::Sender<Wish>>,
}

impl Handle {
    /// Take nothing new, and end when the last job has. For SIGTERM and the first Ctrl-C.
    pub fn drain(&self) {
        self.wish(Wish::Drain);
    }

    /// End now; jobs go on, and an agent of the same name takes them over. For a second signal.
    pub fn leave(&self) {
        self.wish(Wish::Leave);
    }

    fn wish(&self, wish: Wish) {
        self.wish.send_if_modified(|known| {
            let stronger = wish > *known;
            *known = wish.max(*known);
            stronger
        });
    }
}

/// A launch agent.
#[derive(Debug)]
pub struct Agent {
    options: AgentOptions,
    client: Client,
    wish: Arc<watch::Sender<Wish>>,
}

impl Agent {
    /// An agent that speaks to the client's server; does nothing until it is run.
    #[must_use]
    pub fn new(options: AgentOptions, client: Client) -> Self {
        Self {
            options,
            client,
            wish: Arc::new(watch::Sender::new(Wish::Serve)),
        }
    }

    /// A handle, for the one who watches signals.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle {
            wish: Arc::clone(&self.wish),
        }
    }

    /// Looks at everything that the agent needs, without taking anything or changing the server.
    pub async fn check(&self) -> CheckReport {
        let directory = self.options.state_directory.join("check");
        let all = targets::targets(&self.options, &directory, "check", "check", self.client.base_url());
        let process_enabled = self.options.config.process.enabled;
        let mut targets = Vec::new();
        for target in all.iter() {
            let process = target.resource() == slipway_runner::process::RESOURCE;
            // An engine is needed only by those who want containers.
            let wanted = if process {
                process_enabled
            } else {
                !process_enabled || target.check().await.is_ok()
            };
            targets.push(Target {
                resource: target.resource(),
                runner: wanted.then_some(target.as_ref()),
                enable: if process {
                    "set `process: {enabled: true}` to run jobs with every right of this user"
                } else {
                    "install Docker or podman, and let this user reach its socket, to run container images"
                },
            });
        }
        check(&self.options, &self.client, &targets).await
    }

    /// Runs one launch spec on this machine, without a queue, to its end. `started` is told once the job
    /// exists; `print` gets the output as it comes. The first of the `interrupts` stops the job, the second
    /// kills it, and the third gives up on a target that does neither.
    ///
    /// # Errors
    /// [`HereError`]. What is left of a job then, the next launch or agent of this directory removes.
    pub async fn launch_here(
        &self,
        spec: serde_json::Value,
        entity: &str,
        started: impl FnOnce(),
        print: impl FnMut(&[u8]),
        interrupts: mpsc::UnboundedReceiver<()>,
    ) -> Result<slipway_runner::Exit, HereError> {
        here::launch(&self.options, &self.client, spec, entity, started, print, interrupts).await
    }

    /// Serves the queues until the handle, the server or an error ends it. Waits for a server that
    /// does not answer; ends with an error where waiting does not help.
    ///
    /// # Errors
    /// [`AgentError`]. Jobs that run go on in any case.
    pub async fn run(self) -> Result<End, AgentError> {
        let vitals = Vitals::new(&self.options.version, self.options.config.max_jobs);
        let _health = match &self.options.config.health_address {
            Some(address) => Some(vitals.serve(address).await?),
            None => None,
        };
        let mut early = self.wish.subscribe();
        let prepared = tokio::select! {
            biased;
            prepared = Prepared::new(&self.options, &self.client, vitals) => prepared?,
            // Nobody knows of this agent yet.
            _ = early.wait_for(|wish| *wish != Wish::Serve) => return Ok(End::Left { jobs: 0 }),
        };
        // Once registered it counts as serving its queues until it takes its leave, which the loop does.
        let service = tokio::select! {
            biased;
            service = prepared.register() => service?,
            () = out_of_patience(early) => return Ok(End::Left { jobs: 0 }),
        };
        service.serve(self.wish.subscribe()).await
    }
}

/// Waits until a registration is not worth waiting for: a moment after a wish to drain, or at once after
/// one to leave.
async fn out_of_patience(mut wish: watch::Receiver<Wish>) {
    let _ = wish.wait_for(|wish| *wish != Wish::Serve).await;
    let _ = tokio::time::timeout(LAST_WORD, wish.wait_for(|wish| *wish == Wish::Leave)).await;
}

/// An agent that the server has not heard of yet.
struct Prepared<'a> {
    options: &'a AgentOptions,
    client: &'a Client,
    vitals: Vitals,
    entity: String,
    name: String,
    state: StateDirectory,
    runner: Arc<dyn Runner>,
}

impl<'a> Prepared<'a> {
    async fn new(options: &'a AgentOptions, client: &'a Client, vitals: Vitals) -> Result<Self, AgentError> {
        let entity = registration::entity(client, &options.config).await?;
        let name = registration::stable_name(options, client.base_url(), &entity)?;
        let state = StateDirectory::open(&options.state_directory, &name)?;
        let targets = targets::targets(options, state.path(), &name, &entity, client.base_url());
        let runner: Arc<dyn Runner> = Arc::new(targets);
        let home = Home {
            server: client.base_url().to_owned(),
            entity: entity.clone(),
        };
        state.settle(&home, runner.list().await?.found.len(), options.take_over)?;
        let (swept, server) = (options.clone(), client.base_url().to_owned());
        tokio::spawn(async move { here::sweep(&swept, &server).await });
        for (other, jobs) in state_directory::left_behind(&options.state_directory, &name) {
            tracing::warn!(
                "agent `{other}` left {jobs} jobs on this machine, which no agent looks after; start one with \
                 `--name {other}` to take them over"
            );
        }
        Ok(Self {
            options,
            client,
            vitals,
            entity,
            name,
            state,
            runner,
        })
    }

    /// Makes the agent known, and goes on with what a predecessor left.
    async fn register(self) -> Result<Service, AgentError> {
        let config = &self.options.config;
        let instance = self.state.instance();
        let registered = registration::register(self.client, self.options, &self.entity, &self.name, instance).await?;
        let Registered { id, name, managed } = registered;
        self.vitals.answered();
        self.vitals.note(|facts| facts.name.clone_from(&name));
        if !managed {
            tracing::info!("the server has no additions: polling, without leases that are renewed");
        }
        let shared = Arc::new(Shared {
            client: self.client.clone(),
            runner: self.runner,
            config: config.clone(),
            agent_id: id,
            entity: self.entity,
            agent_name: name,
            cache: self.state.cache(),
            vitals: self.vitals,
            managed,
            removals: TaskTracker::new(),
        });
        let (events, inbox) = mpsc::unbounded_channel();
        let began = Instant::now();
        let drain_timeout = config.drain_timeout.map(millis);
        let mut service = Service {
            core: Core::new(config.max_jobs, managed, drain_timeout, [], 0),
            queues: config.queues.clone(),
            orders: BTreeMap::new(),
            tasks: JoinSet::new(),
            announcer: Announcer::new(Arc::clone(&shared), events.clone()),
            events,
            inbox,
            began,
            next_status_line: began,
            _state: self.state,
            shared,
        };
        let adopted = service.take_over().await?;
        service.core = Core::new(config.max_jobs, managed, drain_timeout, adopted, 0);
        Ok(service)
    }
}

/// Tells the server the agent's status, one call after the other: no word arrives after a later one. Of
/// words that come during a call the last one counts.
struct Announcer {
    status: watch::Sender<AgentStatus>,
    teller: AbortOnDropHandle<()>,
}

impl Announcer {
    fn new(shared: Arc<Shared>, events: mpsc::UnboundedSender<Message>) -> Self {
        let (status, mut words) = watch::channel(AgentStatus::Polling);
        let teller = AbortOnDropHandle::new(tokio::spawn(async move {
            while words.changed().await.is_ok() {
                let status = *words.borrow_and_update();
                tell(&shared, status, &events).await;
                if status == AgentStatus::Killed {
                    return;
                }
            }
        }));
        Self { status, teller }
    }

    fn say(&self, status: AgentStatus) {
        self.status.send_replace(status);
    }

    /// Says that the agent has ended, and waits a moment until that was heard.
    async fn take_leave(&mut self) {
        self.say(AgentStatus::Killed);
        let _ = tokio::time::timeout(LAST_WORD, &mut self.teller).await;
    }
}

/// Says that the agent is there, and asks an official server whether it is to go on.
async fn tell(shared: &Shared, status: AgentStatus, events: &mpsc::UnboundedSender<Message>) {
    let client = shared.client.with_retry(Retry::Never);
    // An official server knows no other word.
    let status = match status {
        AgentStatus::Draining if !shared.managed => AgentStatus::Running,
        status => status,
    };
    if let Err(error) = client.update_agent(&shared.agent_id, status).await {
        tracing::debug!(%error, "the status was not taken");
        let _ = events.send(Message::Core(Event::StatusLost));
        return;
    }
    shared.vitals.answered();
    let _ = events.send(Message::Core(Event::StatusTaken(status)));
    if shared.managed || status == AgentStatus::Killed {
        return;
    }
    if let Ok(agent) = client.agent(&shared.agent_id).await
        && agent.stop_polling == Some(true)
    {
        let _ = events.send(Message::Core(Event::DrainRequested(true)));
    }
}

/// A registered agent with what it took over.
struct Service {
    shared: Arc<Shared>,
    queues: Vec<String>,
    core: Core,
    orders: BTreeMap<String, watch::Sender<Order>>,
    tasks: JoinSet<()>,
    announcer: Announcer,
    events: mpsc::UnboundedSender<Message>,
    inbox: mpsc::UnboundedReceiver<Message>,
    began: Instant,
    next_status_line: Instant,
    /// Held for its lock.
    _state: StateDirectory,
}

/// What reaches the loop from its helpers.
enum Message {
    /// Something for the core.
    Core(Event),
    /// A pop brought items.
    Items(Vec<LeasedItem>),
}

impl Service {
    /// Goes on with what a predecessor left, and returns the leases that this agent now looks after.
    async fn take_over(&mut self) -> Result<Vec<String>, AgentError> {
        let shared = &Arc::clone(&self.shared);
        let listing = shared.runner.list().await?;
        let held: Option<Vec<Item>> = if shared.managed {
            let agent = patiently(
                &shared.client,
                "ask which items this agent holds",
                |client| async move { client.agent(&shared.agent_id).await },
            );
            let agent = agent.await.map_err(|source| AgentError::Server {
                action: "could not ask which items this agent holds",
                source,
            })?;
            Some(agent.held_items)
        } else {
            None
        };
        let mut adopted = Vec::new();
        for decision in recovery::plan(held.as_deref(), &listing) {
            match decision {
                Takeover::Resume {
                    handle,
                    workload,
                    labels,
                    stop_requested,
                    stood,
                } => {
                    let order = if stop_requested { Order::Stop } else { Order::Go };
                    self.spawn(&handle, Some(workload.clone()), order, move |task| async move {
                        task.resume(workload, &labels, stood).await
                    });
                    adopted.push(handle);
                }
                Takeover::Return { handle, cause } => give_back(shared, &handle, cause).await,
                Takeover::Discard(workload) => {
                    tracing::warn!(%workload, "ending a job whose item this agent does not hold");
                    // Its task ends and removes it, and reports nothing.
                    let name = format!("discarded {workload}");
                    self.spawn(&name, Some(workload.clone()), Order::Abandon, move |task| async move {
                        task.resume(workload, &BTreeMap::new(), Stood::default()).await;
                    });
                }
            }
        }
        Ok(adopted)
    }

    /// Starts an item's task, whose end reaches the loop as an event, however it ends. `workload`:
    /// what the task creates, or looks after already.
    fn spawn<F>(&mut self, handle: &str, workload: Option<WorkloadId>, order: Order, run: impl FnOnce(ItemTask) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (orders, reader) = watch::channel(order);
        let task = |reader| ItemTask::new(Arc::clone(&self.shared), handle.to_owned(), reader);
        let rescuer = task(reader.clone());
        let work = run(task(reader));
        let (events, ended) = (self.events.clone(), handle.to_owned());
        self.orders.insert(handle.to_owned(), orders);
        self.tasks.spawn(async move {
            if AssertUnwindSafe(work).catch_unwind().await.is_err() {
                tracing::error!(
                    item = ended,
                    "a fault in the agent: the item's task panicked; ending its job"
                );
                let rescue = AssertUnwindSafe(rescuer.rescue(workload)).catch_unwind();
                if rescue.await.is_err() {
                    tracing::error!(
                        item = ended,
                        "its job may still run; the next start of the agent takes it up"
                    );
                }
            }
            let _ = events.send(Message::Core(Event::Ended(ended)));
        });
    }

    async fn serve(mut self, mut wish: watch::Receiver<Wish>) -> Result<End, AgentError> {
        let _listener = self.shared.managed.then(|| self.listen());
        self.say_status();
        let mut event = Event::Wish(*wish.borrow_and_update());
        loop {
            let now = self.now();
            let before = (self.core.running(), self.core.waiting());
            for action in self.core.handle(event, now, rand::random()) {
                if let Some(end) = self.perform(action).await {
                    return match end {
                        Ok(End::Drained) => Ok(self.clear_up(&mut wish).await),
                        Ok(left @ End::Left { .. }) => Ok(left),
                        Err(replaced) => {
                            self.clear_up(&mut wish).await;
                            Err(replaced)
                        }
                    };
                }
            }
            self.shared.vitals.note(|facts| {
                facts.turned = Some(Instant::now());
                facts.jobs = self.core.running();
                facts.draining = self.core.draining();
                facts.streaming = self.core.streaming();
            });
            if (self.core.running(), self.core.waiting()) != before || Instant::now() >= self.next_status_line {
                self.say_status();
            }
            let wake = self.began + Duration::from_millis(u64::try_from(self.core.wake_at()).unwrap_or(0));
            event = tokio::select! {
                message = self.inbox.recv() => self.read(message),
                changed = wish.changed() => match changed {
                    Ok(()) => Event::Wish(*wish.borrow_and_update()),
                    Err(_) => Event::Tick,
                },
                () = tokio::time::sleep_until(wake.min(self.next_status_line)) => Event::Tick,
                // Only to let go of it: what it has to say came as a message.
                Some(_) = self.tasks.join_next(), if !self.tasks.is_empty() => Event::Tick,
            };
        }
    }

    fn read(&mut self, message: Option<Message>) -> Event {
        match message {
            Some(Message::Core(Event::Ended(handle))) => {
                self.orders.remove(&handle);
                Event::Ended(handle)
            }
            Some(Message::Core(event)) => event,
            Some(Message::Items(items)) => {
                let mut handles = Vec::with_capacity(items.len());
                for item in items {
                    self.shared.vitals.count(|counts| &mut counts.taken);
                    let handle = item.run_queue_item_id.clone();
                    handles.push(handle.clone());
                    let workload = workload_id(&handle, item.attempt).ok();
                    self.spawn(&handle, workload, Order::Go, move |task| task.run(item));
                }
                Event::Popped(handles)
            }
            // The loop holds a sender itself, so that the channel does not close.
            None => Event::Tick,
        }
    }

    async fn perform(&mut self, action: Action) -> Option<Result<End, AgentError>> {
        match action {
            Action::Pop(limit) => self.pop(limit),
            Action::Renew(handles) => self.renew(handles),
            Action::Stop(handle) => self.order(&handle, Order::Stop),
            Action::Abandon(handle) => {
                tracing::warn!(
                    item = handle,
                    "the item is no longer this agent's, or has ended; ending its job"
                );
                self.order(&handle, Order::Abandon);
            }
            Action::Heartbeat(AgentStatus::Killed) => self.announcer.take_leave().await,
            Action::Heartbeat(status) => self.announcer.say(status),
            Action::End(ending) => {
                let jobs = self.core.running();
                if ending == Ending::Left {
                    // Only the tasks end: the jobs go on below their shims.
                    self.tasks.abort_all();
                }
                return Some(match ending {
                    Ending::Drained => Ok(End::Drained),
                    Ending::Left => Ok(End::Left { jobs }),
                    Ending::Replaced => Err(AgentError::Replaced {
                        name: self.shared.agent_name.clone(),
                        by: self.successor().await,
                    }),
                });
            }
        }
        None
    }

    /// Waits for what is left once every item has ended: jobs that this agent ends although it does not hold
    /// their items, and what is still to be removed.
    async fn clear_up(&mut self, wish: &mut watch::Receiver<Wish>) -> End {
        // A task that has ended has none any more.
        let strangers = self.orders.len();
        clear_up(removals(&self.shared, &mut self.tasks), strangers, wish).await;
        while self.tasks.try_join_next().is_some() {}
        match self.tasks.len() {
            0 => End::Drained,
            jobs => End::Left { jobs },
        }
    }

    /// Who has the agent's name now, in words.
    async fn successor(&self) -> Option<String> {
        let client = self.shared.client.with_retry(Retry::Never);
        let agents = tokio::time::timeout(LAST_WORD, client.agents(&self.shared.entity)).await;
        let mut agents = agents.ok()?.ok()?.into_iter();
        let agent = agents.find(|agent| agent.name == self.shared.agent_name && agent.id != self.shared.agent_id)?;
        let version = agent.version.filter(|version| !version.is_empty());
        let version = version.as_deref().unwrap_or("one");
        Some(match agent.hostname.filter(|host| !host.is_empty()) {
            Some(host) => format!("{version} on host `{host}`"),
            None => format!("{version} on a host that it does not name"),
        })
    }

    fn order(&self, handle: &str, order: Order) {
        if let Some(orders) = self.orders.get(handle) {
            orders.send_if_modified(|known| {
                let stronger = order > *known;
                *known = order.max(*known);
                stronger
            });
        }
    }

    fn pop(&mut self, limit: usize) {
        let (shared, events) = (Arc::clone(&self.shared), self.events.clone());
        let queues = self.queues.clone();
        // An official server is asked queue by queue: the next pop begins with the next one.
        self.queues.rotate_left(1);
        tokio::spawn(async move {
            let request = PopRequest {
                agent_id: &shared.agent_id,
                entity: &shared.entity,
                project: QUEUE_PROJECT,
                queues: &queues,
                limit,
            };
            let message = match shared.client.with_retry(Retry::Never).pop(request).await {
                Ok(items) => {
                    shared.vitals.answered();
                    Message::Items(items)
                }
                Err(error) => {
                    shared.vitals.count(|counts| &mut counts.failed_pops);
                    tracing::warn!(%error, "could not ask for items");
                    Message::Core(Event::PopFailed)
                }
            };
            let _ = events.send(message);
        });
    }

    fn renew(&self, handles: Vec<String>) {
        let (shared, events) = (Arc::clone(&self.shared), self.events.clone());
        tokio::spawn(async move {
            let client = shared.client.with_retry(Retry::Never);
            let mut leases = Vec::with_capacity(handles.len());
            let mut failed = None;
            for handles in handles.chunks(RENEW_LIMIT) {
                match client.renew(&shared.agent_id, handles).await {
                    Ok(results) => {
                        shared.vitals.answered();
                        let renewed = results.into_iter();
                        leases.extend(renewed.map(|result| (result.run_queue_item_id.clone(), lease(&result))));
                    }
                    Err(error) => failed = Some(error),
                }
            }
            // What was answered counts, whatever became of the rest.
            let _ = events.send(Message::Core(Event::Renewed(leases)));
            if let Some(error) = failed {
                shared.vitals.count(|counts| &mut counts.failed_renewals);
                tracing::warn!(%error, "leases could not be renewed; jobs go on");
                let _ = events.send(Message::Core(Event::RenewFailed));
            }
        });
    }

    /// Listens to the event stream for as long as the loop lives.
    fn listen(&self) -> AbortOnDropHandle<()> {
        let (shared, events) = (Arc::clone(&self.shared), self.events.clone());
        AbortOnDropHandle::new(tokio::spawn(async move {
            let client = shared.client.with_retry(Retry::Forever);
            let mut stream = client.agent_events(&shared.agent_id);
            while let Some(event) = stream.next().await {
                let event = match event {
                    Ok(AgentEvent::Connected) => Event::StreamOpened,
                    Ok(AgentEvent::Disconnected(error)) => {
                        tracing::warn!(%error, "the event stream broke; polling meanwhile");
                        Event::StreamBroken
                    }
                    Ok(AgentEvent::Items) => Event::ItemsWaiting,
                    Ok(AgentEvent::Stop { handle }) => Event::StopRequested(handle),
                    Ok(AgentEvent::Drain(drain)) => Event::DrainRequested(drain),
                    Ok(AgentEvent::Replaced) => Event::Replaced,
                    Err(error) => {
                        tracing::warn!(%error, "the server gives no events; polling");
                        Event::StreamBroken
                    }
                };
                if events.send(Message::Core(event)).is_err() {
                    return;
                }
            }
        }))
    }

    fn say_status(&mut self) {
        let config = &self.shared.config;
        tracing::info!(
            target: "slipway_agent::status",
            "agent {}: running {} of {} jobs; {}",
            self.shared.agent_name,
            self.core.running(),
            limit(config.max_jobs),
            waits_for(self.core.waiting(), &config.queues),
        );
        self.next_status_line = Instant::now() + STATUS_LINE[usize::from(config.verbosity > 0)];
    }

    fn now(&self) -> Millis {
        millis(self.began.elapsed())
    }
}

/// Waits until nothing is left that this process was to end or to remove.
async fn removals(shared: &Shared, tasks: &mut JoinSet<()>) {
    while tasks.join_next().await.is_some() {}
    // Closed it still takes tasks, and knows when there are none.
    shared.removals.close();
    shared.removals.wait().await;
    shared.runner.removed().await;
}

/// Waits for what is still to be ended and removed, as long as that may take at the end of an agent: until
/// the next one of its name nobody would look after it. `strangers`: of how many jobs this agent does not hold
/// the items.
async fn clear_up(removals: impl Future<Output = ()>, strangers: usize, wish: &mut watch::Receiver<Wish>) {
    tokio::pin!(removals);
    if tokio::time::timeout(REMOVALS_TOLD, &mut removals).await.is_ok() {
        return;
    }
    let others = match strangers {
        0 => String::new(),
        jobs => format!("the end of jobs that it does not hold ({jobs}), and for "),
    };
    tracing::info!(
        "every item of this agent has ended; waiting {} s at most for {others}what is still to be \
         removed",
        REMOVALS.as_secs()
    );
    let leave = async {
        if wish.wait_for(|wish| *wish == Wish::Leave).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = removals => tracing::info!("removed"),
        () = tokio::time::sleep(REMOVALS.saturating_sub(REMOVALS_TOLD)) => tracing::warn!(
            "not all of it was done in time; the next agent of this name does the rest"
        ),
        () = leave => {}
    }
}

fn limit(max_jobs: i64) -> String {
    match max_jobs {
        -1 => "any number of".to_owned(),
        limit => limit.to_string(),
    }
}

/// What the agent waits for, in words.
fn waits_for(waiting: Waiting, queues: &[String]) -> String {
    let queues = queues.join(", ");
    match waiting {
        Waiting::Drain => "draining: takes nothing new and ends with its last job".to_owned(),
        Waiting::Slot => format!("waits for a job to end before it takes more of {queues}"),
        Waiting::Limit => "takes nothing, because `max_jobs` is 0".to_owned(),
        Waiting::Server => "waits for the server, which does not answer".to_owned(),
        Waiting::Items => format!("waits for items of {queues}"),
        Waiting::Poll(interval) => format!("polling on {queues} each {} s", interval / 1_000),
    }
}

/// What a renewal says of a lease. Whatever the server refuses to renew is over: its item may run
/// elsewhere by now, under this or another id.
fn lease(renewed: &ItemResult) -> Lease {
    match (renewed.success, renewed.stop_requested) {
        (false, _) => Lease::Over,
        (true, true) => Lease::StopRequested,
        (true, false) => Lease::Held,
    }
}

fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_line_says_what_the_agent_waits_for() {
        let queues = ["a".to_owned(), "b".to_owned()];
        for (waiting, text) in [
            (Waiting::Drain, "draining"),
            (Waiting::Slot, "waits for a job to end"),
            (Waiting::Limit, "`max_jobs` is 0"),
            (Waiting::Server, "does not answer"),
            (Waiting::Items, "items of a, b"),
            (Waiting::Poll(10_000), "polling on a, b each 10 s"),
        ] {
            let said = waits_for(waiting, &queues);
            assert!(said.contains(text), "{said}");
        }
        assert_eq!((limit(-1), limit(2)), ("any number of".to_owned(), "2".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_waits_a_while_for_what_is_still_to_be_removed() {
        let second = Duration::from_secs(1);
        for (removal, leave, expected) in [
            (Some(Duration::ZERO), None, Duration::ZERO),
            (Some(second * 20), None, second * 20),
            (None, None, REMOVALS),
            (None, Some(second * 5), second * 5),
        ] {
            let (wishes, mut wish) = watch::channel(Wish::Drain);
            let after = |wait: Option<Duration>| async move {
                match wait {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            let began = Instant::now();
            let leaving = async {
                after(leave).await;
                wishes.send_replace(Wish::Leave);
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = clear_up(after(removal), 0, &mut wish) => {}
                () = leaving => {}
            }
            // The timer's own grain.
            let took = began.elapsed();
            assert!(
                took >= expected && took < expected + second / 10,
                "{took:?}, not {expected:?}"
            );
        }
    }

    #[test]
    fn a_lease_is_held_only_if_it_was_renewed() {
        for (success, stop_requested, error, expected) in [
            (true, false, None, Lease::Held),
            (true, true, None, Lease::StopRequested),
            (false, false, Some("stale"), Lease::Over),
            (false, false, Some("the item is FAILED already"), Lease::Over),
            (false, true, Some("the item is KILLED already"), Lease::Over),
            (false, false, None, Lease::Over),
        ] {
            let renewed = ItemResult {
                run_queue_item_id: "item".to_owned(),
                success,
                stop_requested,
                error: error.map(str::to_owned),
            };
            assert_eq!(lease(&renewed), expected, "{renewed:?}");
        }
    }
}
