use proptest::prelude::*;

use super::*;

#[test]
fn pointers_escape_what_they_must() {
    assert_eq!(child("", "a"), "/a");
    assert_eq!(child("/a", "b/c~d"), "/a/b~1c~0d");
    assert_eq!(child("/a", ""), "/a/");
}

#[test]
fn a_pointer_is_below_itself_and_its_parents() {
    for (pointer, root, expected) in [
        ("/a/b", "/a", true),
        ("/a/b", "a", true),
        ("/a/b", "/a/b", true),
        ("/a/b", "", true),
        ("/a/b", "/", true),
        ("/a/b", "/a/b/c", false),
        ("/ab", "/a", false),
        ("/a/0/c", "/a/*/c", true),
        ("/a/0/d", "/a/*/c", false),
        ("/a", "/*", true),
        ("", "/a", false),
    ] {
        assert_eq!(is_below(pointer, root), expected, "{pointer} below {root}");
    }
}

#[test]
fn positions_count_characters() {
    let error = parse("{\n  \"é\": \"ü\", x}").unwrap_err();
    assert_eq!((error.line, error.column), (2, 13));
    let error = parse("").unwrap_err();
    assert_eq!((error.line, error.column), (1, 1));
}

#[test]
fn values_as_deep_as_allowed_pass() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(parse(&nested(MAX_DEPTH)).is_ok());
    assert!(parse(&nested(MAX_DEPTH + 1)).is_err());
    assert!(parse(&nested(10_000)).is_err());
}

#[test]
fn too_much_text_is_refused_before_it_is_read() {
    let text = format!("\"{}\"", "x".repeat(MAX_BYTES));
    assert!(parse(&text).unwrap_err().message.contains("at most"));
}

/// What a program wrote as the shortest text of its number is that number, and the same text again.
#[test]
fn numbers_come_back_to_the_last_bit() {
    for text in [
        "0.30000000000000004",
        "1.7976931348623157e308",
        "5e-324",
        "7.777777777777777e54",
    ] {
        let value = parse(text).unwrap();
        assert_eq!(value.as_f64(), text.parse().ok(), "{text}");
    }
}

proptest! {
    #[test]
    fn every_number_comes_back_to_the_last_bit(bits: u64) {
        let number = f64::from_bits(bits);
        prop_assume!(number.is_finite());
        let text = Value::from(number).to_string();
        prop_assert_eq!(parse(&text).unwrap().as_f64().map(f64::to_bits), Some(bits));
    }
}
