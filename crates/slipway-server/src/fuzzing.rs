//! What the fuzz targets reach: parsers of what submitters and their jobs send, private otherwise.
//!
//! Each function panics if a parser accepts what it must not. Nothing here belongs into a program.

use serde_json::{Map, Value};
use tokio::runtime::{Builder, Runtime};

use crate::file_stream::body;
use crate::graphql::validate_only::DocumentChecks;
use crate::manifest;

/// Reads the body of a file_stream request: what passes as a line is one.
pub fn file_stream(bytes: &[u8]) {
    let Ok(update) = body::parse(bytes) else { return };
    for chunk in [&update.history, &update.events, &update.console].into_iter().flatten() {
        assert!(chunk.offset >= 0);
        assert!(i64::try_from(chunk.lines.len()).is_ok_and(|count| chunk.offset.checked_add(count).is_some()));
        assert!(chunk.lines.iter().all(|line| !line.contains('\0')));
    }
    for line in [&update.history, &update.events]
        .into_iter()
        .flatten()
        .flat_map(|chunk| &chunk.lines)
    {
        assert!(serde_json::from_str::<Map<String, Value>>(line).is_ok(), "{line:?}");
    }
}

/// Reads an artifact's manifest: every entry that must be held here names a digest.
pub fn artifact_manifest(bytes: &[u8]) {
    let Ok(entries) = manifest::stored_entries(bytes) else {
        return;
    };
    for entry in entries {
        assert!(manifest::is_md5(&entry.md5) && entry.size >= 0, "{entry:?}");
    }
}

/// The schema, to which documents are put without running them.
pub struct GraphQl {
    checks: DocumentChecks,
    runtime: Runtime,
}

impl Default for GraphQl {
    fn default() -> Self {
        Self {
            checks: DocumentChecks::new(),
            runtime: Builder::new_current_thread()
                .build()
                .expect("a runtime without timers and sockets"),
        }
    }
}

impl GraphQl {
    /// Parses and validates a document, as a request does before anything of it runs.
    pub fn check(&self, document: &str) {
        let errors = self.runtime.block_on(self.checks.check(document));
        assert!(!errors.is_empty(), "nothing may run");
    }
}
