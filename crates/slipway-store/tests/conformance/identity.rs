//! Users, teams, keys, sessions, audit.

use slipway_model::Millis;
use slipway_model::identity::{Credential, Role};
use slipway_store::Error;
use slipway_store::identity::{AuditEntry, NewKey, NewUser};

use crate::bed::{Bed, T0, USER};

crate::cases!(
    a_user_owns_a_personal_entity_of_the_same_name,
    names_are_taken_once_whatever_their_case,
    a_name_that_addresses_cannot_carry_is_refused,
    a_key_resolves_to_its_user_and_the_user_s_roles,
    a_key_ends_by_expiry_revocation_and_with_its_user,
    a_key_stored_again_stays_one_key,
    the_last_use_of_a_key_is_known_to_the_minute,
    a_session_resolves_until_it_ends_or_the_password_changes,
    a_service_account_acts_for_its_team,
    a_team_keeps_an_admin,
    the_audit_log_lists_the_newest_first,
    a_user_is_made_with_its_key_and_its_entry_or_not_at_all,
);

const DAY: Millis = 86_400_000;

fn user(name: &str) -> NewUser {
    NewUser {
        username: name.to_owned(),
        name: String::new(),
        email: format!("{name}@example.com"),
        admin: false,
        service_of: None,
        password_hash: None,
    }
}

/// The digest of a made-up key.
fn digest(number: u8) -> [u8; 32] {
    [number; 32]
}

async fn a_user_owns_a_personal_entity_of_the_same_name(bed: &Bed) {
    let store = &bed.store;
    let made = store.create_user(user("bob"), T0).await.unwrap();
    assert_eq!((made.name.as_str(), made.default_entity.as_str()), ("bob", "bob"));
    assert_eq!(store.user("bob").await.unwrap(), Some(made));
    let entity = store.entity("bob").await.unwrap().unwrap();
    assert!(!entity.is_team);
    assert_eq!(store.entity_by_id(entity.id).await.unwrap(), Some(entity));
    let names: Vec<String> = store
        .users()
        .await
        .unwrap()
        .into_iter()
        .map(|user| user.username)
        .collect();
    assert_eq!(names, [USER, "bob"]);
    assert_eq!(store.user("nobody").await.unwrap(), None);
    assert_eq!(store.entity("nobody").await.unwrap(), None);

    store.set_admin("bob", true).await.unwrap();
    assert!(store.user("bob").await.unwrap().unwrap().admin);
    assert!(matches!(
        store.set_admin("nobody", true).await,
        Err(Error::NotFound { .. })
    ));
}

async fn names_are_taken_once_whatever_their_case(bed: &Bed) {
    let store = &bed.store;
    for name in ["alice", "Alice", "ALICE"] {
        let again = store.create_user(user(name), T0).await;
        assert!(matches!(again, Err(Error::Exists { .. })), "{name}");
        let team = store.create_team(name, USER, T0).await;
        assert!(matches!(team, Err(Error::Exists { .. })), "{name}");
    }
    assert_eq!(store.users().await.unwrap().len(), 1);
    assert_eq!(store.entities().await.unwrap().len(), 1);
}

async fn a_name_that_addresses_cannot_carry_is_refused(bed: &Bed) {
    for name in ["", "a/b", "a b", "graphql", "ユーザー", &"x".repeat(65)] {
        let refused = bed.store.create_user(user(name), T0).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{name:?}");
    }
}

async fn a_key_resolves_to_its_user_and_the_user_s_roles(bed: &Bed) {
    let store = &bed.store;
    store.create_user(user("bob"), T0).await.unwrap();
    store.create_team("vision", USER, T0).await.unwrap();
    store.set_member("vision", "bob", Some(Role::Viewer)).await.unwrap();
    let key = store
        .add_key("bob", digest(1), "slipway_ab", "laptop", None, T0)
        .await
        .unwrap();
    let principal = store.authenticate(digest(1), T0 + 1).await.unwrap().unwrap();
    assert_eq!(principal.user.username, "bob");
    assert_eq!((principal.key_id, principal.credential), (key.id, Credential::User));
    let expected = [("bob".to_owned(), Role::Admin), ("vision".to_owned(), Role::Viewer)];
    assert_eq!(principal.roles, expected);
    assert!(key.id > 0);

    store.set_member("vision", "bob", Some(Role::Member)).await.unwrap();
    let principal = store.principal("bob").await.unwrap().unwrap();
    assert_eq!((principal.key_id, principal.roles[1].1), (0, Role::Member));
    store.set_member("vision", "bob", None).await.unwrap();
    assert_eq!(store.principal("bob").await.unwrap().unwrap().roles.len(), 1);
    assert_eq!(store.authenticate(digest(2), T0).await.unwrap(), None);
    assert_eq!(store.principal("nobody").await.unwrap(), None);
}

