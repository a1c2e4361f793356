//! Lets containers reach a server that listens on the loopback address of the agent's machine.
//!
//! Inside a container `localhost` is the container. For each network that its jobs use the agent
//! listens on the gateway's address, which the network's containers reach, and passes connections on
//! to the server; the job is told that address. Uploads follow, since the server builds its addresses
//! from the one it was called by. Nobody but the network's own addresses is served.
//!
//! Ports are kept on disk, so that jobs which outlive the agent find the next one at the same place.
//! Nothing is done for a server that has an address of its own, on the host's network, and where a
//! queue sets another `WANDB_BASE_URL`.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use bollard::models::{ContainerCreateBody, NetworkInspect};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Mutex, Semaphore};
use tokio_util::task::AbortOnDropHandle;

use super::engine::{Engine, Trouble};
use crate::RunnerError;
use crate::process::directory::JobDirectory;

/// The record of the relays' ports.
const RECORD: &str = "relays";

/// Connections that one network may have at once.
const CONNECTIONS: usize = 1024;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// The variable by which a job finds the server.
const BASE_URL: &str = "WANDB_BASE_URL";
/// The variable from which the official client makes the links that it prints.
const APP_URL: &str = "WANDB_APP_URL";

/// The name of the host inside containers, where the engine's machine is another one or virtual.
const HOST_NAME: &str = "host.docker.internal";

/// A server on the loopback address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loopback {
    scheme: String,
    pub(super) host: String,
    pub(super) port: u16,
}

impl Loopback {
    /// Reads a server's address; none if others reach it as well.
    pub(super) fn parse(base_url: &str) -> Option<Self> {
        let (scheme, rest) = base_url.split_once("://")?;
        let usual = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        let authority = rest.split(['/', '?', '#']).next()?;
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            _ => (authority, usual),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let loopback = host.eq_ignore_ascii_case("localhost")
            || host
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback() || address.is_unspecified());
        loopback.then(|| Self {
            scheme: scheme.to_owned(),
            host: host.to_owned(),
            port,
        })
    }

    /// The same server under another host and port.
    pub(super) fn at(&self, host: &str, port: u16) -> String {
        format!("{}://{host}:{port}", self.scheme)
    }
}

/// A network of containers, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Bridge {
    gateway: Ipv4Addr,
    subnet: Subnet,
}

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Subnet {
    pub(super) base: Ipv4Addr,
    pub(super) bits: u32,
}

impl Subnet {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (base, bits) = text.split_once('/')?;
        let bits = bits.parse().ok().filter(|bits| *bits <= 32)?;
        Some(Self {
            base: base.parse().ok()?,
            bits,
        })
    }

    pub(super) fn contains(self, address: IpAddr) -> bool {
        let mask = u32::MAX.checked_shl(32 - self.bits).unwrap_or(0);
        match address {
            IpAddr::V4(address) => address.to_bits() & mask == self.base.to_bits() & mask,
            IpAddr::V6(_) => false,
        }
    }
}

/// What is kept of a relay.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Kept {
    port: u16,
    subnet: Subnet,
}

/// The relays of an agent.
#[derive(Debug)]
pub(super) struct Relays {
    server: Option<Loopback>,
    directory: JobDirectory,
    open: Mutex<BTreeMap<Ipv4Addr, (Kept, AbortOnDropHandle<()>)>>,
}

impl Relays {
    /// Relays to a server, which remember their ports in a directory.
    pub(super) fn new(base_url: &str, directory: PathBuf) -> Self {
        Self {
            server: Loopback::parse(base_url),
            directory: JobDirectory::at(directory),
            open: Mutex::new(BTreeMap::new()),
        }
    }

    /// Opens the relays that jobs of an earlier process use.
    pub(super) async fn reopen(&self) {
        let Some(server) = &self.server else { return };
        let mut open = self.open.lock().await;
        for (gateway, kept) in self.kept() {
            if open.contains_key(&gateway) {
                continue;
            }
            match TcpListener::bind((gateway, kept.port)).await {
                Ok(listener) => drop(open.insert(gateway, (kept, serve(listener, server.clone(), kept.subnet)))),
                Err(error) => tracing::info!(%gateway, %error, "a relay of earlier jobs cannot be opened"),
            }
        }
    }

