//! Run keys: what a job gets instead of anybody's own key.
//!
//! A run key is made when an agent pops an item and needs no storage: it names the lease (entity,
//! item, epoch) and proves itself with a keyed hash over it. Whether it is valid follows from the
//! item: while that lease holds it, and for ten minutes after the item ended, so that last uploads
//! pass.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use slipway_model::Millis;
use slipway_model::id::{ItemId, LeaseHandle};
use slipway_model::identity::Credential;
use slipway_model::item::ItemState;
use slipway_model::spec::LaunchSpec;
use slipway_store::Store;
use slipway_store::items::Item;
use subtle::ConstantTimeEq as _;

use super::{Principal, base62};
use crate::error::{ApiError, Code};
use crate::lookup::Lookup;

/// What a run key starts with. What follows the dash has more than 40 characters, as the official
/// client demands of keys.
const PREFIX: &str = "slipway_run-";

/// How long a run key outlives its item.
const GRACE: Millis = 600_000;

/// Whether a key claims to be a run key.
#[must_use]
pub(super) fn looks_like(key: &str) -> bool {
    key.starts_with(PREFIX)
}

/// The run key of a lease.
#[must_use]
pub(crate) fn mint(signing_key: &[u8; 32], handle: LeaseHandle) -> String {
    let LeaseHandle {
        item: ItemId { entity, number },
        epoch,
    } = handle;
    format!("{PREFIX}{entity}_{number}_{epoch}_{}", proof(signing_key, handle))
}

/// The lease that a run key names, if the key is genuine: the very text that [`mint`] makes of it.
#[must_use]
pub(crate) fn verify(signing_key: &[u8; 32], key: &str) -> Option<LeaseHandle> {
    let mut parts = key.strip_prefix(PREFIX)?.splitn(4, '_');
    let mut number = || parts.next()?.parse::<i64>().ok();
    let handle = LeaseHandle {
        item: ItemId {
            entity: number()?,
            number: number()?,
        },
        epoch: number()?,
    };
    let genuine = mint(signing_key, handle);
    bool::from(genuine.as_bytes().ct_eq(key.as_bytes())).then_some(handle)
}

/// Whether the lease's key is valid: pure, so that the rule stands in one place.
#[must_use]
pub(super) fn is_valid(item: &Item, epoch: i64, now: Millis) -> bool {
    if item.epoch != epoch {
        return false;
    }
    match item.state {
        ItemState::Pending => false,
        // A crashed run comes back with its next heartbeat, which needs the key.
        ItemState::Leased | ItemState::Claimed | ItemState::Running | ItemState::Crashed => true,
        ItemState::Finished | ItemState::Failed | ItemState::Killed => {
            item.ended_at.is_none_or(|ended| now - ended <= GRACE)
        }
    }
}

/// Resolves a run key to the item's author, limited to what the item concerns.
pub(super) async fn resolve(
    store: &Store,
    lookup: &Lookup,
    signing_key: &[u8; 32],
    key: &str,
    now: Millis,
) -> Result<Principal, ApiError> {
    let refused = || ApiError::new(Code::Unauthenticated, "the run key is not valid: its attempt has ended");
    let handle = verify(signing_key, key).ok_or_else(refused)?;
    let item = store.item(handle.item).await?.ok_or_else(refused)?;
    if !is_valid(&item, handle.epoch, now) {
        return Err(refused());
    }
    let author = store.principal(&item.author).await?.ok_or_else(refused)?;
    let scopes = lookup.config(store, item.revision).await?.policy.run_key_scopes.clone();
    let spec = LaunchSpec::parse(&item.spec).map_err(ApiError::internal)?;
    let job = spec.job_project();
    // Before the acknowledgement no run is named; an empty name matches none.
    let run = item.run.unwrap_or(slipway_model::id::RunName {
        entity: String::new(),
        project: String::new(),
        run: String::new(),
    });
    Ok(Principal {
        user: author.user,
        key_id: item.pushed_by_key,
        credential: Credential::Run {
            item_entity: handle.item.entity,
            item: handle.item.number,
            entity: run.entity,
            project: run.project,
            run: run.run,
            queue_entity: lookup.entity_name(store, handle.item.entity).await?.as_ref().clone(),
            job: job.map(|(entity, project)| (entity.to_owned(), project.to_owned())),
            scopes,
        },
        roles: author.roles,
        acts_for: None,
    })
}

/// 43 base62 characters: HMAC-SHA256 over the lease handle.
fn proof(signing_key: &[u8; 32], handle: LeaseHandle) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(signing_key).expect("HMAC takes keys of any length");
    mac.update(b"run-key:");
    mac.update(handle.to_string().as_bytes());
    base62::encode(mac.finalize().into_bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use slipway_model::priority::Priority;

    const HANDLE: LeaseHandle = LeaseHandle {
        item: ItemId { entity: 3, number: 77 },
        epoch: 2,
    };

    #[test]
    fn a_genuine_key_names_its_lease_and_passes_the_clients_rule() {
        let key = mint(&[7; 32], HANDLE);
        assert_eq!(verify(&[7; 32], &key), Some(HANDLE));
        slipway_model::identity::check_imported_key(&key).expect("the client accepts it");
        assert!(looks_like(&key));
    }

    #[test]
    fn forged_keys_name_nothing() {
        let key = mint(&[7; 32], HANDLE);
        assert_eq!(verify(&[8; 32], &key), None, "another signing key");
        let other_item = key.replacen("3_77_2_", "3_78_2_", 1);
        let other_epoch = key.replacen("3_77_2_", "3_77_3_", 1);
        let other_spelling = key.replacen("3_77_2_", "+3_077_2_", 1);
        for forged in [
            other_item.as_str(),
            other_epoch.as_str(),
            other_spelling.as_str(),
            &key[..key.len() - 1],
            "slipway_run-",
            "slipway_run-3_77_2",
            "slipway_run-x_y_z_w",
            "",
        ] {
            assert_eq!(verify(&[7; 32], forged), None, "{forged}");
        }
    }

    #[test]
    fn validity_follows_the_item() {
        let item = |state, epoch, ended_at| Item {
            id: HANDLE.item,
            queue: slipway_model::id::QueueId::new(3, 1),
            state,
            epoch,
            attempt: 1,
            priority: Priority::Medium,
            spec: "{}".into(),
            template_values: "{}".into(),
            revision: None,
            author: "alice".into(),
            pushed_by_key: 1,
            run: None,
            agent: None,
            managed: true,
            lease_expires_at: None,
            start_recorded: false,
            lost_since: None,
            stop_requested: false,
            failure: None,
            warning: None,
            exit_code: None,
            preemptions: 0,
            created_at: 0,
            leased_at: None,
            started_at: None,
            ended_at,
        };
        let cases = [
            (ItemState::Pending, 2, None, false),
            (ItemState::Leased, 2, None, true),
            (ItemState::Running, 2, None, true),
            (ItemState::Running, 3, None, false),
            (ItemState::Crashed, 2, Some(0), true),
            (ItemState::Finished, 2, Some(400_000), true),
            (ItemState::Finished, 2, Some(399_999), false),
        ];
        for (state, epoch, ended_at, valid) in cases {
            assert_eq!(
                is_valid(&item(state, epoch, ended_at), 2, 1_000_000),
                valid,
                "{state:?}, epoch {epoch}, ended {ended_at:?}"
            );
        }
    }
}
