//! Where the store keeps what a run uploads.

use slipway_store::blobs::path;

use crate::texts;

/// Names of files, and paths that a request brings. Texts: a name, another, a path.
pub fn blob_path(input: &[u8]) {
    let Some([name, other, outside]) = texts(input) else {
        return;
    };
    for name in [name, other] {
        let segment = path::segment(name);
        assert!(!matches!(segment.as_str(), "" | "." | ".."), "{name:?}");
        assert!(!segment.contains(['/', '\\', '\0']) && segment.len() <= 200, "{name:?}");
        let built = path::run_file(7, name);
        let parsed = path::parse(&built).expect("a path that was built here");
        assert_eq!(parsed.parts_count(), 3, "{name:?}");
        assert_eq!(parsed.as_ref(), built, "{name:?}");
    }
    assert_eq!(path::segment(name) == path::segment(other), name == other);
    if let Some(parsed) = path::parse(outside) {
        assert_eq!(parsed.as_ref(), outside);
        assert!(
            outside.split('/').all(|segment| !matches!(segment, "" | "." | "..")),
            "{outside:?}"
        );
    }
}