    /// The relays that jobs of this or an earlier process use, open or not.
    fn kept(&self) -> BTreeMap<Ipv4Addr, Kept> {
        match self.directory.read(RECORD) {
            Ok(kept) => kept.unwrap_or_default(),
            Err(error) => {
                tracing::warn!(%error, "the relays of running jobs are not known; they may not reach the server");
                BTreeMap::new()
            }
        }
    }

    /// Changes a container that is about to be created so that it reaches the server.
    pub(super) async fn connect(
        &self,
        engine: &Engine,
        mut body: ContainerCreateBody,
    ) -> Result<ContainerCreateBody, RunnerError> {
        let Some(server) = &self.server else { return Ok(body) };
        let told = body
            .env
            .iter()
            .flatten()
            .find_map(|entry| entry.strip_prefix("WANDB_BASE_URL="));
        let Some(told) = told.filter(|url| Loopback::parse(url).as_ref() == Some(server)) else {
            return Ok(body);
        };
        let told = told.trim_end_matches('/').to_owned();
        let host = body.host_config.get_or_insert_default();
        let mode = host.network_mode.clone().unwrap_or_default();
        if mode == "host" {
            return Ok(body);
        }
        if mode == "none" {
            tracing::warn!("the queue's `network` is `none`: the job does not reach the server");
            return Ok(body);
        }
        let networks = match mode.as_str() {
            // What docker and podman call the network of containers that name none.
            "" | "default" => vec!["bridge", "podman"],
            other if other.starts_with("container:") => vec!["bridge", "podman"],
            other => vec![other],
        };
        let mut found = None;
        for network in networks {
            if found.is_none() {
                found = bridge(engine, network).await?;
            }
        }
        let reached = match found {
            Some(bridge) => {
                let port = match self.relay(server, &bridge, false).await {
                    // Podman makes the bridge of a network with its first container.
                    None if engine.is_here().await? => self.relay(server, &bridge, true).await,
                    port => port,
                };
                port.map(|port| server.at(&bridge.gateway.to_string(), port))
            }
            None => None,
        };
        let url = reached.unwrap_or_else(|| {
            // The engine's machine is not this one, or a virtual one on it, which forwards by itself.
            host.extra_hosts
                .get_or_insert_default()
                .push(format!("{HOST_NAME}:host-gateway"));
            server.at(HOST_NAME, server.port)
        });
        let env = body.env.get_or_insert_default();
        for entry in env.iter_mut() {
            if entry.starts_with("WANDB_BASE_URL=") {
                *entry = format!("{BASE_URL}={url}");
            }
        }
        if !env.iter().any(|entry| entry.starts_with("WANDB_APP_URL=")) {
            // Links are for people, who are not in the container.
            env.push(format!("{APP_URL}={told}"));
        }
        Ok(body)
    }

    /// The port of a network's relay, which is opened if it is not; none if this machine does not have
    /// the gateway's address and it is not certain that it will.
    async fn relay(&self, server: &Loopback, bridge: &Bridge, will_have: bool) -> Option<u16> {
        let mut open = self.open.lock().await;
        if let Some((kept, _)) = open.get(&bridge.gateway)
            && kept.subnet == bridge.subnet
        {
            return Some(kept.port);
        }
        let mut record = self.kept();
        let earlier = record.get(&bridge.gateway).filter(|kept| kept.subnet == bridge.subnet);
        let listener = match listen(bridge.gateway, earlier.map(|kept| kept.port), will_have) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::info!(gateway = %bridge.gateway, %error, "no relay on this network");
                return None;
            }
        };
        let kept = Kept {
            port: listener.local_addr().ok()?.port(),
            subnet: bridge.subnet,
        };
        tracing::info!(gateway = %bridge.gateway, port = kept.port, "containers reach the server here");
        open.insert(bridge.gateway, (kept, serve(listener, server.clone(), bridge.subnet)));
        record.extend(open.iter().map(|(gateway, (kept, _))| (*gateway, *kept)));
        if let Err(error) = self.directory.write(RECORD, &record) {
            tracing::warn!(%error, "the relay's port cannot be kept; jobs that outlive this agent may lose the server");
        }
        Some(kept.port)
    }
}

/// Listens at the port that jobs know already, or at any if that is taken.
fn listen(gateway: Ipv4Addr, earlier: Option<u16>, will_have: bool) -> io::Result<TcpListener> {
    let at = |port: u16| {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        if will_have {
            rustix::net::sockopt::set_ip_freebind(&socket, true)?;
        }
        socket.bind((gateway, port).into())?;
        socket.listen(BACKLOG)
    };
    match earlier.map(at) {
        Some(Ok(listener)) => Ok(listener),
        _ => at(0),
    }
}

