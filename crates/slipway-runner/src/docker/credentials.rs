//! Credentials of registries, from docker's own configuration and podman's, and their helpers.
//!
//! They go to the engine with the request that needs them and are kept nowhere.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard::auth::DockerCredentials;
use serde::Deserialize;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;

use super::engine;
use super::request::split_reference;

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

/// The files that may hold credentials, in the order in which they are looked through: docker's own, then
/// where `podman login` writes them.
pub(super) fn files(env: &dyn Fn(&str) -> Option<String>, user: u32) -> Vec<PathBuf> {
    let path = |name: &str| env(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    let docker = engine::config_directory(env).map(|directory| directory.join("config.json"));
    let podman = match path("REGISTRY_AUTH_FILE") {
        Some(file) => vec![file],
        None => {
            let running = path("XDG_RUNTIME_DIR").unwrap_or_else(|| PathBuf::from(format!("/run/containers/{user}")));
            let kept = path("XDG_CONFIG_HOME").or_else(|| Some(path("HOME")?.join(".config")));
            // Without a session's directory the user's own takes the place of `containers` in it.
            let running = match path("XDG_RUNTIME_DIR") {
                Some(_) => running.join("containers"),
                None => running,
            };
            let kept = kept.map(|directory| directory.join("containers"));
            let directories = std::iter::once(running).chain(kept);
            directories.map(|directory| directory.join("auth.json")).collect()
        }
    };
    docker.into_iter().chain(podman).collect()
}

/// The names under which an image's credentials may be kept, the nearest first: podman's may be those of a
/// part of a registry.
fn names(image: &str) -> Vec<String> {
    let registry = registry(image);
    let (repository, _) = split_reference(image);
    let repository = match repository.split_once('/') {
        Some(("docker.io" | "index.docker.io", rest)) => format!("docker.io/{rest}"),
        _ if registry == HUB => format!("docker.io/{repository}"),
        _ => repository.to_owned(),
    };
    let mut names = vec![repository];
    while let Some((parent, _)) = names.last().and_then(|name| name.rsplit_once('/')) {
        names.push(parent.to_owned());
    }
    if registry == HUB {
        names.push(HUB.to_owned());
    }
    names
}

/// The credentials for an image; none if there are none, or if a helper fails, which is logged.
pub(super) async fn find(files: &[PathBuf], image: &str) -> Option<DockerCredentials> {
    for file in files {
        if let Some(credentials) = find_in(file, image).await {
            return Some(credentials);
        }
    }
    None
}

async fn find_in(path: &Path, image: &str) -> Option<DockerCredentials> {
    let registry = registry(image);
    let text = std::fs::read_to_string(path).ok()?;
    let file: Value = match serde_json::from_str(&text) {
        Ok(file) => file,
        Err(error) => {
            let file = path.display();
            tracing::warn!(%file, %error, "credentials of registries cannot be read; pulling without these");
            return None;
        }
    };
    match origin(&file, registry, &names(image)) {
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

fn origin(file: &Value, registry: &str, names: &[String]) -> Origin {
    let text = |value: Option<&Value>| {
        value
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    let helpers = file.get("credHelpers");
    if let Some(helper) = names
        .iter()
        .find_map(|name| text(helpers.and_then(|map| map.get(name))))
    {
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
        names.iter().find_map(|wanted| {
            let wanted = bare(wanted);
            let found = auths.iter().find(|(name, _)| bare(name) == wanted);
            found.map(|(_, entry)| entry)
        })
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
        let origin = |file: &Value, image: &str| origin(file, registry(image), &names(image));
        let Origin::Known(hub) = origin(&file, "python:3") else {
            panic!("the hub has credentials")
        };
        assert_eq!(
            (hub.username.as_deref(), hub.password.as_deref()),
            (Some("user"), Some("pass:word"))
        );
        let Origin::Known(token) = origin(&file, "reg.example.com/a/b:1") else {
            panic!("a token is known")
        };
        assert_eq!(token.identitytoken.as_deref(), Some("token"));
        assert_eq!(
            origin(&file, "helped.example.com/a"),
            Origin::Helper("ecr-login".to_owned())
        );
        assert_eq!(
            origin(&file, "stored.example.com/a"),
            Origin::Helper("desktop".to_owned())
        );
        assert_eq!(origin(&json!({}), "reg.example.com/a"), Origin::None);
        assert_eq!(
            origin(
                &json!({"auths": {"reg.example.com": {"auth": "%%%"}}}),
                "reg.example.com/a"
            ),
            Origin::None
        );
    }

    #[tokio::test]
    async fn podmans_file_comes_after_dockers_and_the_nearest_name_in_it_counts() {
        let directory = tempfile::tempdir().unwrap();
        let auth = |user: &str| json!({"auth": STANDARD.encode(format!("{user}:word"))});
        let write = |name: &str, auths: Value| {
            let path = directory.path().join(name);
            std::fs::write(&path, json!({"auths": auths}).to_string()).unwrap();
            path
        };
        let files = [
            directory.path().join("absent.json"),
            write("config.json", json!({"both.example.com": auth("docker")})),
            write(
                "auth.json",
                json!({
                    "docker.io": auth("hub"), "both.example.com": auth("podman"), "reg.example.com": auth("all"),
                    "reg.example.com/team": auth("team"), "reg.example.com/team/image": auth("image"),
                }),
            ),
        ];
        for (image, user) in [
            ("python:3", Some("hub")),
            ("docker.io/team/image", Some("hub")),
            ("both.example.com/a", Some("docker")),
            ("reg.example.com/team/image@sha256:00", Some("image")),
            ("reg.example.com/team/other:1", Some("team")),
            ("reg.example.com/teams/other", Some("all")),
            ("other.example.com/a", None),
        ] {
            let found = find(&files, image).await.and_then(|found| found.username);
            assert_eq!(found.as_deref(), user, "{image}");
        }
    }

    #[test]
    fn files_are_where_docker_and_podman_write_them() {
        for (env, expected) in [
            (
                vec![("HOME", "/h")],
                vec![
                    "/h/.docker/config.json",
                    "/run/containers/7/auth.json",
                    "/h/.config/containers/auth.json",
                ],
            ),
            (
                vec![
                    ("DOCKER_CONFIG", "/d"),
                    ("XDG_RUNTIME_DIR", "/run/user/7"),
                    ("XDG_CONFIG_HOME", "/c"),
                ],
                vec![
                    "/d/config.json",
                    "/run/user/7/containers/auth.json",
                    "/c/containers/auth.json",
                ],
            ),
            (
                vec![("HOME", "/h"), ("REGISTRY_AUTH_FILE", "/a.json")],
                vec!["/h/.docker/config.json", "/a.json"],
            ),
        ] {
            let get = |name: &str| {
                env.iter()
                    .find(|(known, _)| *known == name)
                    .map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(files(&get, 7), expected.iter().map(PathBuf::from).collect::<Vec<_>>());
        }
    }

    #[tokio::test]
    async fn a_helper_is_named_by_a_plain_word_and_may_be_missing() {
        assert!(ask("../evil", "r").await.is_err());
        assert!(ask("no-such-helper-here", "r").await.is_err());
    }
}
