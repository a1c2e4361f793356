//! Queue configurations, JSON or YAML.
#![no_main]

use libfuzzer_sys::fuzz_target;
use slipway_model::config::parse_config;

fuzz_target!(|text: &str| {
    match parse_config(text) {
        Ok(value) => {
            assert!(value.is_object());
            assert_eq!(parse_config(&value.to_string()).as_ref(), Ok(&value));
        }
        Err(error) => assert!(error.line >= 1 && error.column >= 1),
    }
});
