use serde_json::json;

use super::*;
use crate::merge::Origin;

fn allowing(paths: &[&str]) -> QueuePolicy {
    QueuePolicy {
        allowed_overrides: paths.iter().map(|path| (*path).to_owned()).collect(),
        ..QueuePolicy::default()
    }
}

fn check(resource: Resource, args: &Value) -> Result<(), String> {
    check_submitter_args(resource, args, &QueuePolicy::default()).map_err(|error| error.to_string())
}

/// The shortest arguments that set a path, for checking that listing the path allows them.
fn path_of(error: &PolicyError) -> String {
    match error {
        PolicyError::NotAllowed { path, .. } => path.clone(),
        other => panic!("not a refusal: {other}"),
    }
}

#[test]
fn docker_options_that_shape_the_job_pass() {
    for args in [
        json!({}),
        json!(null),
        json!({"env": ["A=1", "B="], "gpus": "all", "shm-size": "8g", "ulimit": ["nofile=1", "core=0"]}),
        json!({"e": "A=1", "m": "1g", "w": "/x", "--cpus": 2, "CPU_SHARES": 512, "platform": "linux/amd64"}),
        json!({"env": {"A": "1", "B": 2}, "command": ["python", "x.py"], "pids_limit": 10}),
        json!({"builder": {"accelerator": {"base_image": "cuda:12"}}}),
    ] {
        assert_eq!(check(Resource::LocalContainer, &args), Ok(()), "{args}");
    }
}

#[test]
fn docker_options_that_reach_outside_are_refused_unless_listed() {
    for (args, option) in [
        (json!({"volume": "/:/host"}), "volume"),
        (json!({"v": "/:/host"}), "volume"),
        (json!({"--volume": ["/:/host"]}), "volume"),
        (json!({"VOLUME": "/:/host"}), "volume"),
        (json!({"privileged": true}), "privileged"),
        (json!({"network": "host"}), "network"),
        (json!({"net": "host"}), "network"),
        (json!({"device": "/dev/sda"}), "device"),
        (json!({"cap_add": "ALL"}), "cap-add"),
        (json!({"rm": true}), "rm"),
        (json!({"P": true}), "publish-all"),
        (json!({"entrypoint": "sh"}), "entrypoint"),
        (json!({"env-file": "/root/.env"}), "env-file"),
        (json!({"name": "x"}), "name"),
        (json!({"": "x"}), ""),
    ] {
        let error = check_submitter_args(Resource::LocalContainer, &args, &QueuePolicy::default()).unwrap_err();
        path_of(&error);
        assert!(error.to_string().contains("have the queue's owner list"), "{error}");
        if !option.is_empty() {
            let policy = allowing(&[option]);
            assert_eq!(
                check_submitter_args(Resource::LocalContainer, &args, &policy),
                Ok(()),
                "{args}"
            );
        }
    }
}

#[test]
fn env_without_a_value_would_read_the_agents_environment() {
    for args in [
        json!({"env": "HF_TOKEN"}),
        json!({"env": ["A=1", "HF_TOKEN"]}),
        json!({"e": ["=x"]}),
        json!({"env": {"HF_TOKEN": null}}),
    ] {
        for resource in [Resource::LocalContainer, Resource::LocalProcess] {
            if resource == Resource::LocalProcess && args.get("env").is_none() {
                continue;
            }
            let message = check(resource, &args).unwrap_err();
            assert!(message.contains("agent's environment"), "{args}: {message}");
        }
    }
    let policy = allowing(&["/env"]);
    assert_eq!(
        check_submitter_args(Resource::LocalContainer, &json!({"env": "HF_TOKEN"}), &policy),
        Ok(())
    );
}

#[test]
fn docker_values_have_types() {
    for args in [
        json!({"gpus": true}),
        json!({"gpus": ["a"]}),
        json!({"memory": {}}),
        json!({"memory": null}),
        json!({"env": 1}),
        json!({"env": [1]}),
        json!({"ulimit": [true]}),
        json!({"builder": "x"}),
        json!([]),
        json!("x"),
    ] {
        assert!(check(Resource::LocalContainer, &args).is_err(), "{args}");
    }
}

