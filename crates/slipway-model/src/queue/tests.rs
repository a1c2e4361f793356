use super::*;

#[test]
fn names_are_held_to_their_rules() {
    let long = "x".repeat(65);
    for (checked, accepted) in [
        (check_queue_name("default"), true),
        (check_queue_name("GPU queue: big (8×A100)"), true),
        (check_queue_name(&"é".repeat(64)), true),
        (check_queue_name(&long), false),
        (check_queue_name(""), false),
        (check_queue_name("   "), false),
        (check_queue_name("a/b"), false),
        (check_queue_name("a\nb"), false),
        (check_project_name("my project"), true),
        (check_project_name("a#b"), false),
        (check_project_name("a%2f"), false),
        (check_project_name("a:b"), false),
        (check_entity_name("team-1_x.y"), true),
        (check_entity_name("..."), true),
        (check_project_name(".hidden"), true),
        (check_entity_name("Settings"), false),
        (check_entity_name("a b"), false),
        (check_entity_name("ä"), false),
        (check_entity_name(&long), false),
    ] {
        assert_eq!(checked.is_ok(), accepted, "{checked:?}");
    }
    for name in [".", ".."] {
        for checked in [
            check_queue_name(name),
            check_project_name(name),
            check_entity_name(name),
        ] {
            let refused = checked.unwrap_err().to_string();
            assert!(refused.contains(&format!("`{name}` is no name")), "{refused}");
        }
    }
    assert_eq!(
        check_queue_name(&long).unwrap_err().to_string(),
        "the name of a queue has at most 64 characters; this one has 65"
    );
}

#[test]
fn words_of_a_command_are_quoted_where_a_shell_needs_it() {
    for (word, quoted) in [
        ("q-1", "q-1"),
        ("my queue", "'my queue'"),
        ("a'b", "'a'\\''b'"),
        ("", "''"),
    ] {
        assert_eq!(shell_word(word), quoted);
    }
}

#[test]
fn resources_are_known_by_their_words_and_older_ones() {
    for resource in Resource::ALL {
        assert_eq!(resource.as_str().parse(), Ok(resource));
        assert_eq!(serde_json::to_value(resource).unwrap(), resource.as_str());
    }
    assert_eq!("local".parse(), Ok(Resource::LocalContainer));
    assert_eq!("vertex".parse(), Ok(Resource::GcpVertex));
    assert_eq!("slurm".parse::<Resource>(), Err(ResourceError("slurm".to_owned())));
}

#[test]
fn a_policy_has_no_other_keys() {
    assert_eq!(
        serde_json::from_str::<QueuePolicy>("{}").unwrap(),
        QueuePolicy::default()
    );
    assert!(serde_json::from_str::<QueuePolicy>(r#"{"allow_overrides": []}"#).is_err());
}