async fn a_key_ends_by_expiry_revocation_and_with_its_user(bed: &Bed) {
    let store = &bed.store;
    store
        .add_key(USER, digest(1), "one", "", Some(T0 + DAY), T0)
        .await
        .unwrap();
    let second = store.add_key(USER, digest(2), "two", "", None, T0).await.unwrap();
    store.add_key(USER, digest(3), "three", "", None, T0).await.unwrap();
    let resolves = async |number, now| store.authenticate(digest(number), now).await.unwrap().is_some();
    assert!(resolves(1, T0 + DAY - 1).await);
    assert!(!resolves(1, T0 + DAY).await);

    store.create_user(user("bob"), T0).await.unwrap();
    assert!(matches!(
        store.revoke_key("bob", second.id).await,
        Err(Error::NotFound { .. })
    ));
    assert!(resolves(2, T0).await);
    store.revoke_key(USER, second.id).await.unwrap();
    assert!(!resolves(2, T0).await);
    assert!(matches!(
        store.revoke_key(USER, second.id).await,
        Err(Error::NotFound { .. })
    ));

    store.set_disabled(USER, true).await.unwrap();
    assert!(!resolves(3, T0).await);
    assert_eq!(store.principal(USER).await.unwrap(), None);
    store.set_disabled(USER, false).await.unwrap();
    assert!(resolves(3, T0).await);
    let hints: Vec<String> = store
        .keys(USER)
        .await
        .unwrap()
        .into_iter()
        .map(|key| key.hint)
        .collect();
    assert_eq!(hints, ["one", "three"]);
}

async fn a_key_stored_again_stays_one_key(bed: &Bed) {
    let store = &bed.store;
    let first = store
        .add_key(USER, digest(1), "one", "imported", None, T0)
        .await
        .unwrap();
    let again = store
        .add_key(USER, digest(1), "one", "imported", None, T0 + 1)
        .await
        .unwrap();
    assert_eq!(first, again);
    store.create_user(user("bob"), T0).await.unwrap();
    let stolen = store.add_key("bob", digest(1), "one", "", None, T0).await;
    assert!(matches!(stolen, Err(Error::Exists { .. })));
    let unknown = store.add_key("nobody", digest(2), "two", "", None, T0).await;
    assert!(matches!(unknown, Err(Error::NotFound { .. })));
}

async fn the_last_use_of_a_key_is_known_to_the_minute(bed: &Bed) {
    let store = &bed.store;
    store.add_key(USER, digest(1), "one", "", None, T0).await.unwrap();
    for (now, noted) in [(T0 + 5, T0 + 5), (T0 + 59_000, T0 + 5), (T0 + 60_005, T0 + 60_005)] {
        store.authenticate(digest(1), now).await.unwrap();
        assert_eq!(store.keys(USER).await.unwrap()[0].last_used_at, Some(noted));
    }
}

async fn a_session_resolves_until_it_ends_or_the_password_changes(bed: &Bed) {
    let store = &bed.store;
    store.set_password_hash(USER, "$argon2id$one").await.unwrap();
    assert_eq!(
        store.password_hash(USER).await.unwrap().as_deref(),
        Some("$argon2id$one")
    );
    let resolves = async |number, now| store.authenticate(digest(number), now).await.unwrap().is_some();
    for number in [1, 2, 3] {
        store.add_session(USER, digest(number), T0 + DAY, T0).await.unwrap();
    }
    assert!(resolves(1, T0).await && !resolves(1, T0 + DAY).await);
    store.end_session(digest(1)).await.unwrap();
    store.end_session(digest(1)).await.unwrap();
    assert!(!resolves(1, T0).await && resolves(2, T0).await);
    assert!(store.keys(USER).await.unwrap().is_empty(), "sessions are not keys");
    store.set_password_hash(USER, "$argon2id$two").await.unwrap();
    assert!(!resolves(2, T0).await && !resolves(3, T0).await);
    assert_eq!(store.password_hash("nobody").await.unwrap(), None);
    assert!(matches!(
        store.set_password_hash("nobody", "x").await,
        Err(Error::NotFound { .. })
    ));
}

