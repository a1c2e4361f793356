//! Every seed goes through its target once, and every target is a binary with seeds: what `make fuzz`
//! begins with is known to work without libFuzzer.

use std::fs;
use std::path::{Path, PathBuf};

use slipway_fuzz::TARGETS;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The files of a folder, sorted; none if there is no such folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    files
}

/// Where the seeds of a target are. Documents of real clients are what a mutation of one begins with.
fn seeds(target: &str) -> Vec<PathBuf> {
    match target {
        "graphql" => [
            "tests/documents",
            "../slipway-wire/graphql/official",
            "../slipway-wire/graphql/additions",
        ]
        .into_iter()
        .flat_map(|folder| files(&here("../crates/slipway-server").join(folder)))
        .collect(),
        _ => files(&here("seeds").join(target)),
    }
}

#[test]
fn every_seed_passes_its_target() {
    let mut broken = Vec::new();
    for (name, target) in TARGETS {
        let seeds = seeds(name);
        assert!(
            !seeds.is_empty(),
            "{name} has no seeds; put some into fuzz/seeds/{name}"
        );
        for seed in seeds {
            let bytes = fs::read(&seed).expect("a seed");
            for input in [&bytes[..], &bytes[..bytes.len() / 2], b""] {
                if std::panic::catch_unwind(|| target(input)).is_err() {
                    broken.push(format!("{name}: {}, {} bytes", seed.display(), input.len()));
                }
            }
        }
    }
    assert!(
        broken.is_empty(),
        "these break their targets, as is said above:\n{}",
        broken.join("\n")
    );
}

#[test]
fn every_target_is_a_binary_that_does_nothing_else() {
    let manifest = fs::read_to_string(here("Cargo.toml")).expect("the manifest");
    for (name, _) in TARGETS {
        let path = format!("fuzz_targets/{name}.rs");
        assert!(
            manifest.contains(&format!("[[bin]]\nname = \"{name}\"\npath = \"{path}\"\n")),
            "{name}"
        );
        let source = fs::read_to_string(here(&path)).expect("the binary's source");
        let expected =
            format!("#![no_main]\n\nlibfuzzer_sys::fuzz_target!(|input: &[u8]| slipway_fuzz::{name}(input));\n");
        assert_eq!(source, expected, "{path}");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
    for folder in [here("fuzz_targets"), here("seeds")] {
        for file in files(&folder) {
            let name = file.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
            assert!(
                TARGETS.iter().any(|(known, _)| *known == name),
                "{} is of no target",
                file.display()
            );
        }
    }
}

/// The lock file of this workspace follows the other one, so that what is fuzzed is what is built.
#[test]
fn versions_are_those_of_the_product() {
    let versions = |path: PathBuf| -> Vec<(String, String)> {
        let text = fs::read_to_string(path).expect("a lock file");
        let value = |line: Option<&str>| {
            line.and_then(|line| line.split('"').nth(1))
                .unwrap_or_default()
                .to_owned()
        };
        text.split("[[package]]\n")
            .skip(1)
            .map(|package| (value(package.lines().next()), value(package.lines().nth(1))))
            .collect()
    };
    let product = versions(here("../Cargo.lock"));
    for (name, version) in versions(here("Cargo.lock")) {
        let known: Vec<&String> = product
            .iter()
            .filter(|(other, _)| *other == name)
            .map(|(_, version)| version)
            .collect();
        assert!(
            known.is_empty() || known.contains(&&version),
            "{name} is {version} here and {known:?} there; copy Cargo.lock to fuzz/ and run `cargo metadata` in it"
        );
    }
}
