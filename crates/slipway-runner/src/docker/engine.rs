//! Where the engine is, and what its answers mean.
//!
//! The engine is found as the `docker` command finds it: `DOCKER_HOST`, then `DOCKER_CONTEXT`, then the
//! context that docker's own configuration names, then the usual sockets of docker and podman. An
//! engine that does not answer is "away", which is waited out; an answer is final.

use std::path::{Path, PathBuf};

use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, Docker};
use bytes::Bytes;
use http_body_util::{Either, Full};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::sync::OnceCell;

use crate::RunnerError;

/// Seconds until a call counts as unanswered. Creating a container can take long on a slow disk.
pub(super) const TIMEOUT: u64 = 120;

/// Sockets that are looked for when nothing names an engine; the first that exists is taken.
const SOCKETS: [&str; 2] = ["/var/run/docker.sock", "/run/podman/podman.sock"];

/// The engine's address, such as `unix:///var/run/docker.sock`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address(pub(super) String);

/// The directory of docker's own configuration.
pub(super) fn config_directory(env: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    env("DOCKER_CONFIG")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env("HOME")?).join(".docker")))
}

/// Finds the engine's address.
pub(super) fn locate(
    env: &dyn Fn(&str) -> Option<String>,
    read: &dyn Fn(&Path) -> Option<Value>,
    exists: &dyn Fn(&Path) -> bool,
) -> Result<Address, RunnerError> {
    let set = |name: &str| env(name).filter(|value| !value.is_empty());
    if let Some(host) = set("DOCKER_HOST") {
        let tls = set("DOCKER_TLS_VERIFY").or_else(|| set("DOCKER_TLS")).is_some();
        return supported(host, "DOCKER_HOST", tls);
    }
    let config = config_directory(env);
    let current = || {
        let file = read(&config.as_ref()?.join("config.json"))?;
        Some(file.get("currentContext")?.as_str()?.to_owned())
    };
    if let Some(context) = set("DOCKER_CONTEXT").or_else(current).filter(|name| name != "default") {
        let digest: String = Sha256::digest(context.as_bytes())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let contexts = config.map(|directory| directory.join("contexts"));
        let host = contexts
            .as_ref()
            .and_then(|contexts| read(&contexts.join("meta").join(&digest).join("meta.json")))
            .and_then(|meta| Some(meta.pointer("/Endpoints/docker/Host")?.as_str()?.to_owned()))
            .ok_or_else(|| RunnerError::Refused {
                reason: "no-engine",
                message: format!("docker's context `{context}` does not exist; see `docker context ls`"),
            })?;
        // Docker speaks TLS to an engine for which the context has certificates.
        let tls = contexts.is_some_and(|contexts| exists(&contexts.join("tls").join(&digest).join("docker")));
        return supported(host, &format!("docker's context `{context}`"), tls);
    }
    let personal = set("XDG_RUNTIME_DIR")
        .into_iter()
        .flat_map(|directory| ["docker.sock", "podman/podman.sock"].map(|name| Path::new(&directory).join(name)));
    let socket = SOCKETS
        .into_iter()
        .map(PathBuf::from)
        .chain(personal)
        .find(|path| exists(path))
        .unwrap_or_else(|| PathBuf::from(SOCKETS[0]));
    Ok(Address(format!("unix://{}", socket.display())))
}

fn supported(host: String, origin: &str, tls: bool) -> Result<Address, RunnerError> {
    let plain = host.starts_with("unix://") || ((host.starts_with("tcp://") || host.starts_with("http://")) && !tls);
    if plain {
        return Ok(Address(host));
    }
    Err(RunnerError::Refused {
        reason: "no-engine",
        message: format!(
            "{origin} points to `{host}`{}, and this agent speaks to an engine by a unix socket or by plain TCP only; \
             forward the engine's socket, for example with `ssh -L /tmp/docker.sock:/var/run/docker.sock`, and set \
             DOCKER_HOST to it",
            if tls { " with TLS" } else { "" }
        ),
    })
}

