use proptest::prelude::*;
use serde_json::json;

use super::*;

fn no_env(_: &str) -> Option<String> {
    None
}

fn file(text: &str) -> Result<Resolved, AgentConfigError> {
    resolve(Some(text), &no_env, &Flags::default())
}

#[test]
fn a_full_file_is_read() {
    let resolved = file(
        "entity: team\nqueues: [q1, q2]\nname: gpu-box\nmax_jobs: -1\nmax_schedulers: '8'\nsecure_mode: true\n\
         verbosity: 2\nhealth_address: localhost:8087\nstopped_run_timeout: 5\nstart_timeout: 0\ndrain_timeout: 1.5\n\
         environment: {type: gcp, region: us-central1}\nregistry: {type: ecr, uri: U}\n\
         builder:\n  type: kaniko\n  destination: reg.example.com/repo\n  build-context-store: s3://b/p\n  \
         build-job-name: job\n  platform: linux/arm64\n  kaniko-config: {spec: {a: 1}}\n\
         resource_args_policy: trust\nallowed_env: [HF_TOKEN]\nprocess:\n  enabled: true\n  env: [PATH]\n  work_dir: /var/jobs\n",
    )
    .unwrap();
    assert_eq!(resolved.warnings, []);
    for key in keys::top() {
        assert!(matches!(resolved.source(key), Source::File { .. }), "{key}");
    }
    let config = resolved.config;
    assert_eq!(config.entity.as_deref(), Some("team"));
    assert_eq!(config.queues, ["q1", "q2"]);
    assert_eq!((config.max_jobs, config.max_schedulers), (-1, 8));
    assert_eq!(config.stopped_run_timeout, Duration::from_secs(5));
    assert_eq!(config.start_timeout, None);
    assert_eq!(config.drain_timeout, Some(Duration::from_millis(1500)));
    assert_eq!(
        config.environment,
        Some(Environment::Gcp {
            region: "us-central1".to_owned(),
            project: None
        })
    );
    assert_eq!(config.registry.as_ref().unwrap().kind, Some(RegistryKind::Ecr));
    assert_eq!(config.builder.kind, Some(BuilderKind::Kaniko));
    assert_eq!(config.builder.kaniko_config, Some(json!({"spec": {"a": 1}})));
    assert_eq!(config.resource_args_policy, ResourceArgsPolicy::Trust);
    assert_eq!(config.allowed_env, ["HF_TOKEN"]);
    assert_eq!(config.process.work_dir.as_deref(), Some("/var/jobs"));
    let sent = config.to_value();
    assert_eq!(sent["builder"]["build-context-store"], "s3://b/p");
    assert_eq!(sent["environment"]["type"], "gcp");
}

#[test]
fn defaults_are_the_official_agents() {
    let resolved = file(
        "queues: [q]\nmax_jobs: null\nmax_schedulers:\nentity: null\nbuilder: {}\nregistry: {}\nenvironment: {}\n",
    )
    .unwrap();
    let expected = AgentConfig {
        queues: vec!["q".to_owned()],
        ..AgentConfig::default()
    };
    assert_eq!(resolved.config, expected);
    assert_eq!(resolved.source("max_jobs"), Source::Default);
    assert_eq!((expected.max_jobs, expected.max_schedulers), (1, 1));
}

#[test]
fn later_layers_win_and_say_so() {
    let env = |name: &str| match name {
        "WANDB_ENTITY" => Some("diffentity".to_owned()),
        "WANDB_LAUNCH_MAX_JOBS" => Some("5".to_owned()),
        "WANDB_LAUNCH_START_TIMEOUT" => Some("2.5".to_owned()),
        "SLIPWAY_AGENT_NAME" => Some("of-env".to_owned()),
        "SLIPWAY_AGENT_HEALTH_ADDRESS" => Some("127.0.0.1:1".to_owned()),
        _ => None,
    };
    let flags = Flags {
        max_jobs: Some(-1),
        queues: vec!["diff-queue".to_owned()],
        health_address: "127.0.0.1:2".parse().ok(),
        ..Flags::default()
    };
    let text = "entity: different-entity\nmax_jobs: 2\nqueues: [q]\nregistry: {uri: test}\n";
    let resolved = resolve(Some(text), &env, &flags).unwrap();
    assert_eq!(resolved.config.entity.as_deref(), Some("diffentity"));
    assert_eq!(resolved.config.max_jobs, -1);
    assert_eq!(resolved.config.queues, ["diff-queue"]);
    assert_eq!(resolved.config.start_timeout, Some(Duration::from_millis(2500)));
    assert_eq!(resolved.config.name.as_deref(), Some("of-env"));
    assert_eq!(resolved.config.health_address, "127.0.0.1:2".parse().ok());
    assert_eq!(resolved.config.registry.as_ref().unwrap().uri.as_deref(), Some("test"));
    for (key, source) in [
        ("entity", "environment variable WANDB_ENTITY"),
        ("max_jobs", "flag --max-jobs"),
        ("queues", "flag --queue"),
        ("registry", "configuration file, line 4"),
        ("name", "environment variable SLIPWAY_AGENT_NAME"),
        ("health_address", "flag --health-address"),
        ("verbosity", "default"),
    ] {
        assert_eq!(resolved.source(key).to_string(), source, "{key}");
    }
    let env_only = resolve(Some(text), &env, &Flags::default()).unwrap();
    assert_eq!(env_only.config.max_jobs, 5);
}

#[test]
fn a_builder_may_be_a_plain_word() {
    for kind in BuilderKind::ALL {
        let resolved = file(&format!("queues: [q]\nbuilder: {}\n", kind.as_str())).unwrap();
        assert_eq!(resolved.config.builder.kind, Some(kind));
    }
}

