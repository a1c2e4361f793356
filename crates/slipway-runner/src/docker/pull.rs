//! Sees to it that the engine has an image.
//!
//! By default an image that came from a registry is asked for again, since its tag may have moved, and
//! a copy serves if that fails; an image that was made on the engine's machine is taken as it is.

use std::time::Duration;

use bollard::auth::DockerCredentials;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptions;
use futures::StreamExt as _;
use slipway_model::docker_options::Pull;
use tokio::time::Instant;

use super::engine::{Engine, Trouble};
use super::request::{Container, split_reference};
use crate::{Line, RunnerError};

/// How often progress is told.
const PROGRESS: Duration = Duration::from_secs(5);

/// How often it is logged, counted in these.
const LOGGED: u32 = 6;

/// Waits before a registry that did not answer is asked again.
const AGAIN: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(8)];

/// What an engine has of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copy {
    None,
    /// Made there: no registry is known to have it.
    Local,
    /// From a registry.
    Pulled,
}

/// Whether to ask the registry, and whether its refusal is final. Pure.
fn decide(wish: Option<Pull>, copy: Copy, by_digest: bool) -> (bool, bool) {
    match (wish, copy) {
        (Some(Pull::Always), _) => (true, true),
        (Some(Pull::Never), _) => (false, true),
        (_, Copy::None) => (true, true),
        (Some(Pull::Missing), _) | (None, Copy::Local) => (false, false),
        (None, Copy::Pulled) => (!by_digest, false),
    }
}

/// Pulls the container's image if that is called for. Waits for an engine that is away.
pub(super) async fn ensure(
    engine: &Engine,
    container: &Container,
    credentials: Option<DockerCredentials>,
    line: &Line,
) -> Result<(), RunnerError> {
    let image = &container.image;
    let copy = copy_of(engine, image).await?;
    let (ask, is_final) = decide(container.pull, copy, image.contains('@'));
    if !ask {
        return Ok(());
    }
    let mut waits = AGAIN.iter();
    loop {
        let error = match pull(engine, container, credentials.clone(), line).await {
            Ok(()) => return Ok(()),
            // Some engines pass a registry's 503 on as their own.
            Err(Trouble::Away(message)) if status_in(&message).is_some() => {
                refusal(image, credentials.is_some(), &message)
            }
            Err(trouble @ (Trouble::Away(_) | Trouble::Unreadable(_))) => {
                return Err(engine.failure("pull an image", trouble));
            }
            Err(Trouble::Answer { message, .. }) => refusal(image, credentials.is_some(), &message),
        };
        if !is_final {
            tracing::warn!(image, %error, "using the copy that the engine has");
            return Ok(());
        }
        match waits.next() {
            Some(wait) if error.reason() == "registry-unreachable" => {
                tracing::warn!(image, %error, "trying again");
                line.waits("image-pull", format!("{error}; trying again"));
                tokio::time::sleep(*wait).await;
            }
            _ => return Err(error),
        }
    }
}

async fn copy_of(engine: &Engine, image: &str) -> Result<Copy, RunnerError> {
    match engine
        .ask(|docker| async move { docker.inspect_image(image).await })
        .await
    {
        Ok(found) if found.repo_digests.as_ref().is_some_and(|digests| !digests.is_empty()) => Ok(Copy::Pulled),
        Ok(_) => Ok(Copy::Local),
        Err(trouble) if trouble.status() == 404 => Ok(Copy::None),
        Err(trouble) => Err(engine.failure("look at the image", trouble)),
    }
}

async fn pull(
    engine: &Engine,
    container: &Container,
    credentials: Option<DockerCredentials>,
    line: &Line,
) -> Result<(), Trouble> {
    let image = &container.image;
    let (name, tag) = split_reference(image);
    let options = CreateImageOptions {
        from_image: Some(name.to_owned()),
        tag: Some(tag.to_owned()),
        platform: container.platform.clone().unwrap_or_default(),
        ..CreateImageOptions::default()
    };
    let began = Instant::now();
    tracing::info!(image, "pulling");
    let mut progress = Progress::default();
    let mut told = 0;
    let mut due = began + PROGRESS;
    let mut stream = std::pin::pin!(engine.docker().await?.create_image(Some(options), None, credentials));
    loop {
        // A registry that hangs says nothing, and somebody waits.
        match tokio::time::timeout_at(due, stream.next()).await {
            Ok(Some(news)) => progress.take(news?),
            Ok(None) => break,
            Err(_) => {
                due = Instant::now() + PROGRESS;
                told += 1;
                let seconds = began.elapsed().as_secs();
                line.waits(
                    "image-pull",
                    format!("the image `{image}` is being pulled, for {seconds} s: {progress}"),
                );
                if told % LOGGED == 1 {
                    tracing::info!(image, seconds, "pulling: {progress}");
                }
            }
        }
    }
    tracing::info!(image, seconds = began.elapsed().as_secs(), "pulled");
    line.goes_on();
    Ok(())
}