/// The connection to an engine, made when it is first needed.
#[derive(Debug)]
pub(super) struct Engine {
    address: Address,
    docker: OnceCell<Docker>,
}

impl Engine {
    pub(super) fn new(address: Address) -> Self {
        Self {
            address,
            docker: OnceCell::new(),
        }
    }

    /// The client. Each call of it makes a connection of its own and names no version of the API, so that
    /// it outlives the engine's restarts and upgrades.
    pub(super) async fn docker(&self) -> Result<&Docker, Trouble> {
        let connect = || async {
            let docker = match self.address.0.strip_prefix("unix://") {
                Some(path) => Docker::connect_with_unix(path, TIMEOUT, API_DEFAULT_VERSION)?,
                None => Docker::connect_with_http(&self.address.0, TIMEOUT, API_DEFAULT_VERSION)?,
            };
            docker.negotiate_version().await
        };
        self.docker.get_or_try_init(connect).await.map_err(Trouble::from)
    }

    /// Makes a call.
    pub(super) async fn ask<T, F>(&self, call: impl FnOnce(Docker) -> F) -> Result<T, Trouble>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let docker = self.docker().await?.clone();
        Ok(call(docker).await?)
    }

    /// Whether the engine's containers are on this machine and no other, virtual ones included.
    pub(super) async fn is_here(&self) -> Result<bool, RunnerError> {
        if !self.address.0.starts_with("unix://") {
            return Ok(false);
        }
        let asked = self.ask(|docker| async move { docker.info().await });
        let info = asked
            .await
            .map_err(|trouble| self.failure("tell about itself", trouble))?;
        let own = rustix::system::uname();
        let is = |said: Option<&str>, own: &std::ffi::CStr| said.is_some_and(|said| own.to_str() == Ok(said));
        // Without root an engine keeps its networks to itself.
        let rootless = info
            .security_options
            .iter()
            .flatten()
            .any(|option| option.contains("rootless"));
        Ok(is(info.name.as_deref(), own.nodename()) && is(info.kernel_version.as_deref(), own.release()) && !rootless)
    }

    /// Refuses where no engine was ever seen and there is no socket: waiting would not end.
    pub(super) fn require(&self) -> Result<(), RunnerError> {
        let path = self.address.0.strip_prefix("unix://").map(Path::new);
        match path.filter(|path| !self.docker.initialized() && !path.exists()) {
            None => Ok(()),
            Some(path) => Err(RunnerError::Refused {
                reason: "no-engine",
                message: format!(
                    "this agent's machine has no container engine: there is no socket `{}`; install Docker or podman, \
                     or set DOCKER_HOST",
                    path.display()
                ),
            }),
        }
    }

    fn name(&self) -> String {
        format!("the container engine at `{}`", self.address.0)
    }

    /// The failure that an engine which is away makes.
    pub(super) fn away(&self, message: String) -> RunnerError {
        RunnerError::Unavailable {
            target: self.name(),
            message,
        }
    }

    /// A failure of a call that is not expected to be refused.
    pub(super) fn failure(&self, action: &str, trouble: Trouble) -> RunnerError {
        match trouble {
            Trouble::Away(message) => self.away(message),
            Trouble::Unreadable(message) => RunnerError::Unreadable {
                target: self.name(),
                message,
            },
            Trouble::Answer { message, .. } => RunnerError::Refused {
                reason: "engine-refused",
                message: format!("the engine refused to {action}: {message}"),
            },
        }
    }
}

/// A client whose next request is this one with further fields: the library knows only the latest version of
/// the API, which has dropped them.
pub(super) fn with_fields<'a>(
    docker: Docker,
    request: &impl Serialize,
    fields: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Docker, Error> {
    let mut fields = fields.into_iter().peekable();
    if fields.peek().is_none() {
        return Ok(docker);
    }
    let mut body = serde_json::to_value(request)?;
    for (name, value) in fields {
        body[name] = value.into();
    }
    let body = Bytes::from(serde_json::to_vec(&body)?);
    Ok(docker.with_request_modifier(move |mut request| {
        *request.body_mut() = Either::Left(Full::new(body.clone()));
        request
    }))
}

