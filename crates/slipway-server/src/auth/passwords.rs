//! Hashing and checking passwords, a few at a time.
//!
//! Argon2 takes tens of milliseconds of one core and 19 MiB each time, and anybody may ask for it at
//! the sign-in page. So only [`AT_ONCE`] run at a time, [`WAITING`] more wait, and further ones are
//! told to come back. A request that ends while its password is checked keeps its place until the
//! check is over: the work goes on either way.

use std::sync::Arc;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use tokio::sync::Semaphore;

use crate::error::{ApiError, Code};

/// The shortest password, in characters.
const MIN_PASSWORD: usize = 8;

/// The longest password, in bytes: hashing takes time that grows with it.
const MAX_PASSWORD: usize = 1_024;

/// How many passwords are hashed or checked at the same time.
const AT_ONCE: usize = 2;

/// How many requests wait for that, which takes less than a second.
const WAITING: usize = 16;

/// See the module.
pub(crate) struct Passwords {
    /// One for each that runs or waits.
    pub(crate) places: Arc<Semaphore>,
    /// One for each that runs.
    running: Arc<Semaphore>,
}

impl Default for Passwords {
    fn default() -> Self {
        Self::new(AT_ONCE, WAITING)
    }
}

impl Passwords {
    fn new(at_once: usize, waiting: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(at_once + waiting)),
            running: Arc::new(Semaphore::new(at_once)),
        }
    }

    /// Argon2id of a password, as a PHC string.
    ///
    /// # Errors
    /// If the password is too short or too long; `UNAVAILABLE` if too many wait.
    pub(crate) async fn hash(&self, password: String) -> Result<String, ApiError> {
        check_length(&password)?;
        self.work(move || hash_now(&password)).await?
    }

    /// Whether a password fits a hash. Without a hash the same time passes, so that an answer does
    /// not tell whether a user exists.
    ///
    /// # Errors
    /// `UNAVAILABLE` if too many wait.
    pub(crate) async fn check(&self, password: String, hash: Option<String>) -> Result<bool, ApiError> {
        if password.len() > MAX_PASSWORD {
            return Ok(false);
        }
        self.work(move || match hash {
            Some(hash) => PasswordHash::new(&hash)
                .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()),
            None => {
                let _same_work = Argon2::default().hash_password(password.as_bytes());
                false
            }
        })
        .await
    }

    async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
        let busy = |_| {
            ApiError::new(
                Code::Unavailable,
                "too many sign-ins are being checked right now; try again in a moment",
            )
        };
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(busy)?;
        let turn = Arc::clone(&self.running)
            .acquire_owned()
            .await
            .map_err(ApiError::internal)?;
        let done = tokio::task::spawn_blocking(move || {
            let _held = (place, turn);
            work()
        });
        done.await.map_err(ApiError::internal)
    }
}

/// Argon2id of a password, as a PHC string, for commands that hash one and end.
///
/// # Errors
/// If the password is too short or too long.
pub async fn hash_password(password: String) -> Result<String, ApiError> {
    Passwords::default().hash(password).await
}

fn check_length(password: &str) -> Result<(), ApiError> {
    if password.chars().count() < MIN_PASSWORD || password.len() > MAX_PASSWORD {
        return Err(ApiError::bad(format!(
            "a password has at least {MIN_PASSWORD} characters and at most {MAX_PASSWORD} bytes"
        )));
    }
    Ok(())
}

fn hash_now(password: &str) -> Result<String, ApiError> {
    Argon2::default()
        .hash_password(password.as_bytes())
        .map(|hash| hash.to_string())
        .map_err(ApiError::internal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[tokio::test]
    async fn passwords_are_checked_against_their_hash() {
        let passwords = Passwords::default();
        let hash = passwords.hash("correct horse".to_owned()).await.expect("a hash");
        assert!(hash.starts_with("$argon2id$"));
        for (password, hash, fits) in [
            ("correct horse", Some(hash.clone()), true),
            ("wrong horse", Some(hash), false),
            ("correct horse", None, false),
            ("correct horse", Some("not a hash".to_owned()), false),
        ] {
            let checked = passwords.check(password.to_owned(), hash).await;
            assert_eq!(checked, Ok(fits), "{password}");
        }
        assert!(hash_password("short".to_owned()).await.is_err());
    }

    #[tokio::test]
    async fn more_than_may_wait_are_told_to_come_back() {
        let passwords = Passwords::new(1, 1);
        let running = Arc::clone(&passwords.running).acquire_owned().await.expect("a turn");
        let place = Arc::clone(&passwords.places).acquire_owned().await.expect("a place");
        let check = || passwords.check("correct horse".to_owned(), None);
        let mut waiting = Box::pin(check());
        assert!((&mut waiting).now_or_never().is_none(), "waits for the one that runs");
        let refused = check().now_or_never().expect("an answer at once");
        assert_eq!(refused.map_err(|error| error.code), Err(Code::Unavailable));
        drop((running, place));
        assert_eq!(waiting.await, Ok(false));
        assert_eq!(check().await, Ok(false), "its place is free again");
    }

    #[tokio::test]
    async fn who_goes_away_while_waiting_leaves_the_place_to_others() {
        let passwords = Passwords::new(1, 1);
        let running = Arc::clone(&passwords.running).acquire_owned().await.expect("a turn");
        let _place = Arc::clone(&passwords.places).acquire_owned().await.expect("a place");
        for _ in 0..3 {
            let gone = passwords.check("correct horse".to_owned(), None).now_or_never();
            assert!(gone.is_none(), "it waited, and was dropped");
        }
        drop(running);
    }
}
