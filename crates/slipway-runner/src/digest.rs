//! Short names for long facts.

use sha2::{Digest as _, Sha256};

/// Eight hexadecimal digits that tell lists of texts apart: enough for names, not against attackers.
#[must_use]
pub fn short_digest<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        // Without an end to each part ["ab", "c"] and ["a", "bc"] would be one list.
        hash.update([0]);
    }
    hash.finalize()
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::short_digest;

    #[test]
    fn lists_of_other_parts_have_other_digests() {
        assert_eq!(short_digest(["ab", "c"]).len(), 8);
        assert_ne!(short_digest(["ab", "c"]), short_digest(["a", "bc"]));
    }
}
