//! Credentials of registries, from docker's own configuration and its helpers.
//!
//! They go to the engine with the request that needs them and are kept nowhere.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard::auth::DockerCredentials;
use serde::Deserialize;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;

/// The name under which docker keeps the credentials of its own hub.
pub(super) const HUB: &str = "https://index.docker.io/v1/";

/// How long a helper may take; some ask a cloud.
const HELPER_LIMIT: Duration = Duration::from_secs(30);

/// Where credentials of a registry come from.
#[derive(Debug, PartialEq)]
enum Origin {
    /// A program `docker-credential-…`.
    Helper(String),
    /// Written down.
    Known(DockerCredentials),
    /// Nowhere.
    None,
}

/// The registry of an image, as docker's configuration names it.
pub(super) fn registry(image: &str) -> &str {
    match image.split_once('/') {
        // The hub's other names, which images may bear and the configuration does not.
        Some(("docker.io" | "index.docker.io", _)) => HUB,
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => HUB,
    }
}

/// The credentials for an image; none if there are none, or if a helper fails, which is logged.
pub(super) async fn find(config: Option<&Path>, image: &str) -> Option<DockerCredentials> {
    let registry = registry(image);
    let text = std::fs::read_to_string(config?.join("config.json")).ok()?;
    let file: Value = match serde_json::from_str(&text) {
        Ok(file) => file,
        Err(error) => {
            tracing::warn!(%error, "docker's own config.json cannot be read; pulling without credentials");
            return None;
        }
    };
    match origin(&file, registry) {
        Origin::Known(credentials) => Some(credentials),
        Origin::None => None,
        Origin::Helper(name) => match ask(&name, registry).await {
            Ok(credentials) => credentials,
            Err(error) => {
                tracing::warn!(
                    helper = name,
                    registry,
                    error,
                    "a credential helper failed; pulling without credentials"
                );
                None
            }
        },
    }
}

fn origin(file: &Value, registry: &str) -> Origin {
    let text = |value: Option<&Value>| {
        value
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    if let Some(helper) = text(file.pointer("/credHelpers").and_then(|map| map.get(registry))) {
        return Origin::Helper(helper);
    }
    let written = file.get("auths").and_then(Value::as_object).and_then(|auths| {
        let bare = |name: &str| {
            let name = name.trim_start_matches("https://").trim_start_matches("http://");
            name.trim_end_matches("/v1/")
                .trim_end_matches("/v2/")
                .trim_end_matches('/')
                .to_owned()
        };
        let wanted = bare(registry);
        auths
            .iter()
            .find(|(name, _)| bare(name) == wanted)
            .map(|(_, entry)| entry)
    });
    if let Some(entry) = written {
        let mut credentials = DockerCredentials {
            serveraddress: Some(registry.to_owned()),
            identitytoken: text(entry.get("identitytoken")),
            registrytoken: text(entry.get("registrytoken")),
            ..DockerCredentials::default()
        };
        let pair = text(entry.get("auth"))
            .and_then(|auth| STANDARD.decode(auth).ok())
            .and_then(|bytes| String::from_utf8(bytes).ok());
        if let Some((user, password)) = pair.as_deref().and_then(|pair| pair.split_once(':')) {
            credentials.username = Some(user.to_owned());
            credentials.password = Some(password.trim_end_matches('\0').to_owned());
        }
        let usable = credentials.username.is_some()
            || credentials.identitytoken.is_some()
            || credentials.registrytoken.is_some();
        if usable {
            return Origin::Known(credentials);
        }
    }
    // With a store docker leaves empty entries under `auths`.
    text(file.get("credsStore")).map_or(Origin::None, Origin::Helper)
}

/// A helper's answer.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

async fn ask(helper: &str, registry: &str) -> Result<Option<DockerCredentials>, String> {
    if !helper
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    {
        return Err("its name is not that of a program".to_owned());
    }
    let talk = async {
        let mut child = tokio::process::Command::new(format!("docker-credential-{helper}"))
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(registry.as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    let output = match tokio::time::timeout(HELPER_LIMIT, talk).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err(format!("no answer within {} s", HELPER_LIMIT.as_secs())),
    };
    if !output.status.success() {
        // The helpers' way to say that they have none; anything else they print may hold a secret.
        let text = String::from_utf8_lossy(&output.stdout).to_lowercase();
        return if text.contains("credentials not found") {
            Ok(None)
        } else {
            Err(output.status.to_string())
        };
    }
    let answer: Answer = serde_json::from_slice(&output.stdout).map_err(|_| "its answer is not JSON".to_owned())?;
    let mut credentials = DockerCredentials {
        serveraddress: Some(registry.to_owned()),
        ..DockerCredentials::default()
    };
    if answer.username == "<token>" {
        credentials.identitytoken = Some(answer.secret);
    } else {
        credentials.username = Some(answer.username);
        credentials.password = Some(answer.secret);
    }
    Ok(Some(credentials))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_images_registry_is_its_first_part_if_that_is_a_host() {
        for (image, expected) in [
            ("python:3.11", HUB),
            ("team/image", HUB),
            ("docker.io/team/image", HUB),
            ("index.docker.io/team/image", HUB),
            ("localhost/image", "localhost"),
            ("127.0.0.1:5000/a/b@sha256:00", "127.0.0.1:5000"),
            ("reg.example.com/team/image:1", "reg.example.com"),
        ] {
            assert_eq!(registry(image), expected);
        }
    }

    #[test]
    fn helpers_of_a_registry_come_first_then_what_is_written_then_the_store() {
        let file = json!({
            "auths": {
                "https://index.docker.io/v1/": {"auth": STANDARD.encode("user:pass:word")},
                "https://reg.example.com": {"identitytoken": "token"},
                "stored.example.com": {},
            },
            "credHelpers": {"helped.example.com": "ecr-login"},
            "credsStore": "desktop",
        });
        let Origin::Known(hub) = origin(&file, HUB) else {
            panic!("the hub has credentials")
        };
        assert_eq!(
            (hub.username.as_deref(), hub.password.as_deref()),
            (Some("user"), Some("pass:word"))
        );
        let Origin::Known(token) = origin(&file, "reg.example.com") else {
            panic!("a token is known")
        };
        assert_eq!(token.identitytoken.as_deref(), Some("token"));
        assert_eq!(
            origin(&file, "helped.example.com"),
            Origin::Helper("ecr-login".to_owned())
        );
        assert_eq!(
            origin(&file, "stored.example.com"),
            Origin::Helper("desktop".to_owned())
        );
        assert_eq!(origin(&json!({}), "reg.example.com"), Origin::None);
        assert_eq!(
            origin(
                &json!({"auths": {"reg.example.com": {"auth": "%%%"}}}),
                "reg.example.com"
            ),
            Origin::None
        );
    }

    #[tokio::test]
    async fn a_helper_is_named_by_a_plain_word_and_may_be_missing() {
        assert!(ask("../evil", "r").await.is_err());
        assert!(ask("no-such-helper-here", "r").await.is_err());
    }
}