/// How far the layers are.
#[derive(Debug, Default)]
struct Progress {
    layers: std::collections::BTreeMap<String, (i64, i64)>,
    done: usize,
}

impl Progress {
    fn take(&mut self, news: CreateImageInfo) {
        let Some(layer) = news.id else { return };
        match news.status.as_deref() {
            Some("Pull complete" | "Already exists") => self.done += 1,
            Some("Downloading") => {
                let detail = news.progress_detail.unwrap_or_default();
                self.layers
                    .insert(layer, (detail.current.unwrap_or(0), detail.total.unwrap_or(0)));
            }
            _ => {}
        }
    }
}

impl std::fmt::Display for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.layers.is_empty() && self.done == 0 {
            return f.write_str("the engine tells of no layer yet");
        }
        let sum = |part: fn(&(i64, i64)) -> i64| self.layers.values().map(part).sum::<i64>() / (1 << 20);
        let (current, total) = (sum(|layer| layer.0), sum(|layer| layer.1));
        write!(f, "{} layers ready, {current} of {total} MiB downloaded", self.done)?;
        match 100 * current {
            _ if total <= 0 => Ok(()),
            part => write!(f, " ({} %)", part / total),
        }
    }
}

/// The status of a registry that says nothing else, from the words that an engine has for it.
fn status_in(message: &str) -> Option<u16> {
    let word = |text: &str| text.find("HTTP").or_else(|| text.to_ascii_lowercase().find("status"));
    let told = &message[word(message)?..];
    let numbers = told.split_whitespace().filter_map(|part| {
        let digits = part.trim_matches(|c: char| c.is_ascii_punctuation());
        digits.parse().ok().filter(|status| (400..600).contains(status))
    });
    numbers.into_iter().next()
}