/// Looks a network up; none if its containers are not on a bridge of the engine's machine.
async fn bridge(engine: &Engine, network: &str) -> Result<Option<Bridge>, RunnerError> {
    let found = engine.ask(|docker| async move { docker.inspect_network(network, None).await });
    match found.await {
        Ok(found) => Ok(bridge_of(&found)),
        // A network that is missing is reported when the container starts.
        Err(Trouble::Answer { status: 404, .. }) => Ok(None),
        Err(trouble) => Err(engine.failure("look at a network", trouble)),
    }
}

fn bridge_of(network: &NetworkInspect) -> Option<Bridge> {
    if network.driver.as_deref() != Some("bridge") {
        return None;
    }
    network.ipam.as_ref()?.config.iter().flatten().find_map(|range| {
        let subnet = Subnet::parse(range.subnet.as_deref()?)?;
        let first = Ipv4Addr::from_bits(subnet.base.to_bits().checked_add(1)?);
        let gateway = range
            .gateway
            .as_deref()
            .and_then(|gateway| gateway.parse().ok())
            .unwrap_or(first);
        Some(Bridge { gateway, subnet })
    })
}

/// Passes connections on until it is dropped.
fn serve(listener: TcpListener, server: Loopback, subnet: Subnet) -> AbortOnDropHandle<()> {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((client, peer)) if admitted(peer, &listener, subnet) => {
                    let server = server.clone();
                    tokio::spawn(async move {
                        pass(client, &server).await;
                        drop(place);
                    });
                }
                Ok((_, peer)) => tracing::warn!(%peer, "not from the relay's network; refused"),
                Err(error) => {
                    // Out of file descriptors, most likely: connections that end make room.
                    tracing::warn!(%error, "a relay cannot accept a connection");
                    tokio::time::sleep(super::AGAIN).await;
                }
            }
        }
    }))
}

/// The network's containers, and the machine itself.
fn admitted(peer: SocketAddr, listener: &TcpListener, subnet: Subnet) -> bool {
    subnet.contains(peer.ip()) || listener.local_addr().is_ok_and(|own| own.ip() == peer.ip())
}

