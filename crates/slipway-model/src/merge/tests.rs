use proptest::prelude::*;
use serde_json::json;

use super::*;

fn value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..3).prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::from),
    ];
    scalar.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-d/~]{1,2}", inner, 0..4).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

fn map() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[a-d/~]{1,2}", value(), 0..4).prop_map(|map| map.into_iter().collect())
}

/// Maps that agree on which keys hold maps: where a scalar meets a map it hides what was there, and
/// then the order of merging matters.
fn typed() -> impl Strategy<Value = Value> {
    let leaves = || prop::collection::btree_map("[a-c]", 0_i64..9, 0..3);
    let inner = (leaves(), prop::option::of(leaves())).prop_map(|(leaves, deeper)| {
        let mut map: Map<String, Value> = leaves.into_iter().map(|(key, value)| (key, json!([value]))).collect();
        map.extend(deeper.map(|deeper| ("m".to_owned(), json!(deeper))));
        map
    });
    (leaves(), prop::option::of(inner)).prop_map(|(leaves, inner)| {
        let mut map: Map<String, Value> = leaves.into_iter().map(|(key, value)| (key, value.into())).collect();
        map.extend(inner.map(|inner| ("m".to_owned(), Value::Object(inner))));
        Value::Object(map)
    })
}

/// The pointers of every scalar, list and empty map.
fn leaves(value: &Value) -> Vec<String> {
    let mut marked = Origins::new();
    mark(value, "", Origin::Queue, &mut marked);
    marked.into_keys().collect()
}

fn finalise(queue: &Value, submitted: &Value) -> FinalSpec {
    let spec = LaunchSpec::from_value(json!({"job": "j", "resource_args": {"kubernetes": submitted}})).unwrap();
    let config = json!({"resource_args": {"kubernetes": queue}});
    final_spec(
        &config,
        Some("kubernetes"),
        &TemplateVariables::default(),
        &Value::Null,
        spec,
    )
    .unwrap()
}

proptest! {
    #[test]
    fn an_empty_map_is_the_identity(a in map()) {
        prop_assert_eq!(&merge(a.clone(), &json!({})), &a);
        prop_assert_eq!(merge(json!({}), &a), a);
    }

    #[test]
    fn merging_is_idempotent(a in map()) {
        prop_assert_eq!(merge(a.clone(), &a), a);
    }

    #[test]
    fn merging_is_associative(a in typed(), b in typed(), c in typed()) {
        prop_assert_eq!(merge(merge(a.clone(), &b), &c), merge(a, &merge(b, &c)));
    }

    #[test]
    fn the_right_side_wins(a in map(), b in map()) {
        let merged = merge(a, &b);
        for pointer in leaves(&b) {
            let wanted = b.pointer(&pointer).unwrap();
            if wanted.as_object().is_none() {
                prop_assert_eq!(merged.pointer(&pointer), Some(wanted));
            }
        }
    }

    #[test]
    fn every_leaf_has_exactly_one_origin(queue in map(), submitted in map()) {
        let result = finalise(&queue, &submitted);
        let args = &result.spec["resource_args"]["kubernetes"];
        let mut expected = leaves(args);
        if args.as_object().is_some_and(Map::is_empty) {
            expected.clear();
        }
        prop_assert_eq!(result.origins.keys().cloned().collect::<Vec<_>>(), expected);
        for (pointer, origin) in &result.origins {
            let at = args.pointer(pointer).unwrap();
            match origin {
                Origin::Submitter => prop_assert_eq!(submitted.pointer(pointer), Some(at)),
                _ => prop_assert_eq!(queue.pointer(pointer), Some(at)),
            }
        }
    }
}

#[test]
fn maps_merge_and_scalars_and_lists_replace() {
    let queue = json!({"a": {"x": 1, "y": 2}, "list": [1, 2], "s": "q", "gone": {"k": 1}});
    let over = json!({"a": {"y": 3, "z": 4}, "list": [9], "gone": null, "new": {"n": []}});
    assert_eq!(
        merge(queue, &over).to_string(),
        r#"{"a":{"x":1,"y":3,"z":4},"list":[9],"s":"q","gone":null,"new":{"n":[]}}"#
    );
}