#[test]
fn a_process_takes_env_and_nothing_else() {
    assert_eq!(check(Resource::LocalProcess, &json!({"env": {"A": "x"}})), Ok(()));
    assert_eq!(check(Resource::LocalProcess, &json!({"env": ["A=x"]})), Ok(()));
    assert!(check(Resource::LocalProcess, &json!({"cwd": "/"})).is_err());
}

#[test]
fn kubernetes_refuses_what_loosens_confinement_wherever_it_stands() {
    for fragment in [
        json!({"securityContext": {"privileged": true}}),
        json!({"SecurityContext": {}}),
        json!({"hostPath": {"path": "/"}}),
        json!({"serviceAccountToken": {"path": "t"}}),
        json!({"hostPID": true}),
        json!({"hostIPC": "yes"}),
        json!({"hostNetwork": 1}),
        json!({"hostUsers": "TRUE"}),
        json!({"shareProcessNamespace": true}),
        json!({"automountServiceAccountToken": true}),
        json!({"hostPort": 80}),
        json!({"serviceAccountName": "admin"}),
        json!({"serviceAccount": "admin"}),
        json!({"nodeName": "n1"}),
        json!({"mountPropagation": "Bidirectional"}),
        json!({"annotations": {"container.apparmor.security.beta.kubernetes.io/c": "unconfined"}}),
        json!({"annotations": {"seccomp.security.alpha.kubernetes.io/pod": "Unconfined"}}),
        json!({"additional_services": [{}]}),
    ] {
        for args in [
            fragment.clone(),
            json!({"spec": {"template": {"spec": {"containers": [{"name": "c"}, fragment.clone()]}}}}),
        ] {
            let error = check_submitter_args(Resource::Kubernetes, &args, &QueuePolicy::default()).unwrap_err();
            let policy = allowing(&[&path_of(&error)]);
            assert_eq!(
                check_submitter_args(Resource::Kubernetes, &args, &policy),
                Ok(()),
                "{args}"
            );
        }
    }
}

#[test]
fn kubernetes_objects_of_other_kinds_are_the_queues_choice() {
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding"});
    assert!(
        check(Resource::Kubernetes, &role)
            .unwrap_err()
            .contains("which kind of object")
    );
    assert_eq!(
        check(Resource::Kubernetes, &json!({"apiVersion": "batch/v1", "kind": "Job"})),
        Ok(())
    );
    // Below the top these are ordinary keys, such as those of an object reference.
    assert_eq!(
        check(Resource::Kubernetes, &json!({"spec": {"ref": {"kind": "ConfigMap"}}})),
        Ok(())
    );
}

#[test]
fn kubernetes_passes_the_rest_and_what_is_switched_off() {
    for args in [
        json!({"spec": {"template": {"spec": {"containers": [{"env": [{"name": "A", "value": "1"}],
            "resources": {"limits": {"nvidia.com/gpu": 1}}}], "tolerations": []}}}, "metadata": {"labels": {"a": "b"}}}),
        json!({"hostNetwork": false, "hostPID": "false", "hostPort": 0, "serviceAccountName": ""}),
        json!({"securityContext": null}),
    ] {
        assert_eq!(check(Resource::Kubernetes, &args), Ok(()), "{args}");
    }
}

#[test]
fn listed_paths_cover_what_lies_below_and_any_list_item() {
    let args = json!({"spec": {"containers": [{"securityContext": {"runAsUser": 0}}]}});
    for path in [
        "/spec/containers/*/securityContext",
        "spec/containers",
        "/spec/containers/0/securityContext",
    ] {
        assert_eq!(
            check_submitter_args(Resource::Kubernetes, &args, &allowing(&[path])),
            Ok(()),
            "{path}"
        );
    }
    for path in [
        "/spec/containers/1/securityContext",
        "/spec/container",
        "securityContext",
        "/spec/*/securityContext",
    ] {
        assert!(
            check_submitter_args(Resource::Kubernetes, &args, &allowing(&[path])).is_err(),
            "{path}"
        );
    }
}

