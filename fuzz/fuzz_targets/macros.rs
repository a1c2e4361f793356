//! The final spec of an item, and the macros in it that an agent expands.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use slipway_model::macros::{MacroContext, expand};
use slipway_model::merge::final_spec;
use slipway_model::spec::LaunchSpec;
use slipway_model::template::TemplateVariables;

/// What the agent's environment holds: one name that a job may see and one that it may not.
fn environment(name: &str) -> Option<String> {
    match name {
        "HOME" => Some("/home/agent".to_owned()),
        "AGENT_TOKEN" => Some(SECRET.to_owned()),
        _ => None,
    }
}

const SECRET: &str = "\u{1}credential\u{1}";

fuzz_target!(|texts: (&str, &str, &str, &str)| {
    let (config, variables, values, spec) = texts;
    let read = |text| slipway_model::json::parse(text).unwrap_or(Value::Null);
    let (Ok(variables), Ok(spec)) = (TemplateVariables::parse(variables), LaunchSpec::parse(spec)) else {
        return;
    };
    let Ok(derived) = final_spec(&read(config), Some("local-process"), &variables, &read(values), &spec) else {
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
        let text = serde_json::to_string(&expanded).expect("JSON");
        let credential = serde_json::to_string(SECRET).expect("JSON");
        assert!(!text.contains(credential.trim_matches('"')), "a macro yields a credential");
    }
});
