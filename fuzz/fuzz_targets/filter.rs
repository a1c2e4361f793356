//! Filters and orders of the public API.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::json;
use slipway_model::filter::{Filter, Order};

fuzz_target!(|text: &str| {
    let record = json!({"state": "finished", "config": {"lr": {"value": 0.1}}, "tags": ["a", "b"]});
    if let Ok(filter) = Filter::parse(text) {
        let _ = filter.matches(&|path| record.pointer(&format!("/{}", path.replace('.', "/"))).cloned());
    }
    if let Ok(order) = Order::parse(text) {
        assert!(!order.keys.is_empty());
    }
});
