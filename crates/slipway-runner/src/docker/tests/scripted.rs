//! An engine of the tests: a few containers behind a socket, whose answers a test can change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::task::AbortOnDropHandle;

/// What becomes of a call.
#[derive(Debug, Clone)]
pub(super) enum Turn {
    /// What an engine does.
    Usual,
    /// This answer, without effect.
    Answer(u16, &'static str),
    /// No answer, without effect.
    Away,
    /// No answer, with the effect.
    Lost,
    /// An answer that is none, without effect.
    Garbage,
    /// The answer comes so late.
    Late(Duration),
}

/// A container.
#[derive(Debug, Clone, Default)]
pub(super) struct Fake {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) status: &'static str,
    pub(super) exit_code: i64,
    pub(super) finished_at: &'static str,
    pub(super) starts: usize,
    /// Lines of its log.
    pub(super) log: Vec<&'static str>,
    /// What it was made of.
    pub(super) body: Value,
}

type Script = Box<dyn FnMut(&str) -> Turn + Send>;

#[derive(Default)]
struct State {
    containers: Vec<Fake>,
    made: usize,
    calls: Vec<String>,
    script: Option<Script>,
    components: Value,
}

/// The engine.
pub(super) struct Scripted {
    socket: PathBuf,
    state: Arc<Mutex<State>>,
    _server: AbortOnDropHandle<()>,
}

impl Scripted {
    pub(super) fn new(directory: &Path) -> Self {
        let socket = directory.join("engine.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(answer(stream, Arc::clone(&shared)));
            }
        });
        Self {
            socket,
            state,
            _server: AbortOnDropHandle::new(server),
        }
    }

    pub(super) fn address(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happens to each call from now on, such as `POST /containers/c1/start`.
    pub(super) fn script(&self, script: impl FnMut(&str) -> Turn + Send + 'static) {
        self.state().script = Some(Box::new(script));
    }

    /// Answers as engines do, from now on.
    pub(super) fn well(&self) {
        self.state().script = None;
    }

    /// Does not answer, from now on.
    pub(super) fn away(&self) {
        self.script(|_| Turn::Away);
    }

    pub(super) fn containers(&self) -> Vec<Fake> {
        self.state().containers.clone()
    }

    /// Changes the first container.
    pub(super) fn change(&self, change: impl FnOnce(&mut Fake)) {
        change(&mut self.state().containers[0]);
    }

    /// Somebody else removes all containers.
    pub(super) fn clear(&self) {
        self.state().containers.clear();
    }

    /// What the engine says that it consists of.
    pub(super) fn components(&self, components: Value) {
        self.state().components = components;
    }

    /// Somebody else's container.
    pub(super) fn stranger(&self, name: &str) {
        let body = json!({"Labels": {}});
        let _ = create(&mut self.state(), name, body);
        let mut state = self.state();
        let stranger = state.containers.last_mut().unwrap();
        stranger.status = "running";
    }

    /// How often a call was made.
    pub(super) fn count(&self, call: &str) -> usize {
        let state = self.state();
        state.calls.iter().filter(|known| known.starts_with(call)).count()
    }
}

async fn answer(mut stream: UnixStream, state: Arc<Mutex<State>>) {
    let mut bytes = Vec::new();
    let (head, body) = loop {
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("content-length:")?
                    .trim()
                    .parse()
                    .ok()
            })
            .unwrap_or(0);
        if body.len() >= length {
            break (head.to_owned(), body.to_owned());
        }
    };
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let call = format!("{method} {path}");
    let turn = {
        let mut state = state.lock().unwrap();
        state.calls.push(format!("{call}?{query}"));
        state.script.as_mut().map_or(Turn::Usual, |script| script(&call))
    };
    let (status, content) = match turn {
        Turn::Away => return,
        Turn::Garbage => (200, br#"{"Id": 7, "State": {"Status": 7}}"#.to_vec()),
        Turn::Answer(status, message) => (status, json!({"message": message}).to_string().into_bytes()),
        _ => usual(&mut state.lock().unwrap(), method, path, query, &body),
    };
    match turn {
        Turn::Lost => return,
        Turn::Late(delay) => tokio::time::sleep(delay).await,
        _ => {}
    }
    let kind = if path.ends_with("/logs") {
        "application/vnd.docker.multiplexed-stream"
    } else {
        "application/json"
    };
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        content.len()
    );
    let _ = stream.write_all(&[head.as_bytes(), &content].concat()).await;
}

