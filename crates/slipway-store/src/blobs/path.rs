//! Where each kind of blob lives below the root, and how names from outside become path segments.
//!
//! A path is built from segments that this module encodes, so that no name can leave its place: a
//! segment never contains `/`, is never `.` or `..`, and is never longer than file systems allow.
//! Distinct names give distinct segments.

use std::fmt::Write as _;

use object_store::path::Path;
use sha2::{Digest as _, Sha256};

/// The longest encoded segment. File systems allow 255 bytes; the local store appends a short
/// suffix while a file is being written.
const MAX_SEGMENT: usize = 200;

/// How much of a name that is too long stays readable.
const KEPT: usize = 100;

/// The blob of a file of an artifact, or of a manifest: by content, so that an entity stores the
/// same bytes once. `entity` is the owning entity's number.
#[must_use]
pub fn artifact(entity: i64, md5: &[u8; 16]) -> String {
    format!("artifacts/{entity}/{}", hex(md5))
}

/// The blob of a file that a run uploaded. `run` is the run's number: the files of a later run of
/// the same id are others.
#[must_use]
pub fn run_file(run: i64, name: &str) -> String {
    format!("{}/{}", run_files(run), segment(name))
}

/// The prefix of everything that a run uploaded.
#[must_use]
pub fn run_files(run: i64) -> String {
    format!("runs/{run}")
}

/// Encodes a name as one path segment. Letters, digits and characters that are safe everywhere stay
/// readable; `/` is encoded too, so that a run may have both a file `a` and a file `a/b`.
#[must_use]
pub fn segment(name: &str) -> String {
    let encoded = Path::default().join(name).to_string();
    // An empty name would vanish from the path. `~` is itself always encoded, so that these two
    // forms cannot be names.
    if encoded.is_empty() {
        return "~".to_owned();
    }
    if encoded.len() <= MAX_SEGMENT {
        return encoded;
    }
    let kept: String = encoded.chars().take(KEPT).collect();
    format!("{kept}~{}", hex(&Sha256::digest(name.as_bytes())))
}

/// Reads a blob path, as the functions of this module build it and as a signed address carries it.
/// `None` if it has an empty or relative segment, or a character that this module never writes.
#[must_use]
pub fn parse(path: &str) -> Option<Path> {
    let fits = !path.is_empty()
        && path
            .split('/')
            .all(|segment| !segment.is_empty() && segment.len() < 255);
    let plain = !path.contains(['\\', '#']) && !path.chars().any(char::is_control);
    if fits && plain { Path::parse(path).ok() } else { None }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_one_segment_that_stays_in_its_place() {
        let cases = [
            ("output.log", "output.log"),
            ("media/images/a=1.png", "media%2Fimages%2Fa=1.png"),
            ("..", "%2E%2E"),
            (".", "%2E"),
            ("../../etc/passwd", "..%2F..%2Fetc%2Fpasswd"),
            ("/etc/passwd", "%2Fetc%2Fpasswd"),
            ("a\\b", "a%5Cb"),
            ("50%.txt", "50%25.txt"),
            ("a#1", "a%231"),
            ("~", "%7E"),
            ("a\0b\n", "a%00b%0A"),
            ("", "~"),
        ];
        for (name, expected) in cases {
            assert_eq!(segment(name), expected, "{name:?}");
            let path = parse(&run_file(7, name)).expect("a built path parses");
            assert_eq!(path.parts_count(), 3, "{name:?}");
        }
    }

    #[test]
    fn long_and_foreign_names_stay_distinct_and_short() {
        let long = "図".repeat(300);
        let other = format!("{long}x");
        for name in [&long, &other] {
            assert!(segment(name).len() <= MAX_SEGMENT, "{}", segment(name).len());
            assert!(parse(&run_file(7, name)).is_some());
        }
        assert_ne!(segment(&long), segment(&other));
    }

    #[test]
    fn paths_from_outside_that_were_never_built_here_are_refused() {
        for path in [
            "",
            "/",
            "/runs/1/a",
            "runs//a",
            "runs/../a",
            "runs/./a",
            "a\\b",
            "a\nb",
            "runs/1/a#1",
            "a/",
        ] {
            assert_eq!(parse(path), None, "{path:?}");
        }
    }
}
