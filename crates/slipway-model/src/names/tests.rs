use std::collections::HashSet;

use super::*;
use crate::id::RunName;

#[test]
fn near_names_are_suggested_and_far_ones_not() {
    let known = ["memory", "gpus", "max_jobs", "queues", "env"];
    for (given, expected) in [
        ("memry", Some("memory")),
        ("memroy", Some("memory")),
        ("MEMORY", Some("memory")),
        ("gpu", Some("gpus")),
        ("max-jobs", Some("max_jobs")),
        ("maxjobs", Some("max_jobs")),
        ("queue", Some("queues")),
        ("evn", Some("env")),
        ("volume", None),
        ("", None),
        ("x", None),
    ] {
        assert_eq!(nearest(given, known), expected, "{given:?}");
    }
    assert_eq!(nearest("anything", []), None);
    assert_eq!(nearest(&"a".repeat(10_000), known), None);
}

#[test]
fn display_names_come_from_the_seed() {
    assert_eq!(display_name(0, 1), "amber-anchor-1");
    assert_eq!(display_name(65, 12), "ample-atoll-12");
    assert_eq!(display_name(u64::MAX, 0), display_name(u64::MAX, 0));
    let words: HashSet<&str> = ADJECTIVES.into_iter().chain(NOUNS).collect();
    assert_eq!(words.len(), ADJECTIVES.len() + NOUNS.len(), "no word twice");
}

fn run(entity: &str, project: &str, run: &str) -> RunName {
    RunName {
        entity: entity.to_owned(),
        project: project.to_owned(),
        run: run.to_owned(),
    }
}

#[test]
fn workload_names_are_labels_and_differ_by_run_and_attempt() {
    let runs = [
        run("a", "p", "r"),
        run("a", "p", "R"),
        run("a", "pr", ""),
        run("ap", "", "r"),
        run("a", "p", &"long-".repeat(40)),
        run("a", "p", &"long-".repeat(41)),
        run("a", "p", "änder/ung_1"),
        run("a", "p", "--"),
    ];
    let mut seen = HashSet::new();
    for run in &runs {
        for attempt in [1, 2, i64::MAX] {
            let name = workload_name(run, attempt);
            assert!(name.len() <= 63, "{name}");
            assert!(name.starts_with("launch-") && !name.contains("--"), "{name}");
            assert!(
                name.chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'),
                "{name}"
            );
            assert_eq!(name, workload_name(run, attempt));
            assert!(seen.insert(name));
        }
    }
    assert!(workload_name(&runs[0], 2).starts_with("launch-r-2-"));
}

#[test]
fn labels_keep_what_dns_allows() {
    for (text, limit, label) in [
        ("Abc", 9, "abc"),
        ("a_b.c", 9, "a-b-c"),
        ("__a__", 9, "a"),
        ("日本", 9, ""),
        ("abcdef", 4, "abcd"),
        ("abc-def", 4, "abc"),
    ] {
        assert_eq!(dns_label(text, limit), label, "{text:?}");
    }
}
