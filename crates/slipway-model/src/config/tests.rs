use serde_json::json;

use super::*;

#[test]
fn json_and_yaml_give_the_same_value_with_keys_in_order() {
    let yaml = "gpus: all\nenv:\n  - A=1\n  - B\nrm: true\nnested:\n  z: 1\n  a: 2.5\n  none: null\n";
    let json = r#"{"gpus": "all", "env": ["A=1", "B"], "rm": true, "nested": {"z": 1, "a": 2.5, "none": null}}"#;
    let value = parse_config(yaml).unwrap();
    assert_eq!(value, parse_config(json).unwrap());
    assert_eq!(value.to_string(), parse_config(json).unwrap().to_string());
    let keys: Vec<&String> = value["nested"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["z", "a", "none"]);
}

#[test]
fn blank_text_is_an_empty_configuration() {
    for text in ["", "  \n\t \n", "# nothing yet\n", "null", "{}", "---\n", "\u{feff}"] {
        assert_eq!(parse_config(text), Ok(json!({})), "{text:?}");
    }
}

#[test]
fn template_variables_need_no_quotes() {
    for (text, expected) in [
        ("gpu: {{gpus}}", json!({"gpu": "{{gpus}}"})),
        ("gpu: \"{{gpus}}\"", json!({"gpu": "{{gpus}}"})),
        ("gpu: '{{gpus}}'  # how many", json!({"gpu": "{{gpus}}"})),
        ("gpu: {{ gpus }}   # how many", json!({"gpu": "{{ gpus }}"})),
        (
            "InstanceType : \"{{aws_instance}}\" ",
            json!({"InstanceType": "{{aws_instance}}"}),
        ),
        ("a: {{x-1}}\nb: {{y.z}}\n", json!({"a": "{{x-1}}", "b": "{{y.z}}"})),
        (
            "image: {{registry}}/app:{{tag}} # the image",
            json!({"image": "{{registry}}/app:{{tag}}"}),
        ),
        ("image: repo/app:{{tag}}", json!({"image": "repo/app:{{tag}}"})),
        ("say: {{x}} \"and\" \\more", json!({"say": "{{x}} \"and\" \\more"})),
        ("list:\n  - {{a}}\n  - - {{b}}\n", json!({"list": ["{{a}}", ["{{b}}"]]})),
        ("list: [{{a}}, {{b}}, x]", json!({"list": ["{{a}}", "{{b}}", "x"]})),
        (
            "map: {k: {{a}}, l: [1, {{b}}]}",
            json!({"map": {"k": "{{a}}", "l": [1, "{{b}}"]}}),
        ),
        ("- {{a}}", json!(null)),
        (
            "run: |\n  echo {{x}}\n  {{y}}\ngpu: {{z}}\n",
            json!({"run": "echo {{x}}\n{{y}}\n", "gpu": "{{z}}"}),
        ),
        (
            "steps:\n  - run: >-\n      {{x}}\n    gpu: {{y}}\n  - |\n   {{z}}\n",
            json!({"steps": [{"run": "{{x}}", "gpu": "{{y}}"}, "{{z}}\n"]}),
        ),
        ("a: \"x\n  {{b}} y\"\nc: {{d}}", json!({"a": "x {{b}} y", "c": "{{d}}"})),
        (r#"{"gpu": {{gpus}}}"#, json!({"gpu": "{{gpus}}"})),
        (
            r#"{"a":{{x}},"b":[{{y}},"{{z}}"],"c":"\"{{q}}"}"#,
            json!({"a": "{{x}}", "b": ["{{y}}", "{{z}}"], "c": "\"{{q}}"}),
        ),
        ("{gpu: {{gpus}}}", json!({"gpu": "{{gpus}}"})),
        ("it's: {{x}}\n", json!({"it's": "{{x}}"})),
        ("\"quoted\": {{x}}\n", json!({"quoted": "{{x}}"})),
    ] {
        match parse_config(text) {
            Ok(value) => assert_eq!(value, expected, "{text:?}"),
            Err(error) => assert!(expected.is_null(), "{text:?}: {error}"),
        }
    }
}

#[test]
fn malformed_text_is_refused_where_it_is_wrong() {
    for (text, line, column, part) in [
        ("a: 1\na: 2\n", 2, 1, "`a` occurs twice"),
        (r#"{"a": 1, "a": 2}"#, 1, 12, "`a` occurs twice"),
        ("a:\n\tb: 1\n", 2, 1, "tabs"),
        ("a:\n  \tb: 1\n", 2, 3, "tabs"),
        ("a: [1,\n", 1, 4, "unclosed"),
        ("a: b: c\n", 1, 5, "mapping values"),
        ("gpus: all\n  x: 1\n", 2, 4, "mapping values"),
        (r#"{"a": tru}"#, 1, 10, "expected"),
        ("{\n  \"a\": 1,\n}", 3, 1, "trailing comma"),
        (r#"{"é": {{x}}, "b": }"#, 1, 19, "expected value"),
        ("x: {{v}}\ny: [{{v}}, *nope]\n", 2, 12, "anchor"),
        ("a: .inf\n", 1, 4, "finite"),
        ("- a\n- b\n", 1, 1, "not a list"),
        ("just words", 1, 1, "not a string"),
        ("a: 1\n---\nb: 2\n", 2, 1, "more than one"),
    ] {
        let error = parse_config(text).expect_err(text);
        assert!(error.to_string().contains(part), "{text:?}: {error}");
        assert_eq!((error.line, error.column), (line, column), "{text:?}: {error}");
    }
}

#[test]
fn a_refusal_of_tabs_says_what_to_do() {
    let error = parse_config("spec:\n\ttemplate: {}\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "line 2, column 1: YAML may not be indented with tabs (replace each tab by two spaces)"
    );
}

#[test]
fn size_depth_and_aliases_are_bounded() {
    let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n";
    for text in [
        format!("{{\"a\": {deep}}}"),
        format!("a: {deep}"),
        format!("a: {}", "x".repeat(crate::json::MAX_BYTES)),
        bomb.to_owned(),
        "[".repeat(100_000),
        "{\"a\":".repeat(100_000),
    ] {
        assert!(
            parse_config(&text).is_err(),
            "{}",
            text.chars().take(40).collect::<String>()
        );
    }
}

#[test]
fn numbers_that_are_names_stay_as_written() {
    let value = parse_config("zip: 012\nid: 1_000\nport: 8080\nyes: no\nbig: 18446744073709551615\n").unwrap();
    assert_eq!(
        value,
        json!({"zip": "012", "id": "1_000", "port": 8080, "yes": "no", "big": 18_446_744_073_709_551_615_u64})
    );
}

#[test]
fn stored_configurations_hold_arguments_below_their_resource() {
    let stored = json!({"resource_args": {"kubernetes": {"kind": "Job"}}});
    for args in [
        json!({"kind": "Job"}),
        json!({"kubernetes": {"kind": "Job"}}),
        stored.clone(),
    ] {
        assert_eq!(stored_config(Resource::Kubernetes, args), stored);
    }
    assert_eq!(resource_args(&stored, "kubernetes"), Some(&json!({"kind": "Job"})));
    assert_eq!(resource_args(&stored, "sagemaker"), None);
}
