//! The schema as a whole: its text, and the documents that official clients send.

use std::path::{Path, PathBuf};

use super::compat::OfficialOnly;
use super::validate_only::{VALID, ValidateOnly};
use super::{builder, schema};

fn crate_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

#[tokio::test]
async fn documents_of_official_clients_are_valid() {
    let schema = builder().extension(OfficialOnly).extension(ValidateOnly).finish();
    let mut invalid = Vec::new();
    let mut count = 0;
    // Those that our own client takes from the official one, and its others.
    let mut paths = Vec::new();
    for directory in ["tests/documents", "../slipway-wire/graphql/official"] {
        let entries = std::fs::read_dir(crate_path(directory)).expect("the documents");
        paths.extend(entries.map(|entry| entry.expect("an entry").path()));
    }
    for path in paths {
        let document = std::fs::read_to_string(&path).expect("a document");
        let answer = schema.execute(document.as_str()).await;
        count += 1;
        for error in answer.errors {
            if error.message != VALID {
                invalid.push(format!("{}: {}", path.display(), error.message));
            }
        }
    }
    assert!(count > 30, "only {count} documents");
    assert!(invalid.is_empty(), "{}", invalid.join("\n"));
}

/// `schema.graphql` shows reviewers what changes for clients. Rewrite it with
/// `SLIPWAY_UPDATE_SNAPSHOTS=1 cargo test -p slipway-server schema_text`.
#[test]
fn schema_text_is_the_one_under_review() {
    let path = crate_path("schema.graphql");
    let sdl = schema(false).sdl();
    if std::env::var_os("SLIPWAY_UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, &sdl).expect("schema.graphql is written");
    }
    let reviewed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        sdl == reviewed,
        "the schema differs from schema.graphql: see the comment of this test"
    );
}