#[test]
fn the_final_spec_says_where_each_value_comes_from() {
    let variables = TemplateVariables::from_value(json!({
        "gpus": {"schema": {"type": "integer", "default": 1}}, "tag": {"schema": {"type": "string"}},
    }))
    .unwrap();
    let config = json!({"resource_args": {"kubernetes": {
        "spec": {"gpus": "{{gpus}}", "image": "app:{{tag}}", "cpu": 2, "labels": {"a": "b"}}, "empty": {},
    }}});
    let spec = LaunchSpec::from_value(json!({
        "job": "j", "resource": null, "x-kept": true,
        "resource_args": {"kubernetes": {"spec": {"cpu": 4, "labels": {"c/d": "e"}}}, "sagemaker": {"ignored": 1}},
    }))
    .unwrap();
    let result = final_spec(&config, Some("kubernetes"), &variables, &json!({"tag": "v1"}), spec).unwrap();
    assert_eq!(
        result.spec,
        json!({
            "job": "j", "resource": "kubernetes", "x-kept": true,
            "resource_args": {
                "kubernetes": {
                    "spec": {"gpus": 1, "image": "app:v1", "cpu": 4, "labels": {"a": "b", "c/d": "e"}}, "empty": {},
                },
                "sagemaker": {"ignored": 1},
            },
        })
    );
    let origins: Vec<(&str, &str)> = result
        .origins
        .iter()
        .map(|(path, origin)| (path.as_str(), origin.as_str()))
        .collect();
    assert_eq!(
        origins,
        [
            ("/empty", "queue"),
            ("/spec/cpu", "submitter"),
            ("/spec/gpus", "template"),
            ("/spec/image", "template"),
            ("/spec/labels/a", "queue"),
            ("/spec/labels/c~1d", "submitter"),
        ]
    );
}

#[test]
fn a_queue_without_configuration_leaves_the_spec_as_it_is() {
    let spec = LaunchSpec::from_value(json!({"job": "j", "resource": "sagemaker"})).unwrap();
    let none = TemplateVariables::default();
    let result = final_spec(&Value::Null, None, &none, &Value::Null, spec).unwrap();
    assert_eq!(
        result.spec,
        json!({"job": "j", "resource": "sagemaker", "resource_args": {"sagemaker": {}}})
    );
    assert!(result.origins.is_empty());
}

#[test]
fn a_variable_without_value_is_refused() {
    let variables = TemplateVariables::from_value(json!({"v": {"schema": {"type": "string"}}})).unwrap();
    let config = json!({"resource_args": {"kubernetes": {"a": "{{v}}"}}});
    let spec = LaunchSpec::from_value(json!({"job": "j"})).unwrap();
    let error = final_spec(&config, Some("kubernetes"), &variables, &Value::Null, spec).unwrap_err();
    assert!(error.to_string().contains("`v` has no default"), "{error}");
}

#[test]
fn what_a_submitter_repeats_stays_the_queues() {
    let queue = json!({"volume": ["/data:/data"], "env": {"A": "1"}, "memory": "1g"});
    let result = finalise(
        &queue,
        &json!({"volume": ["/data:/data"], "env": {"A": "1", "B": "2"}, "memory": "2g"}),
    );
    let submitter: Vec<&str> = result
        .origins
        .iter()
        .filter(|(_, origin)| **origin == Origin::Submitter)
        .map(|(path, _)| path.as_str())
        .collect();
    assert_eq!(submitter, ["/env/B", "/memory"]);
}

#[test]
fn the_submitters_part_is_what_is_not_known_to_be_anybody_elses() {
    let args = json!({"env": {"A": "1", "B": "2"}, "volume": ["/x:/x"], "gpus": 1, "none": {}});
    let mut origins = Origins::new();
    mark(&args, "", Origin::Queue, &mut origins);
    assert_eq!(submitted(&args, &origins), None);
    origins.insert("/env/B".to_owned(), Origin::Submitter);
    origins.insert("/gpus".to_owned(), Origin::Template);
    origins.remove("/volume");
    let part = submitted(&args, &origins);
    assert_eq!(part, Some(json!({"env": {"B": "2"}, "volume": ["/x:/x"]})));
    for empty in [json!(null), json!({})] {
        assert_eq!(submitted(&empty, &Origins::new()), None);
    }
}
