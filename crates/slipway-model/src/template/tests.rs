use proptest::prelude::*;
use serde_json::json;

use super::*;

fn variables(value: Value) -> TemplateVariables {
    TemplateVariables::from_value(value).expect("the schema is valid")
}

#[test]
fn variables_round_trip_compactly_in_their_order() {
    let text = r#"{"n":{"schema":{"type":"integer","minimum":1,"maximum":4,"default":2},"description":"count"},"a":{"schema":{"type":"string","enum":["x","y"]},"description":"the a"}}"#;
    let variables = TemplateVariables::parse(text).unwrap();
    assert_eq!(variables.to_value().to_string(), text);
    let names: Vec<&str> = variables.variables().iter().map(|v| v.name.as_str()).collect();
    assert_eq!(names, ["n", "a"]);
    assert_eq!(variables.get("n").unwrap().expected(), "integer from 1 to 4");
    assert_eq!(variables.get("a").unwrap().expected(), r#"one of "x", "y""#);
}

#[test]
fn no_variables_may_be_written_in_several_ways() {
    for text in ["", "  ", "null", "{}"] {
        assert!(TemplateVariables::parse(text).unwrap().is_empty(), "{text:?}");
    }
}

#[test]
fn a_schema_that_contradicts_itself_is_refused() {
    for (schema, part) in [
        (
            json!({"type": "integer", "minimum": 4, "maximum": 1}),
            "minimum 4 is above maximum 1",
        ),
        (
            json!({"type": "integer", "minimum": 1, "maximum": 4, "default": 8}),
            "8 is above the maximum 4",
        ),
        (
            json!({"type": "number", "minimum": 0.5, "default": 0.1}),
            "0.1 is below the minimum 0.5",
        ),
        (
            json!({"type": "string", "enum": ["a"], "default": "b"}),
            "\"b\" is not one of \"a\"",
        ),
        (json!({"type": "string", "enum": []}), "`enum` is empty"),
        (json!({"type": "string", "enum": "a"}), "`enum` must be a list"),
        (json!({"type": "string", "enum": [1]}), "takes string, not 1"),
        (json!({"type": "string", "minimum": 1}), "`minimum` is for numbers"),
        (
            json!({"type": "integer", "minimum": "1"}),
            "`minimum` must be of type integer",
        ),
        (
            json!({"type": "integer", "minimum": 0.5}),
            "`minimum` must be of type integer",
        ),
        (json!({"type": "integer", "default": "2"}), "takes integer, not \"2\""),
        (
            json!({"type": "integer", "enum": [1, 9], "maximum": 4}),
            "9 is above the maximum 4",
        ),
        (
            json!({"type": "float"}),
            "`float` is not one of string, integer, number",
        ),
        (json!({"type": 3}), "must be a string"),
        (json!({"minimum": 3}), "needs a `type`"),
        (
            json!({"type": "string", "defualt": "a"}),
            "unknown key `defualt`; did you mean `default`?",
        ),
    ] {
        let error = TemplateVariables::from_value(json!({"v": {"schema": schema}})).expect_err(&schema.to_string());
        assert!(error.to_string().contains(part), "{schema}: {error}");
    }
}

#[test]
fn a_document_of_another_shape_is_refused() {
    for (document, part) in [
        (json!([]), "not a list"),
        (json!({"v": 1}), "`/v` must be a map with `schema`, not a number"),
        (json!({"v": {}}), "`/v/schema` must be a map with `type`"),
        (
            json!({"v": {"schema": {"type": "string"}, "descripton": ""}}),
            "did you mean `description`?",
        ),
        (
            json!({"v": {"schema": {"type": "string"}, "description": 1}}),
            "`/v/description` must be a string",
        ),
        (json!({"a b": {"schema": {"type": "string"}}}), "`a b`"),
        (json!({"": {"schema": {"type": "string"}}}), "a name begins"),
    ] {
        let error = TemplateVariables::from_value(document.clone()).expect_err(&document.to_string());
        assert!(error.to_string().contains(part), "{document}: {error}");
    }
}

#[test]
fn variables_are_found_once_each_wherever_they_stand() {
    let config = json!({
        "a": "{{x}}", "b": ["{{y}}", {"c": "pre-{{x}}-{{ z }}-post"}], "{{key}}": 1,
        "not": ["{{}}", "{{a b}}", "{x}", "{{{w}}}", "{{open", "${x}", "{{ .Values.x }}"],
    });
    assert_eq!(variables_in(&config), ["x", "y", "z", "w"]);
}

#[test]
fn a_variable_alone_keeps_its_type_and_within_text_becomes_text() {
    let variables = variables(json!({
        "n": {"schema": {"type": "integer", "minimum": 1, "maximum": 4, "default": 2}},
        "f": {"schema": {"type": "number"}},
        "s": {"schema": {"type": "string"}},
    }));
    let config = json!({"n": "{{n}}", "f": "{{f}}", "s": "{{s}}", "text": "n={{n}} f={{f}} s={{s}}", "other": 7});
    let filled = fill(&config, &variables, &json!({"n": 3.0, "f": 0.5, "s": "{{n}}"})).unwrap();
    assert_eq!(
        filled,
        json!({"n": 3, "f": 0.5, "s": "{{n}}", "text": "n=3 f=0.5 s={{n}}", "other": 7})
    );
    let filled = fill(&config, &variables, &json!({"n": null, "f": 1, "s": ""})).unwrap();
    assert_eq!(filled["n"], json!(2));
    assert_eq!(filled["f"], json!(1));
}

#[test]
fn the_wire_contracts_example_gives_the_string_one() {
    let variables = variables(json!({"var": {"schema": {"type": "string"}}}));
    let filled = fill(&json!({"e": "{{var}}"}), &variables, &json!({"var": "1"})).unwrap();
    assert_eq!(filled, json!({"e": "1"}));
}

#[test]
fn a_value_outside_the_template_is_refused_by_variable_and_bound() {
    let variables = variables(json!({
        "gpus": {"schema": {"type": "integer", "minimum": 1, "maximum": 4}},
        "kind": {"schema": {"type": "string", "enum": ["a", "b"]}},
    }));
    let config = json!({"g": "{{gpus}}", "k": "{{kind}}"});
    for (values, message) in [
        (
            json!({"gpus": 8, "kind": "a"}),
            "template variable `gpus`: 8 is above the maximum 4",
        ),
        (
            json!({"gpus": 0, "kind": "a"}),
            "template variable `gpus`: 0 is below the minimum 1",
        ),
        (
            json!({"gpus": "2", "kind": "a"}),
            "template variable `gpus` takes integer from 1 to 4, not \"2\"",
        ),
        (
            json!({"gpus": 1.5, "kind": "a"}),
            "template variable `gpus` takes integer from 1 to 4, not 1.5",
        ),
        (
            json!({"gpus": true, "kind": "a"}),
            "template variable `gpus` takes integer from 1 to 4, not true",
        ),
        (
            json!({"gpus": 1, "kind": "c"}),
            "template variable `kind`: \"c\" is not one of \"a\", \"b\"",
        ),
        (
            json!({"gpus": 1}),
            "template variable `kind` has no default: give it a value (one of \"a\", \"b\")",
        ),
        (
            json!({"gpu": 1, "kind": "a"}),
            "the queue has no template variable `gpu`; did you mean `gpus`?",
        ),
        (
            json!({"memory": 1}),
            "the queue has no template variable `memory`; it has `gpus`, `kind`",
        ),
        (
            json!([1]),
            "template variable values must be a map of names to values, not a list",
        ),
    ] {
        let error = fill(&config, &variables, &values).expect_err(&values.to_string());
        assert_eq!(error.to_string(), message);
    }
    let error = fill(&json!("{{other}}"), &variables, &json!({})).unwrap_err();
    assert_eq!(error, TemplateError::Undefined("other".to_owned()));
}

#[test]
fn large_integers_are_compared_exactly() {
    let variables = variables(json!({"n": {"schema": {"type": "integer", "maximum": 9_007_199_254_740_993_i64}}}));
    let variable = variables.get("n").unwrap();
    assert!(variable.check(&json!(9_007_199_254_740_993_i64)).is_ok());
    assert!(variable.check(&json!(9_007_199_254_740_994_i64)).is_err());
    assert!(variable.check(&json!(u64::MAX)).is_err());
    assert!(variable.check(&json!(1e300)).is_err());
}

#[test]
fn typed_text_becomes_a_value_of_the_variables_type() {
    let variables = variables(json!({
        "n": {"schema": {"type": "integer", "maximum": 4}},
        "s": {"schema": {"type": "string"}},
    }));
    assert_eq!(variables.get("n").unwrap().parse_text("3"), Ok(json!(3)));
    assert_eq!(variables.get("s").unwrap().parse_text("3"), Ok(json!("3")));
    assert!(variables.get("n").unwrap().parse_text("three").is_err());
    assert!(variables.get("n").unwrap().parse_text("8").is_err());
}

#[test]
fn a_configuration_may_only_use_defined_variables() {
    let variables = variables(json!({"a": {"schema": {"type": "string"}}, "b": {"schema": {"type": "string"}}}));
    assert_eq!(variables.check_config(&json!({"x": "{{a}}"})), Ok(()));
    assert_eq!(variables.unused_in(&json!({"x": "{{a}}"})), ["b"]);
    assert_eq!(
        variables.check_config(&json!({"x": "{{c}}"})).unwrap_err().to_string(),
        "the configuration uses `{{c}}`, for which there is no template variable; add it or remove the braces"
    );
}

proptest! {
    #[test]
    fn exactly_the_integers_within_bounds_are_accepted(low in -50_i64..50, span in 0_i64..50, value in -150_i64..150) {
        let high = low + span;
        let variables = variables(json!({"n": {"schema": {"type": "integer", "minimum": low, "maximum": high}}}));
        let accepted = variables.resolve(&json!({"n": value})).is_ok();
        prop_assert_eq!(accepted, (low..=high).contains(&value));
    }

    #[test]
    fn a_filled_configuration_is_free_of_the_variables_it_had(text in "[a-z{} ]{0,40}", value in "[a-z]{0,8}") {
        let variables = variables(json!({"x": {"schema": {"type": "string"}}}));
        let config = json!({"k": [format!("{text}{{{{x}}}}")]});
        if let Ok(filled) = fill(&config, &variables, &json!({"x": value})) {
            prop_assert!(filled["k"][0].as_str().unwrap().ends_with(&value));
        }
    }
}
