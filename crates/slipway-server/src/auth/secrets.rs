//! Making keys and sessions.

use slipway_model::identity::KEY_PREFIX;
use slipway_store::identity::NewKey;

use super::{base62, hash_secret};

/// A new API key.
#[must_use]
pub fn generate_key() -> String {
    format!("{KEY_PREFIX}{}", base62::encode(rand::random()))
}

/// A key as a store takes it: without its text.
#[must_use]
pub fn stored_key(key: &str, description: &str) -> NewKey {
    NewKey {
        sha256: hash_secret(key),
        hint: key_hint(key),
        description: description.to_owned(),
        expires_at: None,
    }
}

/// The text of a new page session.
#[must_use]
pub(crate) fn generate_session() -> String {
    base62::encode(rand::random())
}

/// The first characters of a key, to tell keys apart in listings. Says nothing of the secret: 8 of
/// 43 characters after the prefix of ours, 4 of other keys.
#[must_use]
pub fn key_hint(key: &str) -> String {
    let shown = if key.starts_with(KEY_PREFIX) {
        KEY_PREFIX.len() + 4
    } else {
        4
    };
    key.chars().take(shown).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_keys_differ_and_pass_the_clients_rule() {
        let (one, other) = (generate_key(), generate_key());
        assert_ne!(one, other);
        assert_eq!(one.len(), KEY_PREFIX.len() + 43);
        slipway_model::identity::check_imported_key(&one).expect("the client accepts it");
        assert_eq!(key_hint(&one).chars().count(), KEY_PREFIX.len() + 5);
    }
}
