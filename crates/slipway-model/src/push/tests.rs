use serde_json::json;

use super::*;
use crate::merge::Origin;

struct Queue {
    resource: Option<Resource>,
    config: Value,
    variables: TemplateVariables,
    policy: QueuePolicy,
    prioritization: Prioritization,
}

fn queue(resource: Resource, args: Value, variables: Value) -> Queue {
    Queue {
        resource: Some(resource),
        config: json!({"resource_args": {resource.as_str(): args}}),
        variables: TemplateVariables::from_value(variables).unwrap(),
        policy: QueuePolicy::default(),
        prioritization: Prioritization::Disabled,
    }
}

fn docker() -> Queue {
    queue(
        Resource::LocalContainer,
        json!({"gpus": "all", "volume": "/a:/a"}),
        json!({}),
    )
}

fn guarded() -> Queue {
    queue(
        Resource::LocalContainer,
        json!({"gpus": "{{gpus}}", "memory": "8g"}),
        json!({"gpus": {"schema": {"type": "integer", "minimum": 1, "maximum": 4, "default": 1}}}),
    )
}

impl Queue {
    fn allowing(mut self, paths: &[&str]) -> Self {
        self.policy.allowed_overrides = paths.iter().map(|path| (*path).to_owned()).collect();
        self
    }

    fn push(
        &self,
        spec: Value,
        values: Value,
        priority: Option<i64>,
        is_owner: bool,
    ) -> Result<AcceptedPush, PushError> {
        let rules = QueueRules {
            resource: self.resource,
            config: &self.config,
            variables: &self.variables,
            policy: &self.policy,
            prioritization: self.prioritization,
        };
        let push = Push {
            pusher: "alice",
            is_owner,
            may_attribute_to: &["bob".to_owned()],
            spec: LaunchSpec::from_value(spec)?,
            template_values: values,
            priority,
        };
        check_push(rules, push)
    }

    fn accept(&self, spec: Value) -> AcceptedPush {
        self.push(spec, Value::Null, None, false).expect("the push is accepted")
    }

    fn refuse(&self, spec: Value) -> String {
        self.push(spec, Value::Null, None, false)
            .expect_err("the push is refused")
            .to_string()
    }
}

fn job() -> Value {
    json!({
        "job": "alice/proj/code-job:latest", "entity": "alice", "project": "Proj", "docker": {}, "git": {},
        "resource": null, "overrides": {"run_config": {"lr": 0.5}, "args": ["--foo", "1"]},
    })
}

fn with(extra: Value) -> Value {
    let (Value::Object(mut spec), Value::Object(extra)) = (job(), extra) else {
        unreachable!("both are objects")
    };
    spec.extend(extra);
    Value::Object(spec)
}

#[test]
fn a_run_id_that_no_run_can_have_is_refused_before_an_agent_takes_the_item() {
    for id in [".", "..", "a/b"] {
        let refused = docker().refuse(with(json!({"run_id": id})));
        assert!(
            refused.starts_with("the run spec's `/run_id`: ") && refused.contains("choose another"),
            "{refused}"
        );
    }
    docker().accept(with(json!({"run_id": "mine-1"})));
    docker().accept(with(json!({"run_id": ""})));
}

#[test]
fn an_accepted_push_is_completed_and_resolved() {
    let accepted = docker().accept(with(
        json!({"priority": 1, "resource_args": {"local-container": {"env": ["A=1"]}}}),
    ));
    assert_eq!(accepted.author, "alice");
    assert_eq!(accepted.priority, Priority::Medium);
    assert_eq!(accepted.resource, Resource::LocalContainer);
    assert_eq!(accepted.destination.project.as_deref(), Some("proj"));
    assert_eq!(accepted.destination.entity.as_deref(), Some("alice"));
    let stored = accepted.spec.into_value();
    assert_eq!(stored["author"], "alice");
    assert_eq!(stored["resource"], "local-container");
    assert_eq!(stored.get("priority"), None);
    assert_eq!(stored["resource_args"], json!({"local-container": {"env": ["A=1"]}}));
    assert_eq!(
        accepted.final_spec.spec["resource_args"]["local-container"],
        json!({"gpus": "all", "volume": "/a:/a", "env": ["A=1"]})
    );
    assert_eq!(accepted.final_spec.origins["/env"], Origin::Submitter);
    assert_eq!(accepted.final_spec.origins["/gpus"], Origin::Queue);
}

