//! The request while options are added to it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::network::Endpoint;
use super::{Api, ContainerRequest, Done, FurtherNetwork, Lookup, Need};

/// How many ports a container may expose and publish. A range becomes an entry for each of its ports, so
/// that a few words would else make a request of any size.
const MAX_PORTS: usize = 4_096;

/// What an option writes to.
pub(super) struct Draft<'a> {
    pub(super) lookup: &'a Lookup<'a>,
    pub(super) request: ContainerRequest,
    pub(super) host: Map<String, Value>,
    pub(super) networks: Vec<(String, Endpoint)>,
    /// Settings that options of their own give for the first network.
    pub(super) first: Endpoint,
    ports: usize,
    health: Map<String, Value>,
    health_off: bool,
    log_driver: Option<String>,
    log_options: BTreeMap<String, String>,
    /// From `--label` and `--env`, which win over the files' values wherever they stand.
    file_env: Vec<String>,
    file_labels: BTreeMap<String, String>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(lookup: &'a Lookup<'a>) -> Self {
        Self {
            lookup,
            request: ContainerRequest::default(),
            host: Map::new(),
            networks: Vec::new(),
            first: Endpoint::default(),
            ports: 0,
            health: Map::new(),
            health_off: false,
            log_driver: None,
            log_options: BTreeMap::new(),
            file_env: Vec::new(),
            file_labels: BTreeMap::new(),
        }
    }

    /// Notes that the engine must know something, if it came with a later version of the API.
    pub(super) fn need(&mut self, option: &'static str, since: Option<Api>) {
        self.request.needs.extend(since.map(|since| Need { option, since }));
    }

    /// Counts further ports.
    pub(super) fn ports(&mut self, count: usize) -> Done {
        self.ports += count;
        if self.ports > MAX_PORTS {
            return Err(format!(
                "a container exposes and publishes at most {MAX_PORTS} ports; give a smaller range"
            ));
        }
        Ok(())
    }

    // These never fail; they answer as every row of the table does.

    /// Sets a field of the body.
    pub(super) fn set(&mut self, field: &str, value: impl Into<Value>) -> Done {
        self.request.body.insert(field.to_owned(), value.into());
        Ok(())
    }

    /// Sets a field of `HostConfig`.
    pub(super) fn host(&mut self, field: &str, value: impl Into<Value>) -> Done {
        self.host.insert(field.to_owned(), value.into());
        Ok(())
    }

    /// Adds to a list of `HostConfig`.
    pub(super) fn add(&mut self, field: &str, values: impl IntoIterator<Item = Value>) -> Done {
        extend(&mut self.host, field, values);
        Ok(())
    }

    /// Adds an entry to a map of `HostConfig`.
    pub(super) fn put(&mut self, field: &str, key: &str, value: impl Into<Value>) {
        put(&mut self.host, field, key, value.into());
    }

    /// Adds an entry to a map of the body.
    pub(super) fn put_top(&mut self, field: &str, key: &str, value: impl Into<Value>) {
        put(&mut self.request.body, field, key, value.into());
    }

    /// Sets a field of the health check.
    pub(super) fn health(&mut self, field: &str, value: impl Into<Value>) -> Done {
        self.health.insert(field.to_owned(), value.into());
        Ok(())
    }

    pub(super) fn no_health(&mut self) {
        self.health_off = true;
    }

    pub(super) fn log_driver(&mut self, driver: &str) {
        self.log_driver = Some(driver.to_owned());
    }

    pub(super) fn log_option(&mut self, name: &str, value: &str) {
        self.log_options.insert(name.to_owned(), value.to_owned());
    }

    pub(super) fn file_env(&mut self, entry: String) {
        self.file_env.push(entry);
    }

    pub(super) fn file_label(&mut self, name: &str, value: &str) {
        self.file_labels.insert(name.to_owned(), value.to_owned());
    }

    /// The request, or the option and what is wrong with several options taken together.
    pub(super) fn finish(mut self) -> Result<ContainerRequest, (&'static str, String)> {
        if self.health_off && !self.health.is_empty() {
            let problem = "no-healthcheck goes with no other health option".to_owned();
            return Err(("no-healthcheck", problem));
        }
        if self.health_off {
            self.request
                .body
                .insert("Healthcheck".to_owned(), json!({"Test": ["NONE"]}));
        } else if !self.health.is_empty() {
            let health = std::mem::take(&mut self.health);
            self.request
                .body
                .insert("Healthcheck".to_owned(), Value::Object(health));
        }
        if self.log_driver.is_some() || !self.log_options.is_empty() {
            let driver = self.log_driver.take().unwrap_or_default();
            let config = std::mem::take(&mut self.log_options);
            self.host
                .insert("LogConfig".to_owned(), json!({"Type": driver, "Config": config}));
        }
        self.request.env = std::mem::take(&mut self.file_env)
            .into_iter()
            .chain(std::mem::take(&mut self.request.env))
            .collect();
        let labels = std::mem::take(&mut self.request.labels);
        self.request.labels = std::mem::take(&mut self.file_labels);
        self.request.labels.extend(labels);
        self.finish_networks()?;
        let host = std::mem::take(&mut self.host);
        if !host.is_empty() {
            self.request.body.insert("HostConfig".to_owned(), Value::Object(host));
        }
        Ok(self.request)
    }

    /// The first network is the container's mode; engines before 25 take no second one at creation.
    fn finish_networks(&mut self) -> Result<(), (&'static str, String)> {
        let mut networks = std::mem::take(&mut self.networks).into_iter();
        let first = networks.next();
        if first.is_none() && self.first.is_empty() {
            return Ok(());
        }
        let (mode, mut endpoint) = first.unwrap_or_else(|| ("default".to_owned(), Endpoint::default()));
        endpoint.merge(std::mem::take(&mut self.first));
        let special = matches!(mode.as_str(), "host" | "none") || mode.starts_with("container:");
        if special && (!endpoint.is_empty() || networks.len() > 0) {
            let problem = format!("network `{mode}` goes with no other network and no address or alias");
            return Err(("network", problem));
        }
        if !endpoint.is_empty() {
            let endpoints = json!({"EndpointsConfig": {&mode: endpoint.into_map()}});
            self.request.body.insert("NetworkingConfig".to_owned(), endpoints);
        }
        self.host.insert("NetworkMode".to_owned(), json!(mode));
        self.request.networks = networks
            .map(|(name, endpoint)| FurtherNetwork {
                name,
                endpoint: endpoint.into_map(),
            })
            .collect();
        Ok(())
    }
}

fn extend(map: &mut Map<String, Value>, field: &str, values: impl IntoIterator<Item = Value>) {
    let mut values = values.into_iter().peekable();
    if values.peek().is_some()
        && let Value::Array(list) = map.entry(field).or_insert_with(|| json!([]))
    {
        list.extend(values);
    }
}

fn put(map: &mut Map<String, Value>, field: &str, key: &str, value: Value) {
    if let Value::Object(entries) = map.entry(field).or_insert_with(|| json!({})) {
        entries.insert(key.to_owned(), value);
    }
}
