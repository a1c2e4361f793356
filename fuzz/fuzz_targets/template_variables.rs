//! Template variables, and a configuration filled with values for them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use slipway_model::template::{TemplateVariables, fill};

fuzz_target!(|texts: (&str, &str, &str)| {
    let (variables, config, values) = texts;
    let Ok(variables) = TemplateVariables::parse(variables) else {
        return;
    };
    assert_eq!(TemplateVariables::from_value(variables.to_value()).as_ref(), Ok(&variables));
    let read = |text| slipway_model::json::parse(text).unwrap_or(Value::Null);
    if let Ok(filled) = fill(&read(config), &variables, &read(values)) {
        // Filling changes values, never the shape above them.
        assert_eq!(filled.is_object(), read(config).is_object());
    }
});