#[test]
fn cloud_identities_are_the_queues_choice() {
    for (resource, args, path) in [
        (Resource::Sagemaker, json!({"RoleArn": "arn"}), "/RoleArn"),
        (
            Resource::Sagemaker,
            json!({"a": [{"role_arn": "arn"}]}),
            "/a/0/role_arn",
        ),
        (
            Resource::GcpVertex,
            json!({"spec": {"service_account": "x"}}),
            "/spec/service_account",
        ),
        (
            Resource::GcpVertex,
            json!({"run": {"serviceAccount": "x"}}),
            "/run/serviceAccount",
        ),
    ] {
        let error = check_submitter_args(resource, &args, &QueuePolicy::default()).unwrap_err();
        assert_eq!(path_of(&error), path);
        assert_eq!(check_submitter_args(resource, &args, &allowing(&[path])), Ok(()));
    }
    assert_eq!(
        check(
            Resource::Sagemaker,
            &json!({"ResourceConfig": {"InstanceType": "ml.p3"}})
        ),
        Ok(())
    );
    assert_eq!(
        check(Resource::GcpVertex, &json!({"spec": {"worker_pool_specs": []}})),
        Ok(())
    );
}

#[test]
fn secure_mode_refuses_what_replaces_a_jobs_own_image_or_command() {
    let spec = |value| LaunchSpec::from_value(value).unwrap();
    let container = |args: Value| json!({"job": "j", "resource_args": {"local-container": args}});
    for value in [
        json!({"job": "j", "overrides": {"args": ["x"]}}),
        json!({"docker": {"docker_image": "a:b"}}),
        json!({"job": "j", "docker": {}}),
        container(json!({"memory": "1g", "command": null})),
        json!({"job": "j", "resource_args": {"local-process": {"env": ["A=1"]}}}),
    ] {
        assert_eq!(check_secure_mode(&spec(value.clone()), None), Ok(()), "{value}");
    }
    for (value, path) in [
        (json!({"overrides": {"entry_point": ["sh"]}}), "/overrides/entry_point"),
        (
            json!({"job": "j", "docker": {"docker_image": "a:b"}}),
            "/docker/docker_image",
        ),
        (json!({"job": "j", "image_uri": "a:b"}), "/image_uri"),
        (
            container(json!({"command": "sh"})),
            "/resource_args/local-container/command",
        ),
        (
            container(json!({"command": ["sh", "-c"]})),
            "/resource_args/local-container/command",
        ),
        (
            container(json!({"entrypoint": "sh"})),
            "/resource_args/local-container/entrypoint",
        ),
        (
            container(json!({"--Entrypoint": "sh"})),
            "/resource_args/local-container/--Entrypoint",
        ),
        (
            json!({"resource_args": {"kubernetes": {"spec": {"template": {"spec": {"containers": [{"command": ["sh"]}]}}}}}}),
            "/resource_args/kubernetes/spec/template/spec/containers/0/command",
        ),
        (
            json!({"resource_args": {"kubernetes": {"spec": {"hostNetwork": true}}}}),
            "/resource_args/kubernetes/spec/hostNetwork",
        ),
    ] {
        assert_eq!(
            check_secure_mode(&spec(value), None),
            Err(PolicyError::SecureMode(path.to_owned()))
        );
    }
}

#[test]
fn secure_mode_leaves_a_queues_own_command() {
    let spec = json!({"job": "j", "resource_args": {"local-container": {"command": "serve", "memory": "1g"}}});
    let spec = LaunchSpec::from_value(spec).unwrap();
    for (origin, allowed) in [
        (Origin::Queue, true),
        (Origin::Template, true),
        (Origin::Submitter, false),
    ] {
        let origins = [
            ("/command".to_owned(), origin),
            ("/memory".to_owned(), Origin::Submitter),
        ]
        .into();
        assert_eq!(check_secure_mode(&spec, Some(&origins)).is_ok(), allowed, "{origin:?}");
    }
}
