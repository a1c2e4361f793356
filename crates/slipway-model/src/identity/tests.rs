use super::*;

#[test]
fn imported_keys_pass_the_clients_rule() {
    let forty = "a".repeat(40);
    for (key, expected) in [
        (forty.clone(), Ok(())),
        (format!("local-{forty}"), Ok(())),
        (format!("{KEY_PREFIX}{}", "Z9".repeat(22)), Ok(())),
        (format!("a-b-{}", "c".repeat(38)), Ok(())),
        ("a".repeat(39), Err(KeyError::Short(39))),
        (format!("{forty}-short"), Err(KeyError::Short(5))),
        (String::new(), Err(KeyError::Short(0))),
        (format!("{forty} "), Err(KeyError::Character)),
        (format!("{forty}é"), Err(KeyError::Character)),
    ] {
        assert_eq!(check_imported_key(&key), expected, "{key:?}");
    }
}

#[test]
fn roles_rise_from_viewer_to_admin() {
    assert!(Role::Viewer < Role::Member && Role::Member < Role::Admin);
    for role in [Role::Viewer, Role::Member, Role::Admin] {
        assert_eq!(Role::parse(role.as_str()), Some(role));
    }
    assert_eq!(Role::parse("owner"), None);
}
