//! Making keys and checking passwords.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use slipway_model::identity::KEY_PREFIX;

use super::base62;
use crate::error::ApiError;

/// The shortest password, in characters.
const MIN_PASSWORD: usize = 8;

/// The longest password, in bytes: hashing takes time that grows with it.
const MAX_PASSWORD: usize = 1_024;

/// A new API key.
#[must_use]
pub fn generate_key() -> String {
    format!("{KEY_PREFIX}{}", base62::encode(rand::random()))
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

/// Argon2id of a password, as a PHC string. Takes tens of milliseconds on a thread of its own.
///
/// # Errors
/// If the password is too short or too long.
pub async fn hash_password(password: String) -> Result<String, ApiError> {
    if password.chars().count() < MIN_PASSWORD || password.len() > MAX_PASSWORD {
        return Err(ApiError::bad(format!(
            "a password has at least {MIN_PASSWORD} characters and at most {MAX_PASSWORD} bytes"
        )));
    }
    tokio::task::spawn_blocking(move || {
        Argon2::default()
            .hash_password(password.as_bytes())
            .map(|hash| hash.to_string())
            .map_err(ApiError::internal)
    })
    .await
    .map_err(ApiError::internal)?
}

/// Whether a password fits a hash. Without a hash the same time passes, so that an answer does not
/// tell whether a user exists.
pub(crate) async fn check_password(password: String, hash: Option<String>) -> bool {
    if password.len() > MAX_PASSWORD {
        return false;
    }
    let checked = tokio::task::spawn_blocking(move || match hash {
        Some(hash) => PasswordHash::new(&hash)
            .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()),
        None => {
            let _same_work = Argon2::default().hash_password(password.as_bytes());
            false
        }
    });
    checked.await.unwrap_or(false)
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

    #[tokio::test]
    async fn passwords_are_checked_against_their_hash() {
        let hash = hash_password("correct horse".to_owned()).await.expect("a hash");
        assert!(hash.starts_with("$argon2id$"));
        assert!(check_password("correct horse".to_owned(), Some(hash.clone())).await);
        assert!(!check_password("wrong horse".to_owned(), Some(hash)).await);
        assert!(!check_password("correct horse".to_owned(), None).await);
        assert!(hash_password("short".to_owned()).await.is_err());
    }
}
