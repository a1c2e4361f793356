//! What the fuzz targets reach: what a submitter's job tells the agent to fetch.
//!
//! Each function panics if a value is accepted that must not be. Nothing here belongs into a program.

use slipway_wire::job::Git;

use crate::source::git;

/// Reads where a git job comes from: what is accepted names another machine and no option of a program.
pub fn git_source(remote: &str, commit: &str) {
    let source = Git {
        remote: remote.to_owned(),
        commit: Some(commit.to_owned()),
    };
    let Ok(reference) = git::reference(&source) else {
        return;
    };
    assert!(!reference.is_empty() && !reference.starts_with('-'));
    assert!(!remote.starts_with('-') && !remote.contains(['\n', '\0', ' ']));
    let authority = match remote.split_once("://") {
        Some((scheme @ ("https" | "ssh"), rest)) => {
            let shown = git::without_user_information(remote);
            let place = rest.split('/').next().unwrap_or_default();
            let host = place.rsplit('@').next().unwrap_or_default();
            let kept = shown.strip_prefix(&format!("{scheme}://{host}"));
            assert!(kept.is_some(), "{remote:?} is shown as {shown:?}");
            place
        }
        // `user@host:path`, where a second colon would name a program.
        _ => {
            let (place, path) = remote.split_once(':').expect("a host and a path");
            assert!(!place.contains('/') && !path.starts_with(':'), "{remote:?}");
            place
        }
    };
    // What ssh is told to connect to.
    for part in authority.split('@') {
        assert!(!part.starts_with('-'), "{remote:?} hands ssh an option");
    }
    assert!(
        !authority.ends_with('@') && !authority.is_empty(),
        "{remote:?} names no host"
    );
}
