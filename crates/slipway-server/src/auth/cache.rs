//! Remembers resolved credentials for a second.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use slipway_model::Millis;

use super::Principal;

/// How long a credential is believed without asking the store.
const TTL: Millis = 1_000;

/// How many credentials are remembered. When full, all are forgotten: the store is asked again.
const CAPACITY: usize = 16_384;

/// By the hash of the credential: who it is, and when the store said so.
#[derive(Default)]
pub(super) struct Cache {
    entries: Mutex<HashMap<[u8; 32], (Arc<Principal>, Millis)>>,
}

impl Cache {
    /// The principal of a hash, if the store confirmed it less than [`TTL`] ago.
    pub(super) fn get(&self, hash: &[u8; 32], now: Millis) -> Option<Arc<Principal>> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let (principal, since) = entries.get(hash)?;
        (0..TTL).contains(&(now - since)).then(|| Arc::clone(principal))
    }

    /// Remembers a principal.
    pub(super) fn put(&self, hash: [u8; 32], principal: Arc<Principal>, now: Millis) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= CAPACITY {
            entries.clear();
        }
        entries.insert(hash, (principal, now));
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use slipway_model::identity::Credential;
    use slipway_store::identity::User;

    fn principal() -> Arc<Principal> {
        Arc::new(Principal {
            user: User {
                id: 1,
                username: "alice".into(),
                name: "Alice".into(),
                email: String::new(),
                admin: false,
                service_of: None,
                default_entity: "alice".into(),
                created_at: 0,
                disabled: false,
            },
            key_id: 1,
            credential: Credential::User,
            roles: Vec::new(),
            acts_for: None,
        })
    }

    #[test]
    fn an_entry_lives_for_a_second_and_a_clock_set_back_ends_it() {
        let cache = Cache::default();
        cache.put([1; 32], principal(), 10_000);
        for (now, found) in [(10_000, true), (10_999, true), (11_000, false), (9_999, false)] {
            assert_eq!(cache.get(&[1; 32], now).is_some(), found, "at {now}");
        }
        assert!(cache.get(&[2; 32], 10_000).is_none());
        cache.clear();
        assert!(cache.get(&[1; 32], 10_000).is_none());
    }
}