#[test]
fn aliases_and_underscores_are_understood() {
    let resolved = file("queues: [q]\nbuilder: {type: noop, uri: U, build_job_name: j}\nregistry: {url: V}\n").unwrap();
    assert_eq!(resolved.config.builder.destination.as_deref(), Some("U"));
    assert_eq!(resolved.config.builder.build_job_name.as_deref(), Some("j"));
    assert_eq!(resolved.config.registry.unwrap().uri.as_deref(), Some("V"));
    assert_eq!(resolved.warnings, []);
    let both = file("queues: [q]\nbuilder: {uri: U, destination: D}\n").unwrap();
    assert_eq!(both.config.builder.destination.as_deref(), Some("D"));
}

#[test]
fn unknown_keys_are_errors_at_the_top_and_warnings_in_blocks() {
    let error = file("queues: [q]\n\nmax_job: 3\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "line 3: unknown key `max_job`; did you mean `max_jobs`?"
    );
    for key in ["queue", "project", "runner", "base_url"] {
        let error = file(&format!("{key}: x\n")).unwrap_err();
        assert!(
            matches!(error, AgentConfigError::UnknownKey { line: 1, .. }),
            "{key}: {error}"
        );
    }
    let resolved =
        file("queues: [q]\nbuilder:\n  type: docker\n  destinaton: x\nenvironment: {type: azure, foo: 1}\n").unwrap();
    let warnings: Vec<String> = resolved.warnings.iter().map(Warning::to_string).collect();
    assert_eq!(
        warnings,
        [
            "line 4: unknown key `destinaton` in `builder` has no effect; did you mean `destination`?",
            "line 5: unknown key `foo` in `environment` has no effect",
        ]
    );
}

#[test]
fn wrong_values_are_refused_with_their_line() {
    for (text, message) in [
        (
            "max_jobs: -2\n",
            "`max_jobs` (configuration file, line 1): -2 is too small",
        ),
        (
            "max_jobs: 1.5\n",
            "line 1: `max_jobs` must be a whole number, not `1.5`",
        ),
        (
            "\nmax_schedulers: weird\n",
            "line 2: `max_schedulers` must be a whole number, not `weird`",
        ),
        ("queues: q\n", "line 1: `queues` must be a list of strings, not `q`"),
        (
            "queues: [a, a]\n",
            "`queues` (configuration file, line 1): `a` is listed twice",
        ),
        ("queues: [a/b]\n", "`queues` (configuration file, line 1)"),
        (
            "queues:\n  - a\n  - {b: 1}\n",
            "line 3: `queues` must be a string, not a map",
        ),
        (
            "secure_mode: 'no'\n",
            "line 1: `secure_mode` must be true or false, not `no`",
        ),
        (
            "health_address: 8087\n",
            "line 1: `health_address` must be a host with a port",
        ),
        ("verbosity: 3\n", "line 1: `verbosity` must be 0, 1 or 2, not `3`"),
        (
            "start_timeout: soon\n",
            "line 1: `start_timeout` must be a number of seconds, not `soon`",
        ),
        (
            "environment: {type: local}\n",
            "line 1: `environment.type` must be one of aws, gcp, azure, not `local`",
        ),
        ("environment: {type: aws}\n", "line 1: `environment.region` is missing"),
        ("environment: {region: x}\n", "line 1: `environment.type` is missing"),
        (
            "registry: {type: ecrr}\n",
            "line 1: `registry.type` must be one of ecr, gcr, acr, not `ecrr`",
        ),
        (
            "builder: make\n",
            "line 1: `builder.type` must be one of docker, kaniko, buildkit, noop, not `make`",
        ),
        (
            "builder: {platform: linux/s390x}\n",
            "`builder.platform` must be one of linux/amd64, linux/arm64",
        ),
        (
            "builder: {build-context-store: some/dir}\n",
            "`builder.build-context-store` must be s3://",
        ),
        ("builder: [x]\n", "line 1: `builder` must be a map, not a list"),
        (
            "resource_args_policy: maybe\n",
            "must be one of restrict, trust, not `maybe`",
        ),
        (
            "queues: [q]\nqueues: [r]\n",
            "line 2, column 1: the key `queues` occurs twice",
        ),
        (
            "queues:\n\t- q\n",
            "line 2, column 1: YAML may not be indented with tabs",
        ),
        (
            "- a\n",
            "line 1: the configuration must be a map of keys to values, not a list",
        ),
        ("entity: [", "line 1, column 9"),
        ("", "no queue to serve"),
        ("queues: []\n", "no queue to serve"),
        ("entity: team\n", "no queue to serve"),
    ] {
        let error = file(text).expect_err(text).to_string();
        assert!(error.contains(message), "{text:?}: {error}");
    }
}

#[test]
fn wrong_environment_variables_are_named() {
    for (name, value) in [
        ("WANDB_LAUNCH_MAX_JOBS", "many"),
        ("WANDB_LAUNCH_START_TIMEOUT", "NaN"),
        ("SLIPWAY_AGENT_HEALTH_ADDRESS", "localhost"),
    ] {
        let env = |asked: &str| (asked == name).then(|| value.to_owned());
        let error = resolve(Some("queues: [q]"), &env, &Flags::default()).unwrap_err();
        assert!(
            error.to_string().contains(&format!("environment variable {name}")),
            "{error}"
        );
    }
}

proptest! {
    #[test]
    fn no_text_makes_reading_panic(text in "(queues|max_jobs|builder|environment|process|[a-z]{1,4}|[:\\-\\[\\]{}&*!|>'\"%@` \n,#0-9.]){0,40}") {
        let _ = file(&text);
    }
}