/// What went wrong with a call.
#[derive(Debug)]
pub(super) enum Trouble {
    /// No answer: the call may have had its effect or not.
    Away(String),
    /// An answer that cannot be read; the same holds of the call.
    Unreadable(String),
    /// The engine's answer.
    Answer {
        /// The status, 0 for errors within a stream.
        status: u16,
        /// The engine's words.
        message: String,
    },
}

impl Trouble {
    /// Whether a container was not created because there is one of its name. Podman says so by an error
    /// of its own.
    pub(super) fn is_taken(&self) -> bool {
        match self {
            Self::Away(_) | Self::Unreadable(_) => false,
            Self::Answer { status, message } => *status == 409 || message.contains("that name is already in use"),
        }
    }

    pub(super) const fn status(&self) -> u16 {
        match self {
            Self::Away(_) | Self::Unreadable(_) => 0,
            Self::Answer { status, .. } => *status,
        }
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Away(message) | Self::Unreadable(message) | Self::Answer { message, .. }) = self;
        f.write_str(message)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        match error {
            // An engine that shuts down says so, or breaks off.
            Error::DockerResponseServerError {
                status_code: 503,
                message,
            } => Self::Away(message),
            Error::DockerResponseServerError { status_code, message } => Self::Answer {
                status: status_code,
                message: message.trim().to_owned(),
            },
            Error::DockerStreamError { error } => Self::Answer {
                status: 0,
                message: error.trim().to_owned(),
            },
            Error::SocketNotFoundError(path) => Self::Away(format!("there is no socket `{path}`")),
            Error::RequestTimeoutError => Self::Away(format!("no answer within {TIMEOUT} s")),
            Error::IOError { err } => Self::Away(err.to_string()),
            Error::HyperResponseError { err } => Self::Away(with_causes(&err)),
            Error::HyperLegacyError { err } => Self::Away(with_causes(&err)),
            // Podman has states of its own between two of docker's, for a moment.
            Error::JsonDataError { message, .. } => Self::Unreadable(message),
            other => Self::Answer {
                status: 0,
                message: other.to_string(),
            },
        }
    }
}

