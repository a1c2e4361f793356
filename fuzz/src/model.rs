//! What the server and the agent read with the model: configurations, variables, specs, ids, filters.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use slipway_model::config::parse_config;
use slipway_model::filter::{Filter, Order};
use slipway_model::id::{
    AgentId, ArtifactId, CollectionId, IdError, ItemId, ItemRef, LeaseHandle, ManifestId, QueueId, RevisionId, RunName,
};
use slipway_model::macros::{MacroContext, expand};
use slipway_model::merge::final_spec;
use slipway_model::push::{Push, QueueRules, check_push};
use slipway_model::queue::{Prioritization, QueuePolicy, Resource};
use slipway_model::spec::LaunchSpec;
use slipway_model::template::{TemplateVariables, fill};

use crate::{assert_no_secret, environment, json, texts};

/// Queue configurations, JSON or YAML.
pub fn config(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match parse_config(text) {
        Ok(value) => {
            assert!(value.is_object());
            assert_eq!(parse_config(&value.to_string()).as_ref(), Ok(&value));
        }
        Err(error) => assert!(error.line >= 1 && error.column >= 1),
    }
}

/// Template variables, and a configuration filled with values for them.
pub fn template_variables(input: &[u8]) {
    let Some([variables, config, values]) = texts(input) else {
        return;
    };
    let Ok(variables) = TemplateVariables::parse(variables) else {
        return;
    };
    assert_eq!(
        TemplateVariables::from_value(variables.to_value()).as_ref(),
        Ok(&variables)
    );
    if let Ok(filled) = fill(&json(config), &variables, &json(values)) {
        // Filling changes values, never the shape above them.
        assert_eq!(filled.is_object(), json(config).is_object());
    }
}

/// Pushed run specs, against a queue that guards its configuration. Texts: the spec, the template values,
/// the priority, and two words: whether the queue has variables, and its resource.
pub fn run_spec(input: &[u8]) {
    let Some([spec, values, priority, queue]) = texts(input) else {
        return;
    };
    let Ok(spec) = LaunchSpec::parse(spec) else { return };
    let (variables, resource) = queue.split_once(' ').unwrap_or((queue, ""));
    let variables = match variables {
        "guarded" => json!({"x": {"schema": {"type": "integer", "minimum": 1, "maximum": 4, "default": 1}}}),
        _ => Value::Null,
    };
    let variables = TemplateVariables::from_value(variables).expect("the schema is valid");
    let resource = Resource::ALL.into_iter().find(|known| known.as_str() == resource);
    let resource = resource.unwrap_or(Resource::LocalProcess);
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
        template_values: json(values),
        priority: priority.parse().ok(),
    };
    if let Ok(accepted) = check_push(rules, push) {
        assert_eq!(accepted.author, "alice");
        let args = &accepted.final_spec.spec["resource_args"][accepted.resource.as_str()];
        if accepted.resource == resource && !variables.is_empty() {
            assert!((1..=4).contains(&args["a"].as_i64().expect("the guarded value is an integer")));
        }
    }
}

/// The final spec of an item, and the macros in it that an agent expands. Texts: the configuration, its
/// variables, their values, the spec.
pub fn macros(input: &[u8]) {
    let Some([config, variables, values, spec]) = texts(input) else {
        return;
    };
    let (Ok(variables), Ok(spec)) = (TemplateVariables::parse(variables), LaunchSpec::parse(spec)) else {
        return;
    };
    let Ok(derived) = final_spec(&json(config), Some("local-process"), &variables, &json(values), spec) else {
        return;
    };
    assert!(derived.spec.is_object());
    let args = &derived.spec["resource_args"][derived.spec["resource"].as_str().unwrap_or_default()];
    for pointer in derived.origins.keys() {
        assert!(args.pointer(pointer).is_some(), "{pointer} has an origin and no value");
    }
    let context = MacroContext {
        author: Some("alice".to_owned()),
        ..MacroContext::default()
    };
    if let Ok(expanded) = expand(args, &context, &environment, &[]) {
        assert_no_secret(args, &expanded);
    }
}

/// Filters and orders of the public API.
pub fn filter(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let record = json!({"state": "finished", "config": {"lr": {"value": 0.1}}, "tags": ["a", "b"]});
    if let Ok(filter) = Filter::parse(text) {
        let _ = filter.matches(&|path| record.pointer(&format!("/{}", path.replace('.', "/"))).cloned());
    }
    if let Ok(order) = Order::parse(text) {
        assert!(!order.keys.is_empty());
    }
}

/// Ids and lease handles, as they come and as the text in them: each is printed as it was read.
pub fn ids(input: &[u8]) {
    let Some([text]) = texts(input) else { return };
    for text in [text, &URL_SAFE_NO_PAD.encode(text)] {
        let read = [
            reads_as::<QueueId>(text),
            reads_as::<ItemId>(text),
            reads_as::<AgentId>(text),
            reads_as::<RevisionId>(text),
            reads_as::<ArtifactId>(text),
            reads_as::<ManifestId>(text),
            reads_as::<CollectionId>(text),
            reads_as::<LeaseHandle>(text),
        ];
        assert!(
            read.into_iter().filter(|read| *read).count() <= 1,
            "{text:?} is two things"
        );
        if let Ok(item) = text.parse::<ItemRef>() {
            assert_eq!(text.parse::<LeaseHandle>().ok(), item.handle());
            assert_eq!(text.parse::<ItemId>().is_ok(), item.handle().is_none());
        }
        if let Ok(run) = RunName::from_storage_id(text) {
            assert_eq!(run.storage_id(), text);
        }
    }
}

/// Whether a text is an id of a kind; if so, it is printed again in one of base64's two alphabets.
fn reads_as<T: std::str::FromStr<Err = IdError> + std::fmt::Display>(text: &str) -> bool {
    let bare = |text: &str| text.trim_end_matches('=').replace('+', "-").replace('/', "_");
    match text.parse::<T>() {
        Ok(id) => {
            assert_eq!(bare(&id.to_string()), bare(text));
            true
        }
        Err(error) => {
            assert!(error.text.chars().count() <= 80, "an error repeats all of {text:?}");
            false
        }
    }
}
