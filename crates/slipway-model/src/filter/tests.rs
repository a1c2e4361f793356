use proptest::prelude::*;
use serde_json::json;

use super::*;

fn run(path: &str) -> Option<Value> {
    let record = json!({
        "state": "finished", "created_at": "2026-01-02T03:04:05", "tags": ["base", "v2"], "name": "abc", "group": null,
        "config": {"lr": {"value": 0.1}, "epochs": {"value": 10}}, "summary_metrics": {"loss": 0.5, "ok": true},
    });
    path.split('.').try_fold(&record, |at, key| at.get(key)).cloned()
}

fn passes(filter: Value) -> bool {
    Filter::from_value(&filter)
        .unwrap_or_else(|error| panic!("{filter}: {error}"))
        .matches(&run)
}

#[test]
fn conditions_hold_as_in_mongo() {
    for (filter, expected) in [
        (json!({}), true),
        (json!(null), true),
        (json!({"state": "finished"}), true),
        (json!({"state": "running"}), false),
        (json!({"state": "finished", "name": "x"}), false),
        (json!({"state": {"$in": ["running", "finished"]}}), true),
        (json!({"state": {"$nin": ["running", "finished"]}}), false),
        (json!({"state": {"$ne": "running"}}), true),
        (json!({"config.lr.value": 0.1}), true),
        (json!({"config.epochs.value": 10.0}), true),
        (json!({"config.lr.value": {"$gt": 0.01, "$lte": 0.1}}), true),
        (json!({"config.lr.value": {"$lt": 0.1}}), false),
        (json!({"config.lr.value": {"$gte": "0"}}), false),
        (json!({"summary_metrics.loss": {"$exists": true}}), true),
        (json!({"summary_metrics.acc": {"$exists": false}}), true),
        (json!({"summary_metrics.acc": {"$gt": 0}}), false),
        (json!({"summary_metrics.acc": null}), true),
        (json!({"group": null}), true),
        (json!({"summary_metrics.ok": true}), true),
        (json!({"tags": "v2"}), true),
        (json!({"tags": {"$in": ["v2", "v3"]}}), true),
        (json!({"tags": {"$nin": ["v3"]}}), true),
        (json!({"tags": {"$regex": "^b"}}), true),
        (json!({"name": {"$regex": "^AB", "$options": "i"}}), true),
        (json!({"name": {"$regex": "^AB"}}), false),
        (json!({"name": {"$not": {"$regex": "^z"}}}), true),
        (json!({"created_at": {"$gt": "2026-01-01"}}), true),
        (json!({"$and": [{"state": "finished"}, {"name": "abc"}]}), true),
        (json!({"$or": [{"state": "running"}, {"name": "abc"}]}), true),
        (json!({"$or": [{"state": "running"}, {"name": "x"}]}), false),
        (json!({"$nor": [{"state": "running"}, {"name": "x"}]}), true),
        (json!({"$not": {"state": "running"}}), true),
        (
            json!({"$and": [{"$or": [{"tags": "base"}]}], "state": {"$eq": "finished"}}),
            true,
        ),
        (json!({"config.lr": {"value": 0.1}}), true),
    ] {
        assert_eq!(passes(filter.clone()), expected, "{filter}");
    }
}

#[test]
fn malformed_filters_are_refused() {
    let nested = |depth: usize| format!("{}{{}}{}", "{\"$not\":".repeat(depth), "}".repeat(depth));
    for (text, part) in [
        ("{", "not valid JSON"),
        ("[]", "takes a map, not a list"),
        (r#"{"$xor": []}"#, "unknown operator `$xor`"),
        (r#"{"a": {"$like": 1}}"#, "unknown operator `$like`"),
        (r#"{"a": {"$in": 1}}"#, "`$in` takes a list, not a number"),
        (r#"{"$and": {}}"#, "`$and` takes a list of conditions, not a map"),
        (r#"{"a": {"$exists": 1}}"#, "`$exists` takes true or false"),
        (r#"{"a": {"$regex": "("}}"#, "not a usable regular expression"),
        (r#"{"a": {"$regex": 1}}"#, "`$regex` takes a string"),
        (
            r#"{"a": {"$regex": "a{1000}{1000}"}}"#,
            "not a usable regular expression",
        ),
        (r#"{"a": {"$regex": "a", "$options": "q"}}"#, "no option `q`"),
        (r#"{"a": {"$options": "i"}}"#, "unknown operator"),
        (r#"{"": 1}"#, "path"),
        (&nested(20), "more than"),
        (&json!({"a": {"$in": vec![1; 2000]}}).to_string(), "more than"),
        (&json!({"a": {"$regex": "a".repeat(600)}}).to_string(), "longer than"),
    ] {
        let error = Filter::parse(text).expect_err(text);
        assert!(error.to_string().contains(part), "{text}: {error}");
    }
}

#[test]
fn blank_filters_pass_everything() {
    for text in ["", " ", "null", "{}"] {
        assert!(Filter::parse(text).unwrap().matches(&|_| None), "{text:?}");
    }
}

#[test]
fn a_filter_tells_what_it_requires() {
    let filter = |value: Value| Filter::from_value(&value).unwrap();
    let sweep = json!("s1");
    assert_eq!(
        filter(json!({"$and": [{"sweep": "s1"}, {}]})).required("sweep"),
        Some(&sweep)
    );
    assert_eq!(
        filter(json!({"sweep": {"$in": ["s1"]}})).required("sweep"),
        Some(&sweep)
    );
    assert_eq!(
        filter(json!({"$or": [{"sweep": "s1"}, {"state": "x"}]})).required("sweep"),
        None
    );
    assert_eq!(filter(json!({"$not": {"sweep": "s1"}})).required("sweep"), None);
    assert_eq!(filter(json!({"sweep": {"$ne": "s1"}})).required("sweep"), None);
}

#[test]
fn orders_sort_with_absent_values_last() {
    let order = Order::parse("-summary_metrics.loss, +created_at").unwrap();
    assert_eq!(order.keys[0].path, "summary_metrics.loss");
    assert!(order.keys[0].descending && !order.keys[1].descending);
    let mut rows = [
        ("absent", vec![None, Some(json!("1"))]),
        ("low", vec![Some(json!(0.5)), Some(json!("3"))]),
        ("null", vec![Some(json!(null)), Some(json!("0"))]),
        ("high", vec![Some(json!(2)), Some(json!("4"))]),
        ("low, earlier", vec![Some(json!(0.5)), Some(json!("2"))]),
    ];
    rows.sort_by(|a, b| order.compare(&a.1, &b.1));
    let names: Vec<&str> = rows.iter().map(|row| row.0).collect();
    assert_eq!(names, ["high", "low, earlier", "low", "null", "absent"]);
    for text in ["", "+", "a,,b", "a,b,c,d,e,f,g,h,i"] {
        assert!(Order::parse(text).is_err(), "{text:?}");
    }
}

proptest! {
    #[test]
    fn not_is_the_opposite(bound in -2.0_f64..2.0, operator in prop::sample::select(vec!["$eq", "$ne", "$gt", "$lt", "$gte"])) {
        let plain = json!({"config.lr.value": {operator: bound}});
        prop_assert_ne!(passes(plain.clone()), passes(json!({"$not": plain})));
        prop_assert_ne!(passes(plain.clone()), passes(json!({"$nor": [plain]})));
    }
}