/// The innermost cause says what happened; the outer ones only where.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// What an engine's refusal to create or start a container means.
pub(super) fn refusal(action: &str, message: &str) -> RunnerError {
    let has = |part: &str| message.contains(part);
    let (reason, hint) = if has("could not select device driver") {
        (
            "no-gpu",
            "; its machine has no GPU that it can hand out: install the NVIDIA Container Toolkit there, or leave \
             `gpus` out",
        )
    } else if has("bind source path does not exist") {
        (
            "path-missing",
            "; create the directory on the engine's machine, or correct `volume`",
        )
    } else if has("executable file not found") || has("exec: \"") || has("no such file or directory: unknown") {
        ("program-not-found", "; the image does not hold the job's program")
    } else if has("port is already allocated") || has("address already in use") {
        (
            "port-taken",
            "; another program listens there: choose another port, or none",
        )
    } else if has("does not match the specified platform") {
        (
            "platform-missing",
            "; the image that the engine has is for another platform: see `platform` and `pull`",
        )
    } else if message.to_lowercase().contains("no such image") {
        ("image-missing", "; it was removed meanwhile, or `pull` is `never`")
    } else if has("network") && has("not found") {
        (
            "network-missing",
            "; create it with `docker network create`, or correct `network`",
        )
    } else if has("runtime") && (has("Unknown") || has("unknown or invalid")) {
        ("runtime-missing", "; the engine's configuration does not have it")
    } else {
        ("engine-refused", "")
    };
    RunnerError::Refused {
        reason,
        message: format!("the engine refused to {action} the container: {message}{hint}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn located(env: &[(&str, &str)], files: &[(&str, Value)], sockets: &[&str]) -> Result<String, String> {
        locate(
            &|name| {
                env.iter()
                    .find(|(known, _)| *known == name)
                    .map(|(_, value)| (*value).to_owned())
            },
            &|path| {
                files
                    .iter()
                    .find(|(known, _)| Path::new(known) == path)
                    .map(|(_, value)| value.clone())
            },
            &|path| sockets.iter().any(|known| Path::new(known) == path),
        )
        .map(|address| address.0)
        .map_err(|error| error.to_string())
    }

    #[test]
    fn the_engine_is_where_the_docker_command_finds_it() {
        // Docker keeps a context below the SHA-256 of its name.
        let digest: String = Sha256::digest(b"remote")
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let meta = format!("/h/.docker/contexts/meta/{digest}/meta.json");
        let context = [
            ("/h/.docker/config.json", json!({"currentContext": "remote"})),
            (
                meta.as_str(),
                json!({"Endpoints": {"docker": {"Host": "unix:///run/user/1/docker.sock"}}}),
            ),
        ];
        let home = ("HOME", "/h");
        for (env, sockets, expected) in [
            (vec![], vec![], "unix:///var/run/docker.sock"),
            (
                vec![("DOCKER_HOST", "tcp://10.0.0.1:2375"), home],
                vec![],
                "tcp://10.0.0.1:2375",
            ),
            (vec![home], vec![], "unix:///run/user/1/docker.sock"),
            (
                vec![("DOCKER_CONTEXT", "default"), home],
                vec![],
                "unix:///var/run/docker.sock",
            ),
            (
                vec![("HOME", "/other")],
                vec!["/run/podman/podman.sock"],
                "unix:///run/podman/podman.sock",
            ),
            (
                vec![("XDG_RUNTIME_DIR", "/run/user/7")],
                vec!["/run/user/7/podman/podman.sock"],
                "unix:///run/user/7/podman/podman.sock",
            ),
        ] {
            assert_eq!(located(&env, &context, &sockets).as_deref(), Ok(expected), "{env:?}");
        }
        for (env, words) in [
            (vec![("DOCKER_HOST", "ssh://host")], "ssh -L"),
            (
                vec![("DOCKER_HOST", "tcp://host:2376"), ("DOCKER_TLS_VERIFY", "1")],
                "plain TCP",
            ),
            (vec![("DOCKER_CONTEXT", "gone"), home], "docker context ls"),
        ] {
            assert!(located(&env, &context, &[]).unwrap_err().contains(words));
        }
        let remote = [
            context[0].clone(),
            (
                meta.as_str(),
                json!({"Endpoints": {"docker": {"Host": "tcp://host:2376", "SkipTLSVerify": false}}}),
            ),
        ];
        assert_eq!(located(&[home], &remote, &[]).as_deref(), Ok("tcp://host:2376"));
        let certificates = format!("/h/.docker/contexts/tls/{digest}/docker");
        let refused = located(&[home], &remote, &[&certificates]).unwrap_err();
        assert!(
            refused.contains("context `remote` points to `tcp://host:2376` with TLS"),
            "{refused}"
        );
    }

    #[test]
    fn refusals_have_a_reason_and_say_what_to_do() {
        for (message, reason) in [
            (
                r#"could not select device driver "" with capabilities: [[gpu]]"#,
                "no-gpu",
            ),
            (
                r#"invalid mount config for type "bind": bind source path does not exist: /no"#,
                "path-missing",
            ),
            (
                r#"exec: "nope": executable file not found in $PATH: unknown"#,
                "program-not-found",
            ),
            ("Bind for 0.0.0.0:80 failed: port is already allocated", "port-taken"),
            ("network nope not found", "network-missing"),
            ("No such image: a:b", "image-missing"),
            ("no such image: docker.io/network/b:1: image not known", "image-missing"),
            (
                "image with reference a:b was found but does not match the specified platform: wanted linux/arm64, \
                 actual: linux/amd64",
                "platform-missing",
            ),
            ("Unknown runtime specified nvidia", "runtime-missing"),
            ("something else", "engine-refused"),
        ] {
            let error = refusal("start", message);
            assert_eq!(error.reason(), reason, "{message}");
            assert!(error.to_string().contains(message));
        }
    }
}