#[test]
fn exactly_one_thing_is_run() {
    let image = json!({"docker": {"docker_image": "img:1"}, "entity": "alice", "project": "p"});
    let scheduler = json!({
        "uri": "placeholder-uri-scheduler", "resource": "local-process",
        "overrides": {"entry_point": ["wandb", "scheduler", "sw1"]},
    });
    docker().accept(image);
    docker().accept(scheduler);
    docker().accept(json!({"image_uri": "img:1"}));
    for (spec, part) in [
        (
            with(json!({"docker": {"docker_image": "img:1"}})),
            "`/job` and `/docker/docker_image`",
        ),
        (json!({"entity": "alice"}), "names nothing to run"),
        (
            json!({"job": "", "docker": {"docker_image": ""}}),
            "names nothing to run",
        ),
        (json!({"uri": "https://example.com/repo.git"}), "names nothing to run"),
        (
            json!({"uri": "placeholder-x", "resource": "local-process", "overrides": {"entry_point": ["sh", "-c", "id"]}}),
            "must begin with `wandb scheduler`",
        ),
    ] {
        let message = docker().refuse(spec.clone());
        assert!(message.contains(part), "{spec}: {message}");
    }
}

#[test]
fn a_spec_never_carries_an_api_key() {
    for spec in [
        with(json!({"_wandb_api_key": "x"})),
        with(json!({"overrides": {"run_config": {"_wandb_api_key": "x"}}})),
    ] {
        let message = docker().refuse(spec);
        assert!(message.contains("may not carry an API key"), "{message}");
    }
    docker().accept(with(json!({"_wandb_api_key": null})));
}

#[test]
fn the_resource_is_the_queues() {
    let other = with(json!({"resource": "kubernetes"}));
    assert!(
        docker()
            .refuse(other.clone())
            .contains("this queue runs on local-container")
    );
    assert!(
        docker()
            .refuse(with(json!({"resource": "slurm"})))
            .contains("`slurm` is not one of")
    );
    let open = Queue {
        resource: None,
        config: Value::Null,
        ..docker()
    };
    assert_eq!(open.accept(other).resource, Resource::Kubernetes);
    assert!(open.refuse(job()).contains("no `/resource`"));
    let process = queue(Resource::LocalProcess, json!({}), json!({}));
    assert!(
        process
            .refuse(json!({"docker": {"docker_image": "i"}}))
            .contains("local-process")
    );
    // A scheduler's exception does not open the process target for jobs.
    let disguised = with(json!({"uri": "placeholder-uri-scheduler", "resource": "local-process"}));
    assert!(
        docker()
            .refuse(disguised)
            .contains("this queue runs on local-container")
    );
}

#[test]
fn a_scheduler_takes_nothing_from_a_queue_of_another_target() {
    let scheduler = json!({
        "uri": "placeholder-uri-scheduler", "resource": "local-process", "run_id": "sw1",
        "overrides": {"entry_point": ["wandb", "scheduler", "sw1"], "args": ["--queue", "q1"]},
    });
    let accepted = guarded().push(scheduler, json!({"gpus": 2}), None, false).unwrap();
    assert_eq!(accepted.final_spec.spec["resource_args"], json!({"local-process": {}}));
    assert_eq!(accepted.template_values["gpus"], 2);
}

#[test]
fn priorities_need_a_queue_that_has_them() {
    let plain = docker();
    let ranked = Queue {
        prioritization: Prioritization::V0,
        ..docker()
    };
    let push = |queue: &Queue, priority| {
        queue
            .push(job(), Value::Null, priority, false)
            .map(|accepted| accepted.priority)
            .map_err(|error| error.to_string())
    };
    assert_eq!(push(&plain, None), Ok(Priority::Medium));
    assert_eq!(push(&plain, Some(2)), Ok(Priority::Medium));
    assert!(push(&plain, Some(0)).unwrap_err().contains("no prioritization"));
    assert_eq!(push(&ranked, Some(0)), Ok(Priority::Critical));
    assert_eq!(push(&ranked, None), Ok(Priority::Medium));
    for out_of_range in [-1, 4, i64::MAX] {
        assert!(
            push(&ranked, Some(out_of_range))
                .unwrap_err()
                .contains("is not one of 0")
        );
    }
}

#[test]
fn the_author_is_the_pusher_unless_the_pusher_may_name_another() {
    for (author, expected) in [
        (json!(null), "alice"),
        (json!("alice"), "alice"),
        (json!("bob"), "bob"),
        (json!("eve"), "alice"),
    ] {
        let accepted = docker().accept(with(json!({"author": author})));
        assert_eq!(accepted.author, expected);
        assert_eq!(accepted.spec.author(), Some(expected));
    }
}

