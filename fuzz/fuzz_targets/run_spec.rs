//! Pushed run specs, against a queue that guards its configuration.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use slipway_model::push::{Push, QueueRules, check_push};
use slipway_model::queue::{Prioritization, QueuePolicy, Resource};
use slipway_model::spec::LaunchSpec;
use slipway_model::template::TemplateVariables;

fuzz_target!(|input: (&str, &str, Option<i64>, u8)| {
    let (spec, values, priority, choice) = input;
    let Ok(spec) = LaunchSpec::parse(spec) else {
        return;
    };
    let variables = match choice & 1 {
        0 => Value::Null,
        _ => json!({"x": {"schema": {"type": "integer", "minimum": 1, "maximum": 4, "default": 1}}}),
    };
    let variables = TemplateVariables::from_value(variables).expect("the schema is valid");
    let resource = Resource::ALL[usize::from(choice >> 1) % Resource::ALL.len()];
    let config = match variables.is_empty() {
        true => json!({"resource_args": {resource.as_str(): {"a": {"b": 1}}}}),
        false => json!({"resource_args": {resource.as_str(): {"a": "{{x}}"}}}),
    };
    let rules = QueueRules {
        resource: Some(resource),
        config: &config,
        variables: &variables,
        policy: &QueuePolicy::default(),
        prioritization: Prioritization::V0,
    };
    let push = Push {
        pusher: "alice",
        is_owner: false,
        may_attribute_to: &[],
        spec,
        template_values: slipway_model::json::parse(values).unwrap_or(Value::Null),
        priority,
    };
    if let Ok(accepted) = check_push(rules, push) {
        assert_eq!(accepted.author, "alice");
        let args = &accepted.final_spec.spec["resource_args"][accepted.resource.as_str()];
        if accepted.resource == resource && !variables.is_empty() {
            assert!((1..=4).contains(&args["a"].as_i64().expect("the guarded value is an integer")));
        }
    }
});