/// What a registry's refusal means.
fn refusal(image: &str, with_credentials: bool, message: &str) -> RunnerError {
    let has = |part: &str| message.contains(part);
    let login = if with_credentials {
        "the credentials in docker's configuration on the agent's machine are not accepted"
    } else {
        "log in on the agent's machine, as the agent's user, with `docker login`"
    };
    let status = status_in(message);
    let (reason, hint) = if [
        "no matching manifest",
        "no match for platform",
        "no image found in",
        "does not match the specified platform",
        "cannot be used on this platform",
    ]
    .into_iter()
    .any(has)
    {
        (
            "platform-missing",
            "it is not there for this platform; see `platform`".to_owned(),
        )
    } else if has("pull access denied") || has("repository does not exist") {
        (
            "image-not-found",
            format!("it does not exist, or it is private: check its name, or {login}"),
        )
    } else if has("manifest unknown")
        || has("name unknown")
        || has("not found") && !has("lookup")
        || status == Some(404)
    {
        ("image-not-found", "check its name and tag".to_owned())
    } else if [
        "unauthorized",
        "authentication required",
        "authorization failed",
        "no basic auth",
        "denied",
    ]
    .into_iter()
    .any(has)
        || matches!(status, Some(401 | 403))
    {
        ("registry-unauthorised", login.to_owned())
    } else if has("toomanyrequests") || has("rate limit") || status == Some(429) {
        (
            "registry-rate-limit",
            format!("the registry takes no more pulls for a while; {login}"),
        )
    } else if matches!(status, Some(500..)) {
        ("registry-unreachable", "the registry itself fails".to_owned())
    } else if [
        "refused",
        "reset by peer",
        "no such host",
        "no route to host",
        "timeout",
        "Timeout",
        "deadline exceeded",
        "TLS",
        "x509",
        "EOF",
        "HTTP response",
        "lookup",
        "unreachable",
    ]
    .into_iter()
    .any(has)
    {
        (
            "registry-unreachable",
            "the engine cannot speak to the registry".to_owned(),
        )
    } else {
        ("pull-failed", "see the registry's own words".to_owned())
    };
    RunnerError::Refused {
        reason,
        message: format!("the image `{image}` cannot be pulled: {hint}. The engine says: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_asked_where_it_may_have_something_newer() {
        for (wish, copy, by_digest, expected) in [
            (None, Copy::None, false, (true, true)),
            (None, Copy::Local, false, (false, false)),
            (None, Copy::Pulled, false, (true, false)),
            (None, Copy::Pulled, true, (false, false)),
            (Some(Pull::Always), Copy::Local, true, (true, true)),
            (Some(Pull::Missing), Copy::None, false, (true, true)),
            (Some(Pull::Missing), Copy::Pulled, false, (false, false)),
            (Some(Pull::Never), Copy::None, false, (false, true)),
        ] {
            assert_eq!(decide(wish, copy, by_digest), expected, "{wish:?} {copy:?} {by_digest}");
        }
    }

    #[test]
    fn a_registrys_refusal_has_a_reason() {
        for (message, reason) in [
            (
                "manifest for r/a:1 not found: manifest unknown: manifest unknown",
                "image-not-found",
            ),
            (
                "pull access denied for a, repository does not exist or may require 'docker login': denied",
                "image-not-found",
            ),
            (
                "Head \"https://r/v2/a/manifests/1\": no basic auth credentials",
                "registry-unauthorised",
            ),
            (
                "Head \"https://r/v2/\": unauthorized: authentication required",
                "registry-unauthorised",
            ),
            (
                "Get \"http://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused",
                "registry-unreachable",
            ),
            (
                "Get \"https://r/v2/\": dial tcp: lookup r: no such host",
                "registry-unreachable",
            ),
            (
                "toomanyrequests: You have reached your pull rate limit",
                "registry-rate-limit",
            ),
            (
                "no matching manifest for linux/s390x in the manifest list entries",
                "platform-missing",
            ),
            // A bare status, in the words of docker, of containerd, earlier and later, and of podman.
            (
                "error parsing HTTP 403 response body: unexpected end of JSON input: \"\"",
                "registry-unauthorised",
            ),
            (
                "error parsing HTTP 404 response body: no error details found in HTTP response body: \"\"",
                "image-not-found",
            ),
            (
                "error parsing HTTP 429 response body: unexpected end of JSON input: \"\"",
                "registry-rate-limit",
            ),
            (
                "received unexpected HTTP status: 502 Bad Gateway",
                "registry-unreachable",
            ),
            (
                "failed to resolve reference \"r/a:1\": unexpected status from HEAD request to https://r/v2/a/manifests/1: 403 \
                 Forbidden",
                "registry-unauthorised",
            ),
            (
                "failed to resolve reference \"r/a:1\": unexpected status code [manifests 1]: 401 Unauthorized",
                "registry-unauthorised",
            ),
            (
                "pulling from host r failed with status code [manifests 1]: 429 Too Many Requests",
                "registry-rate-limit",
            ),
            (
                "failed to authorize: failed to fetch anonymous token: unexpected status from GET request to \
                 https://r/token: 503 Service Unavailable",
                "registry-unreachable",
            ),
            (
                "initializing source docker://r/a:1: reading manifest 1 in r/a: StatusCode: 403, \"\"",
                "registry-unauthorised",
            ),
            (
                "initializing source docker://r/a:1: pinging container registry r: received unexpected HTTP status: 500 \
                 Internal Server Error",
                "registry-unreachable",
            ),
            (
                "failed to resolve reference \"r/a:1\": r/a:1: not found",
                "image-not-found",
            ),
            ("no match for platform in manifest: not found", "platform-missing"),
            (
                "choosing an image from manifest list docker://r/a:1: no image found in manifest list for architecture \
                 s390x, variant \"\", OS linux",
                "platform-missing",
            ),
            (
                "Get \"https://r/v2/\": net/http: request canceled (Client.Timeout exceeded while awaiting headers)",
                "registry-unreachable",
            ),
            ("something else", "pull-failed"),
        ] {
            assert_eq!(refusal("r/a:1", false, message).reason(), reason, "{message}");
        }
    }
}