fn create(state: &mut State, name: &str, body: Value) -> String {
    state.made += 1;
    let id = format!("c{}", state.made);
    state.containers.push(Fake {
        id: id.clone(),
        name: name.to_owned(),
        status: "created",
        finished_at: "2020-01-01T00:00:05Z",
        body,
        ..Fake::default()
    });
    id
}

fn usual(state: &mut State, method: &str, path: &str, query: &str, body: &str) -> (u16, Vec<u8>) {
    let text = |status: u16, value: Value| (status, value.to_string().into_bytes());
    let none = || text(404, json!({"message": "No such container"}));
    let done = (204, Vec::new());
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match (method, parts.as_slice()) {
        ("GET", ["version"]) => text(
            200,
            json!({"ApiVersion": "1.41", "Version": "x", "Components": state.components}),
        ),
        ("GET", ["_ping"]) => (200, b"OK".to_vec()),
        ("GET", ["images", .., "json"]) => text(200, json!({"Id": "image"})),
        ("POST", ["networks", _, "connect"]) => done,
        ("GET", ["networks", ..]) => text(404, json!({"message": "no such network"})),
        ("GET", ["containers", "json"]) => {
            let list = state.containers.iter().map(
                |fake| json!({"Id": fake.id, "Names": [format!("/{}", fake.name)], "Labels": fake.body["Labels"]}),
            );
            text(200, list.collect())
        }
        ("POST", ["containers", "create"]) => {
            let name = query
                .split('&')
                .find_map(|pair| pair.strip_prefix("name="))
                .unwrap_or("x");
            if state.containers.iter().any(|fake| fake.name == name) {
                return text(409, json!({"message": "the name is in use"}));
            }
            let id = create(state, name, serde_json::from_str(body).unwrap());
            text(201, json!({"Id": id, "Warnings": ["no swap limit"]}))
        }
        (_, ["containers", wanted, rest @ ..]) => {
            let at = state
                .containers
                .iter()
                .position(|fake| fake.id == *wanted || fake.name == *wanted);
            let Some(at) = at else { return none() };
            let fake = &mut state.containers[at];
            match (method, rest) {
                ("GET", ["json"]) => text(200, inspected(fake)),
                ("POST", ["start"]) => {
                    fake.status = "running";
                    fake.starts += 1;
                    done
                }
                ("POST", ["stop"]) if fake.status == "paused" => {
                    text(500, json!({"message": "Unpause the container before stopping"}))
                }
                ("POST", ["stop"]) => {
                    fake.status = "exited";
                    fake.exit_code = 143;
                    done
                }
                ("POST", ["unpause"]) => {
                    fake.status = "running";
                    done
                }
                ("GET", ["logs"]) => (200, fake.log.iter().flat_map(|line| frame(line)).collect()),
                ("DELETE", []) if fake.status == "running" && !query.contains("force=true") => {
                    text(409, json!({"message": "You cannot remove a running container"}))
                }
                ("DELETE", []) => {
                    state.containers.remove(at);
                    done
                }
                _ => text(500, json!({"message": format!("not scripted: {method} {path}")})),
            }
        }
        _ => text(500, json!({"message": format!("not scripted: {method} {path}")})),
    }
}

fn inspected(fake: &Fake) -> Value {
    json!({
        "Id": fake.id,
        "Name": format!("/{}", fake.name),
        "Config": {"Labels": fake.body["Labels"], "Tty": fake.body["Tty"].as_bool().unwrap_or(false)},
        "State": {
            "Status": fake.status, "Running": matches!(fake.status, "running" | "paused"), "Paused": fake.status == "paused",
            "ExitCode": fake.exit_code, "OOMKilled": false, "Error": "",
            "StartedAt": "2020-01-01T00:00:00Z", "FinishedAt": fake.finished_at,
        },
    })
}

/// One entry of a log, as engines send it: stream, length, time, text.
fn frame(line: &str) -> Vec<u8> {
    let text = format!("2020-01-01T00:00:01.000000000Z {line}\n");
    let length = u32::try_from(text.len()).unwrap();
    [&[1, 0, 0, 0][..], &length.to_be_bytes(), text.as_bytes()].concat()
}