async fn pass(mut client: TcpStream, server: &Loopback) {
    let host = if server.host == "0.0.0.0" {
        "127.0.0.1"
    } else {
        server.host.as_str()
    };
    match TcpStream::connect((host, server.port)).await {
        Ok(mut upstream) => {
            let _ = client.set_nodelay(true);
            let _ = upstream.set_nodelay(true);
            let _ = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
        }
        // The job's client sees a closed connection and tries again, as while a server is away.
        Err(error) => tracing::debug!(%error, "the server does not answer a container"),
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::{Ipam, IpamConfig};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn only_servers_that_others_do_not_reach_need_a_relay() {
        for (url, expected) in [
            ("http://localhost:8080", Some(("localhost", 8080))),
            ("http://127.0.0.1:8080/", Some(("127.0.0.1", 8080))),
            ("https://LOCALHOST", Some(("LOCALHOST", 443))),
            ("http://[::1]:9", Some(("::1", 9))),
            ("http://0.0.0.0:80", Some(("0.0.0.0", 80))),
            ("http://10.0.0.1:8080", None),
            ("https://api.example.com", None),
            ("http://localhost.example.com:80", None),
            ("localhost:80", None),
            ("https:/https://[::1]:8443", None),
        ] {
            let found = Loopback::parse(url);
            assert_eq!(
                found.as_ref().map(|server| (server.host.as_str(), server.port)),
                expected,
                "{url}"
            );
        }
    }

    #[test]
    fn a_bridges_gateway_is_the_one_it_names_or_its_first_address() {
        let network = |driver: &str, subnet: &str, gateway: Option<&str>| NetworkInspect {
            driver: Some(driver.to_owned()),
            ipam: Some(Ipam {
                config: Some(vec![IpamConfig {
                    subnet: Some(subnet.to_owned()),
                    gateway: gateway.map(str::to_owned),
                    ..IpamConfig::default()
                }]),
                ..Ipam::default()
            }),
            ..NetworkInspect::default()
        };
        let gateway = |network: &NetworkInspect| bridge_of(network).map(|bridge| bridge.gateway.to_string());
        assert_eq!(
            gateway(&network("bridge", "172.17.0.0/16", None)).as_deref(),
            Some("172.17.0.1")
        );
        let named = network("bridge", "10.9.0.0/24", Some("10.9.0.254"));
        assert_eq!(gateway(&named).as_deref(), Some("10.9.0.254"));
        assert_eq!(gateway(&network("macvlan", "10.9.0.0/24", None)), None);
        assert_eq!(gateway(&network("bridge", "fd00::/64", None)), None);
    }

    #[test]
    fn a_subnet_knows_its_addresses() {
        let subnet = Subnet::parse("172.17.0.0/16").unwrap();
        for (address, inside) in [("172.17.3.4", true), ("172.18.0.1", false), ("::1", false)] {
            assert_eq!(subnet.contains(address.parse().unwrap()), inside, "{address}");
        }
        assert!(Subnet::parse("0.0.0.0/0").unwrap().contains(IpAddr::from([1, 2, 3, 4])));
        assert!(Subnet::parse("1.2.3.4/33").is_none() && Subnet::parse("x").is_none());
    }

    #[tokio::test]
    async fn a_relay_that_could_not_be_opened_again_is_not_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let bridge = |gateway: [u8; 4]| Bridge {
            gateway: gateway.into(),
            subnet: Subnet::parse("127.0.0.0/8").unwrap(),
        };
        let (first, second) = (bridge([127, 0, 0, 1]), bridge([127, 0, 0, 2]));
        let relays = || Relays::new("http://127.0.0.1:9", directory.path().to_owned());
        let taken = TcpListener::bind((first.gateway, 0)).await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let kept = BTreeMap::from([(
            first.gateway,
            Kept {
                port,
                subnet: first.subnet,
            },
        )]);
        JobDirectory::at(directory.path().to_owned())
            .write(RECORD, &kept)
            .unwrap();
        let one = relays();
        let server = one.server.clone().unwrap();
        one.reopen().await;
        assert!(one.open.lock().await.is_empty());
        // A job on another network writes the record anew; the port becomes free; one on the first follows.
        one.relay(&server, &second, false).await.unwrap();
        drop(taken);
        assert_eq!(relays().kept()[&first.gateway].port, port);
        assert_eq!(one.relay(&server, &first, false).await, Some(port));
        assert_eq!(one.kept().len(), 2);
    }

    #[tokio::test]
    async fn a_relay_listens_at_a_gateway_that_is_not_there_yet_only_if_it_will_be() {
        let directory = tempfile::tempdir().unwrap();
        // Of a range that no machine has.
        let bridge = Bridge {
            gateway: [203, 0, 113, 1].into(),
            subnet: Subnet::parse("203.0.113.0/24").unwrap(),
        };
        let relays = Relays::new("http://127.0.0.1:9", directory.path().to_owned());
        let server = relays.server.clone().unwrap();
        assert_eq!(relays.relay(&server, &bridge, false).await, None);
        assert!(relays.relay(&server, &bridge, true).await.is_some());
    }

    #[tokio::test]
    async fn bytes_pass_both_ways_and_the_port_is_kept() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let echo = tokio::spawn(async move {
            for _ in 0..2 {
                let (mut stream, _) = server.accept().await.unwrap();
                let mut bytes = [0; 4];
                stream.read_exact(&mut bytes).await.unwrap();
                stream.write_all(&bytes).await.unwrap();
            }
        });
        let directory = tempfile::tempdir().unwrap();
        let url = format!("http://{address}");
        let bridge = Bridge {
            gateway: Ipv4Addr::LOCALHOST,
            subnet: Subnet::parse("127.0.0.0/8").unwrap(),
        };
        let ask = async |port: u16| {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
            stream.write_all(b"ping").await.unwrap();
            let mut answer = [0; 4];
            stream.read_exact(&mut answer).await.unwrap();
            answer
        };
        let relays = Relays::new(&url, directory.path().to_owned());
        let port = relays
            .relay(relays.server.as_ref().unwrap(), &bridge, false)
            .await
            .unwrap();
        assert_eq!(ask(port).await, *b"ping");
        drop(relays);
        let free = async {
            while TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), free)
            .await
            .unwrap();
        let again = Relays::new(&url, directory.path().to_owned());
        again.reopen().await;
        let reopened = again.relay(again.server.as_ref().unwrap(), &bridge, false).await;
        assert_eq!(reopened, Some(port));
        assert_eq!(ask(port).await, *b"ping");
        echo.await.unwrap();
    }
}
