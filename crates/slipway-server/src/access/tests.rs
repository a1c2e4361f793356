//! Who × what × allowed.

use slipway_store::identity::User;

use super::*;
use crate::error::Code;

/// A user `ann` with roles in three teams and her own entity.
fn ann(admin: bool, credential: Credential) -> Principal {
    let role = |entity: &str, role| (entity.to_owned(), role);
    Principal {
        user: User {
            id: 1,
            username: "ann".into(),
            name: String::new(),
            email: String::new(),
            admin,
            service_of: None,
            default_entity: "ann".into(),
            created_at: 0,
            disabled: false,
        },
        key_id: 1,
        credential,
        roles: vec![
            role("ann", Role::Admin),
            role("led", Role::Admin),
            role("joined", Role::Member),
            role("seen", Role::Viewer),
        ],
        acts_for: None,
    }
}

/// The key of a job in a queue of `joined`, whose run goes to `led/p` and whose code is in `ann/code`.
fn job(scopes: &[&str]) -> Credential {
    Credential::Run {
        item_entity: 2,
        item: 7,
        entity: "led".into(),
        project: "p".into(),
        run: "r".into(),
        queue_entity: "joined".into(),
        job: Some(("ann".into(), "code".into())),
        scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
    }
}

fn run(entity: &str, project: &str, run: &str) -> RunName {
    RunName {
        entity: entity.into(),
        project: project.into(),
        run: run.into(),
    }
}

/// `y` allowed, `f` refused, `-` as if it did not exist.
fn verdict(result: Result<(), ApiError>) -> char {
    match result.map_err(|error| error.code) {
        Ok(()) => 'y',
        Err(Code::Forbidden) => 'f',
        Err(Code::NotFound) => '-',
        Err(other) => panic!("no verdict: {other:?}"),
    }
}

fn seen(visible: bool) -> char {
    if visible { 'y' } else { '-' }
}

type Question = fn(&Principal, &str) -> char;

#[test]
fn what_each_may_do_in_each_entity() {
    let entities = ["ann", "led", "joined", "seen", "other"];
    let questions: [(&str, Question); 12] = [
        ("name the entity", |p, e| seen(can_name_entity(p, e))),
        ("read the entity", |p, e| verdict(read_entity(p, e))),
        ("read a project of it", |p, e| seen(can_read_project(p, e, "x"))),
        ("submit", |p, e| verdict(submit(p, e))),
        ("manage items", |p, e| verdict(manage_items(p, e))),
        ("edit queues", |p, e| verdict(edit_queues(p, e))),
        ("run an agent", |p, e| verdict(run_agent(p, e))),
        ("administer", |p, e| verdict(administer(p, e))),
        ("own its queues", |p, e| seen(owns_queues(p, e))),
        ("write a run", |p, e| verdict(write_run(p, &run(e, "x", "r")))),
        ("launch a run", |p, e| verdict(launch_run(p, &run(e, "x", "r")))),
        ("write artifacts", |p, e| verdict(write_artifacts(p, e, "x"))),
    ];
    let cases = [
        (
            "a person",
            ann(false, Credential::User),
            // ann, led: admin; joined: member; seen: viewer; other: outsider
            [
                "yyyy-", "yyyy-", "yyyy-", "yyyf-", "yyyf-", "yyff-", "yyyf-", "yyff-", "yy---", "yyyf-", "yyyf-",
                "yyyf-",
            ],
        ),
        (
            "an administrator of the installation",
            ann(true, Credential::User),
            [
                "yyyyy", "yyyyy", "yyyyy", "yyyyy", "yyyyy", "yyyyy", "yyyyy", "yyyyy", "yyyyy", "yyyyy", "yyyyy",
                "yyyyy",
            ],
        ),
        (
            "a job",
            ann(false, job(&[])),
            [
                "yyy--", "--y--", "--y--", "fffff", "fffff", "fffff", "fffff", "fffff", "-----", "fffff", "fffff",
                "fffff",
            ],
        ),
        (
            "a job of an administrator",
            ann(true, job(&[])),
            [
                "yyy--", "--y--", "--y--", "fffff", "fffff", "fffff", "fffff", "fffff", "-----", "fffff", "fffff",
                "fffff",
            ],
        ),
        (
            "a job that may launch",
            ann(false, job(&[LAUNCH_SCOPE])),
            [
                "yyy--", "--y--", "--y--", "--y--", "fffff", "fffff", "fffff", "fffff", "-----", "fffff", "fffff",
                "fffff",
            ],
        ),
    ];
    for (who, principal, expected) in cases {
        for ((what, ask), expected) in questions.iter().zip(expected) {
            let found: String = entities.iter().map(|entity| ask(&principal, entity)).collect();
            assert_eq!(found, expected, "{who}: {what} in {entities:?}");
        }
    }
}

#[test]
fn a_job_reaches_its_runs_and_its_codes_project_and_no_other() {
    let principal = ann(false, job(&[]));
    for (entity, project, readable, written) in [
        ("led", "p", true, 'y'),
        ("led", "q", false, 'f'),
        ("ann", "code", true, 'f'),
        ("ann", "p", false, 'f'),
        ("joined", "anything", true, 'f'),
        ("seen", "p", false, 'f'),
        ("other", "p", false, 'f'),
    ] {
        let place = format!("{entity}/{project}");
        assert_eq!(can_read_project(&principal, entity, project), readable, "read {place}");
        assert_eq!(
            verdict(write_artifacts(&principal, entity, project)),
            written,
            "{place}"
        );
        assert_eq!(verdict(make_project(&principal, entity, project)), written, "{place}");
        assert_eq!(
            verdict(launch_run(&principal, &run(entity, project, "new"))),
            written,
            "{place}"
        );
        assert_eq!(
            verdict(write_run(&principal, &run(entity, project, "r"))),
            written,
            "{place}"
        );
        assert_eq!(
            verdict(write_run(&principal, &run(entity, project, "other"))),
            'f',
            "{place}"
        );
    }
    assert_eq!(verdict(own_keys(&principal)), 'f');
    assert_eq!(verdict(administer_installation(&ann(true, job(&[])))), 'f');
}

#[test]
fn a_job_reads_nothing_that_its_author_may_not() {
    let mut principal = ann(false, job(&[]));
    principal.roles.clear();
    for (entity, project) in [("led", "p"), ("ann", "code"), ("joined", "x")] {
        assert!(!can_read_project(&principal, entity, project), "{entity}/{project}");
        assert!(!can_name_entity(&principal, entity), "{entity}");
    }
}

#[test]
fn before_its_run_is_named_a_job_writes_nothing() {
    let mut principal = ann(false, job(&[]));
    if let Credential::Run {
        entity, project, run, ..
    } = &mut principal.credential
    {
        entity.clear();
        project.clear();
        run.clear();
    }
    assert!(can_read_entity(&principal, "joined"));
    assert_eq!(verdict(write_run(&principal, &run("led", "p", "r"))), 'f');
    assert!(!can_read_project(&principal, "led", "p"));
}
