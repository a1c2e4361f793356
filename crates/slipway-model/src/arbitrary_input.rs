//! Whatever a submitter sends, the parsers answer: no panic, no unbounded work, and what they
//! accept they accept again.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::config::parse_config;
use crate::filter::{Filter, Order};
use crate::json;
use crate::macros::{MacroContext, expand};
use crate::policy::check_submitter_args;
use crate::push::{Push, QueueRules, check_push};
use crate::queue::{Prioritization, QueuePolicy, Resource};
use crate::spec::LaunchSpec;
use crate::template::{TemplateVariables, fill, variables_in};

/// Text that is nearly a document: pieces of JSON, YAML, variables and macros in any order.
fn nearly() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        8 => prop::sample::select(vec![
            "{", "}", "[", "]", "\"", "'", ":", ": ", ",", "\n", "\n  ", "\n- ", "- ", "#", " #", "|", ">-", "&a", "*a",
            "<<", "!!str", "---", "{{", "}}", "{{x}}", "${", "${run_id}", "\\", "\t", "null", "true", "1e400", "-0",
            "$and", "$regex", "\"$in\":", "schema", "type", "integer", "\"a\":", "a: ", "\u{feff}", "\r\n", "é", "\0",
        ])
        .prop_map(str::to_owned),
        1 => "[a-z0-9 ]{0,6}",
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

/// JSON values of the shapes that specs and arguments have, and of others.
fn value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z{}$/=~ ]{0,8}".prop_map(Value::from),
        prop::sample::select(vec!["{{x}}", "${WANDB_API_KEY}", "kubernetes", "placeholder-x", "A=1"])
            .prop_map(Value::from),
    ];
    let key = prop::sample::select(vec![
        "job",
        "docker",
        "docker_image",
        "overrides",
        "args",
        "entry_point",
        "run_config",
        "resource",
        "resource_args",
        "local-container",
        "kubernetes",
        "sagemaker",
        "env",
        "volume",
        "securityContext",
        "author",
        "uri",
        "_wandb_api_key",
        "template_variables",
        "additional_services",
        "builder",
        "",
        "a/b",
        "RoleArn",
        "schema",
        "type",
        "enum",
        "minimum",
    ]);
    scalar.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..6).prop_map(|entries| entries
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect()),
        ]
    })
}

fn push(spec: LaunchSpec, resource: Option<Resource>, config: &Value, values: Value, is_owner: bool) {
    let variables = json!({"x": {"schema": {"type": "integer", "minimum": 1, "default": 2}}});
    let variables = TemplateVariables::from_value(variables).expect("the schema is valid");
    let rules = QueueRules {
        resource,
        config,
        variables: &variables,
        policy: &QueuePolicy::default(),
        prioritization: Prioritization::Disabled,
    };
    let push = Push {
        pusher: "alice",
        is_owner,
        may_attribute_to: &[],
        spec,
        template_values: values,
        priority: None,
    };
    if let Ok(accepted) = check_push(rules, push) {
        assert!(accepted.final_spec.spec.is_object());
        assert_eq!(accepted.spec.author(), Some("alice"));
        assert!(!accepted.spec.into_value().to_string().contains("\"_wandb_api_key\":\""));
    }
}

proptest! {
    #[test]
    fn configurations(text in nearly()) {
        if let Ok(value) = parse_config(&text) {
            prop_assert!(value.is_object());
            let again = parse_config(&value.to_string());
            prop_assert_eq!(again, Ok(value.clone()));
            let _ = variables_in(&value);
        }
    }

    #[test]
    fn errors_point_into_the_text(text in nearly()) {
        if let Err(error) = parse_config(&text) {
            prop_assert!(error.line >= 1 && error.column >= 1);
            // YAML ends a line at a carriage return too.
            let lines = text.split(['\n', '\r']).count();
            prop_assert!(error.line <= lines, "{error} in {text:?}");
        }
    }

    #[test]
    fn template_variables(text in nearly(), document in value(), values in value()) {
        let _ = TemplateVariables::parse(&text);
        if let Ok(variables) = TemplateVariables::from_value(document.clone()) {
            let again = TemplateVariables::from_value(variables.to_value());
            prop_assert_eq!(again.as_ref(), Ok(&variables));
            let _ = fill(&document, &variables, &values);
        }
    }

    #[test]
    fn specs(text in nearly(), document in value(), config in value(), values in value(), is_owner in any::<bool>()) {
        let _ = LaunchSpec::parse(&text);
        if let Ok(spec) = LaunchSpec::from_value(document) {
            for resource in Resource::ALL.map(Some).into_iter().chain([None]) {
                push(spec.clone(), resource, &config, values.clone(), is_owner);
            }
        }
    }

    #[test]
    fn arguments(args in value()) {
        for resource in Resource::ALL {
            let _ = check_submitter_args(resource, &args, &QueuePolicy::default());
        }
        let context = MacroContext::default();
        let secret = |_: &str| Some("hush".to_owned());
        if let Ok(expanded) = expand(&json!({"a": args, "b": "${WANDB_API_KEY}"}), &context, &secret, &[]) {
            prop_assert!(false, "a secret got out: {expanded}");
        }
    }

    #[test]
    fn filters_and_orders(text in nearly(), document in value(), record in value()) {
        let _ = Order::parse(&text);
        let _ = Filter::parse(&text);
        if let Ok(filter) = Filter::from_value(&document) {
            let _ = filter.matches(&|path| record.get(path).cloned());
        }
    }

    #[test]
    fn json_agrees_with_the_library(text in nearly(), document in value()) {
        if let Ok(value) = json::parse(&text) {
            prop_assert_eq!(Some(value), serde_json::from_str(&text).ok());
        }
        prop_assert_eq!(json::parse(&document.to_string()).ok(), serde_json::from_str(&document.to_string()).ok());
    }
}
