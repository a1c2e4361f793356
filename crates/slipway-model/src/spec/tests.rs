use serde_json::json;

use super::*;

#[test]
fn known_keys_are_read_and_unknown_ones_kept() {
    let text = r#"{"job":"alice/proj/code-job:latest","entity":"alice","project":"Proj","name":"my-run","docker":{},"git":{},"resource":null,"overrides":{"run_config":{"lr":0.5},"args":["--foo","1"],"entry_point":["python","x.py"],"dockerfile":"D","files":{"c.yaml":{"a":1}},"artifacts":{"in":"x"},"working_dir":"w"},"resource_args":{"local-container":{"env":["B=2"]}},"run_id":"r1","sweep_id":"s1","author":"bob","x-other":[1,{"y":null}],"_resume_count":2}"#;
    let spec = LaunchSpec::parse(text).unwrap();
    assert_eq!(spec.job(), Some("alice/proj/code-job:latest"));
    assert_eq!((spec.entity(), spec.project()), (Some("alice"), Some("Proj")));
    assert_eq!(spec.run_project().as_deref(), Some("proj"));
    assert_eq!(
        (spec.name(), spec.run_id(), spec.sweep_id()),
        (Some("my-run"), Some("r1"), Some("s1"))
    );
    assert_eq!(
        (spec.author(), spec.resource(), spec.docker_image()),
        (Some("bob"), None, None)
    );
    assert_eq!(spec.resume_count(), 2);
    assert!(!spec.is_scheduler());
    assert_eq!(spec.resource_args("local-container"), Some(&json!({"env": ["B=2"]})));
    assert_eq!(spec.resource_args("kubernetes"), None);
    let overrides = spec.overrides();
    assert_eq!(overrides.args, ["--foo", "1"]);
    assert_eq!(overrides.entry_point, ["python", "x.py"]);
    assert_eq!(overrides.run_config["lr"], 0.5);
    assert_eq!(
        (overrides.dockerfile.as_deref(), overrides.working_dir.as_deref()),
        (Some("D"), Some("w"))
    );
    assert_eq!(overrides.files["c.yaml"], json!({"a": 1}));
    assert_eq!(overrides.artifacts["in"], "x");
    assert_eq!(spec.into_value().to_string(), text);
}

#[test]
fn images_are_found_under_either_key() {
    for (value, image) in [
        (json!({"docker": {"docker_image": "a:1"}}), Some("a:1")),
        (json!({"image_uri": "b:1"}), Some("b:1")),
        (json!({"docker": {"docker_image": ""}, "image_uri": "b:1"}), Some("b:1")),
        (json!({"docker": {"docker_image": null}}), None),
    ] {
        assert_eq!(LaunchSpec::from_value(value).unwrap().docker_image(), image);
    }
}

#[test]
fn text_that_is_no_spec_is_refused_by_position_or_path() {
    for (text, part) in [
        ("", "line 1, column 1"),
        ("{\"job\": }", "line 1, column 9"),
        ("[]", "must be an object"),
        (r#"{"job": 1}"#, "`/job` must be a string, not a number"),
        (r#"{"job": "a", "job": "b"}"#, "`job` occurs twice"),
        (
            r#"{"resource_args": {"a/b": []}}"#,
            "`/resource_args/a~1b` must be an object",
        ),
        (r#"{"_resume_count": -1}"#, "`/_resume_count`"),
        (
            &format!("{{\"x\":{}1{}}}", "[".repeat(70), "]".repeat(70)),
            "nests deeper",
        ),
    ] {
        let error = LaunchSpec::parse(text).expect_err(text);
        assert!(error.to_string().contains(part), "{text}: {error}");
    }
}
