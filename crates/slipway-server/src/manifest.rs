//! The manifest of an artifact as a client uploads it: which files belong to a version.
//!
//! Pure. The manifest is stored as it came; this module only reads from it what a commit must
//! check. Entries that point elsewhere (`ref`) have no bytes here and are not checked.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// The largest manifest that a commit reads, in bytes: about 300,000 files.
pub(crate) const MAX_MANIFEST: usize = 64 << 20;

/// Why a manifest is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ManifestError {
    /// Not JSON, or JSON of another shape.
    #[error("the manifest is not understood: {0}")]
    Malformed(String),
    /// A version of the format that this server does not know.
    #[error("the manifest has version {0}; this server reads version 1")]
    Version(i64),
    /// A digest that is not the base64 form of an MD5.
    #[error("manifest entry `{name}`: `{digest}` is not the base64 form of an MD5 digest")]
    Digest {
        /// The entry.
        name: String,
        /// What it says.
        digest: String,
    },
}

/// A file whose bytes the server must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredEntry {
    /// Its path within the artifact.
    pub(crate) name: String,
    /// Base64 of its MD5.
    pub md5: String,
    /// Bytes.
    pub(crate) size: i64,
}

#[derive(Deserialize)]
struct Manifest {
    version: i64,
    #[serde(default)]
    contents: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    digest: String,
    size: Option<i64>,
    #[serde(rename = "ref")]
    reference: Option<String>,
}

/// An entry whose bytes lie elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    /// Its path within the artifact.
    pub(crate) name: String,
    /// Where they are.
    pub(crate) target: String,
    /// Bytes, if the client knew.
    pub(crate) size: Option<i64>,
}

fn read(bytes: &[u8]) -> Result<BTreeMap<String, Entry>, ManifestError> {
    let manifest: Manifest =
        serde_json::from_slice(bytes).map_err(|error| ManifestError::Malformed(error.to_string()))?;
    if manifest.version != 1 {
        return Err(ManifestError::Version(manifest.version));
    }
    Ok(manifest.contents)
}

/// Reads the entries that point elsewhere, by name.
///
/// # Errors
/// If the manifest is not understood.
pub(crate) fn references(bytes: &[u8]) -> Result<Vec<Reference>, ManifestError> {
    let entries = read(bytes)?.into_iter();
    let references = entries.filter_map(|(name, entry)| {
        Some(Reference {
            name,
            target: entry.reference?,
            size: entry.size,
        })
    });
    Ok(references.collect())
}

/// Reads the entries whose bytes the server must hold, by name.
///
/// # Errors
/// If the manifest is not understood, or a digest is none.
pub(crate) fn stored_entries(bytes: &[u8]) -> Result<Vec<StoredEntry>, ManifestError> {
    read(bytes)?
        .into_iter()
        .filter(|(_, entry)| entry.reference.is_none())
        .map(|(name, entry)| {
            if !is_md5(&entry.digest) {
                return Err(ManifestError::Digest {
                    name,
                    digest: entry.digest.chars().take(80).collect(),
                });
            }
            Ok(StoredEntry {
                name,
                md5: entry.digest,
                size: entry.size.unwrap_or(0).max(0),
            })
        })
        .collect()
}

/// Whether a text is the base64 form of an MD5 digest.
#[must_use]
pub(crate) fn is_md5(text: &str) -> bool {
    STANDARD.decode(text).is_ok_and(|bytes| bytes.len() == 16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn entries_with_bytes_are_listed_and_references_left_out() {
        let manifest = r#"{"version":1,"storagePolicy":"wandb-storage-policy-v1","storagePolicyConfig":{"storageLayout":"V2"},
            "contents":{"wandb-job.json":{"digest":"7P3CuHO0eNjdGF3s8IJu7g==","size":503,"local_path":"/tmp/x"},
            "data":{"digest":"etag","ref":"s3://bucket/key","size":9}}}"#;
        assert_eq!(
            stored_entries(manifest.as_bytes()),
            Ok(vec![StoredEntry {
                name: "wandb-job.json".to_owned(),
                md5: "7P3CuHO0eNjdGF3s8IJu7g==".to_owned(),
                size: 503
            }])
        );
        assert_eq!(
            references(manifest.as_bytes()),
            Ok(vec![Reference {
                name: "data".to_owned(),
                target: "s3://bucket/key".to_owned(),
                size: Some(9)
            }])
        );
        assert_eq!(stored_entries(br#"{"version":1}"#), Ok(vec![]));
    }

    #[test]
    fn other_texts_are_refused() {
        for (text, part) in [
            ("", "EOF"),
            ("[]", "invalid"),
            ("{\"version\":2,\"contents\":{}}", "version 2"),
            ("{\"version\":1,\"contents\":[]}", "invalid type"),
            ("{\"version\":1,\"contents\":{\"a\":{\"digest\":\"zz\"}}}", "`a`: `zz`"),
            ("{\"version\":1,\"contents\":{\"a\":{}}}", "`a`: ``"),
        ] {
            let error = stored_entries(text.as_bytes()).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = stored_entries(&bytes);
        }
    }
}