#[test]
fn template_variables_are_guardrails() {
    let accepted = guarded().push(job(), json!({"gpus": 3}), None, false).unwrap();
    assert_eq!(accepted.final_spec.spec["resource_args"]["local-container"]["gpus"], 3);
    assert_eq!(accepted.final_spec.origins["/gpus"], Origin::Template);
    let error = guarded().push(job(), json!({"gpus": 8}), None, false).unwrap_err();
    assert!(error.to_string().contains("8 is above the maximum 4"), "{error}");

    let around = with(json!({"resource_args": {"local-container": {"gpus": 8}}}));
    assert_eq!(
        guarded().refuse(around.clone()),
        "this queue has template variables, so `/resource_args/local-container/gpus` cannot be set directly: set its \
         variables instead (`gpus`)"
    );
    let owner = guarded().push(around.clone(), Value::Null, None, true).unwrap();
    assert_eq!(owner.final_spec.spec["resource_args"]["local-container"]["gpus"], 8);
    assert_eq!(owner.final_spec.origins["/gpus"], Origin::Submitter);

    guarded().allowing(&["/gpus"]).accept(around);
    let env = with(json!({"resource_args": {"local-container": {"env": ["A=1"], "memory": "9g"}}}));
    assert!(
        guarded()
            .allowing(&["/env"])
            .refuse(env.clone())
            .contains("local-container/memory")
    );
    guarded().allowing(&["env", "memory"]).accept(env);
    // An empty map is no way around either: it would replace the value.
    let emptied = with(json!({"resource_args": {"local-container": {"memory": {}}}}));
    assert!(guarded().refuse(emptied).contains("local-container/memory"));
}

#[test]
fn what_equals_the_queues_value_is_no_override() {
    let queue = guarded();
    let first = queue.push(job(), json!({"gpus": 3}), None, false).unwrap();
    let again = queue
        .push(first.final_spec.spec.clone(), json!({"gpus": 3}), None, false)
        .unwrap();
    assert_eq!(
        again.final_spec.spec["resource_args"],
        first.final_spec.spec["resource_args"]
    );
    assert!(
        queue
            .push(first.final_spec.spec, json!({"gpus": 2}), None, false)
            .is_err()
    );
    // A volume that the queue mounts itself may be repeated, another not.
    docker().accept(with(json!({"resource_args": {"local-container": {"volume": "/a:/a"}}})));
    docker().refuse(with(
        json!({"resource_args": {"local-container": {"volume": "/:/host"}}}),
    ));
}

#[test]
fn template_values_may_come_within_the_spec() {
    let within = with(json!({"template_variables": {"gpus": 4}}));
    let accepted = guarded().accept(within.clone());
    assert_eq!(accepted.template_values["gpus"], 4);
    assert_eq!(accepted.final_spec.spec.get("template_variables"), None);
    assert_eq!(accepted.final_spec.spec["resource_args"]["local-container"]["gpus"], 4);
    guarded().push(within.clone(), json!({"gpus": 4}), None, false).unwrap();
    let error = guarded().push(within, json!({"gpus": 3}), None, false).unwrap_err();
    assert_eq!(error, PushError::TwoTemplateValues);
    let error = docker().push(job(), json!({"gpus": 3}), None, false).unwrap_err();
    assert!(error.to_string().contains("it has none"), "{error}");
}

#[test]
fn additional_services_are_not_a_submitters() {
    let cluster = || queue(Resource::Kubernetes, json!({}), json!({}));
    let spec = with(json!({"additional_services": [{"name": "db", "config": {"kind": "Pod"}}]}));
    assert!(cluster().refuse(spec.clone()).contains("additional_services"));
    cluster().allowing(&["/additional_services"]).accept(spec.clone());
    cluster().push(spec, Value::Null, None, true).unwrap();
    cluster().accept(with(json!({"additional_services": []})));
}

#[test]
fn a_spec_of_the_wrong_shape_is_refused_by_path() {
    for (spec, part) in [
        (json!([]), "`/` must be an object, not a list"),
        (
            with(json!({"overrides": {"args": "--x"}})),
            "`/overrides/args` must be a list of strings, not a string",
        ),
        (
            with(json!({"overrides": {"args": ["a", 1]}})),
            "`/overrides/args/1` must be a string",
        ),
        (
            with(json!({"overrides": {"run_config": []}})),
            "`/overrides/run_config` must be an object",
        ),
        (
            with(json!({"overrides": {"entry_point": ["a"], "entrypoint": ["b"]}})),
            "mean the same",
        ),
        (with(json!({"overrides": []})), "`/overrides` must be an object"),
        (
            with(json!({"resource_args": {"local-container": "x"}})),
            "`/resource_args/local-container` must be an object",
        ),
        (
            with(json!({"docker": {"user_id": -1}})),
            "`/docker/user_id` must be a number, 0 or more",
        ),
        (with(json!({"project": 5})), "`/project` must be a string"),
    ] {
        let message = docker().refuse(spec.clone());
        assert!(message.contains(part), "{spec}: {message}");
    }
    let accepted = docker().accept(with(
        json!({"overrides": {"entrypoint": ["a"]}, "x-unknown": {"kept": [1]}}),
    ));
    assert_eq!(accepted.spec.overrides().entry_point, ["a"]);
    assert_eq!(accepted.spec.fields()["x-unknown"], json!({"kept": [1]}));
}