async fn a_service_account_acts_for_its_team(bed: &Bed) {
    let store = &bed.store;
    store.create_team("vision", USER, T0).await.unwrap();
    let account = NewUser {
        service_of: Some("vision".to_owned()),
        ..user("launcher")
    };
    let made = store.create_user(account.clone(), T0).await.unwrap();
    assert_eq!(made.default_entity, "vision");
    assert_eq!(store.entity("launcher").await.unwrap(), None, "it owns nothing");
    let principal = store.principal("launcher").await.unwrap().unwrap();
    assert_eq!(principal.roles, [("vision".to_owned(), Role::Member)]);
    assert!(matches!(
        store.create_team("launcher", USER, T0).await,
        Err(Error::Exists { .. })
    ));
    for team in ["nobody", USER] {
        let of_no_team = NewUser {
            service_of: Some(team.to_owned()),
            ..user("other")
        };
        assert!(
            matches!(store.create_user(of_no_team, T0).await, Err(Error::NotFound { .. })),
            "{team}"
        );
    }
}

async fn a_team_keeps_an_admin(bed: &Bed) {
    let store = &bed.store;
    store.create_user(user("bob"), T0).await.unwrap();
    store.create_team("vision", USER, T0).await.unwrap();
    store.set_member("vision", "bob", Some(Role::Member)).await.unwrap();
    for role in [None, Some(Role::Member)] {
        let refused = store.set_member("vision", USER, role).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{role:?}");
    }
    store.set_member("vision", "bob", Some(Role::Admin)).await.unwrap();
    store.set_member("vision", USER, None).await.unwrap();
    let members = store.members("vision").await.unwrap();
    assert_eq!(members.len(), 1);
    assert_eq!((members[0].0.username.as_str(), members[0].1), ("bob", Role::Admin));
    for team in ["nobody", USER] {
        assert!(
            matches!(store.members(team).await, Err(Error::NotFound { .. })),
            "{team}"
        );
        let refused = store.set_member(team, "bob", Some(Role::Admin)).await;
        assert!(matches!(refused, Err(Error::NotFound { .. })), "{team}");
    }
}

async fn the_audit_log_lists_the_newest_first(bed: &Bed) {
    for number in 0..3 {
        let entry = AuditEntry {
            at: T0 + number,
            actor: USER.to_owned(),
            action: "queue.update".to_owned(),
            subject: format!("alice/q{number}"),
            detail: "{}".to_owned(),
        };
        bed.store.audit(entry).await.unwrap();
    }
    let subjects: Vec<String> = bed
        .store
        .audit_log(2)
        .await
        .unwrap()
        .into_iter()
        .map(|entry| entry.subject)
        .collect();
    assert_eq!(subjects, ["alice/q2", "alice/q1"]);
}

async fn a_user_is_made_with_its_key_and_its_entry_or_not_at_all(bed: &Bed) {
    let store = &bed.store;
    let key = |number| NewKey {
        sha256: digest(number),
        hint: "one".to_owned(),
        description: "first key".to_owned(),
        expires_at: None,
    };
    let made = store.create_user_with_key(user("bob"), key(1), USER, T0).await.unwrap();
    let found = store.authenticate(digest(1), T0).await.unwrap().unwrap();
    assert_eq!(found.user.id, made.id);
    let entry = store.audit_log(1).await.unwrap().remove(0);
    assert_eq!(
        (entry.actor.as_str(), entry.action.as_str(), entry.subject.as_str()),
        (USER, "user.create", "bob")
    );
    // The key is somebody's already: nobody is made.
    let refused = store.create_user_with_key(user("carol"), key(1), USER, T0).await;
    assert!(matches!(refused, Err(Error::Exists { .. })), "{refused:?}");
    assert_eq!(store.user("carol").await.unwrap(), None);
    assert_eq!(store.audit_log(10).await.unwrap().len(), 1);
}
