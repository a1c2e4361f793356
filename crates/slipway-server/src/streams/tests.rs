//! How long a stream may go on.

use axum::http::header;
use futures::FutureExt as _;
use slipway_model::identity::Role;

use super::*;
use crate::testing::{START, TestServer, basic};

fn headers(key: &str) -> HeaderMap {
    HeaderMap::from_iter([(header::AUTHORIZATION, basic(key).parse().expect("a header value"))])
}

/// A lifeline of a stream about the team `team`.
fn lifeline(server: &TestServer, key: &str) -> Lifeline {
    Lifeline::new(&server.app, &headers(key), |principal| {
        access::can_read_entity(principal, "team")
    })
    .expect("a lifeline")
}

async fn team(server: &TestServer) -> String {
    server.user("lead").await;
    let key = server.user("ann").await;
    let store = &server.app.store;
    store.create_team("team", "lead", START).await.expect("a team");
    let role = Some(Role::Viewer);
    store.set_member("team", "ann", role).await.expect("a member");
    key
}

async fn revoke_keys(server: &TestServer, username: &str) {
    let store = &server.app.store;
    for key in store.keys(username).await.expect("keys") {
        store.revoke_key(username, key.id).await.expect("a revocation");
    }
}

#[tokio::test]
async fn a_stream_ends_at_once_when_its_reader_loses_the_right_to_it_here() {
    for what in ["key", "role", "user"] {
        let server = TestServer::new().await;
        let key = team(&server).await;
        let mut stream = lifeline(&server, &key);
        let store = &server.app.store;
        server.app.auth.forget();
        assert!(stream.next().now_or_never().is_none(), "nothing of it changed");
        match what {
            "key" => revoke_keys(&server, "ann").await,
            "role" => store.set_member("team", "ann", None).await.expect("no member"),
            _ => store.set_disabled("ann", true).await.expect("disabled"),
        }
        server.app.auth.forget();
        let beat = tokio::time::timeout(KEEP_ALIVE / 2, stream.next()).await;
        assert!(matches!(beat, Ok(Beat::Over(_))), "{what}");
    }
}

#[tokio::test]
async fn what_another_replica_revoked_ends_a_stream_at_its_next_beat() {
    let server = TestServer::new().await;
    let key = team(&server).await;
    tokio::time::pause();
    let mut stream = lifeline(&server, &key);
    assert!(matches!(stream.next().await, Beat::Alive), "the key holds");
    tokio::time::resume();
    revoke_keys(&server, "ann").await;
    server.pass(1_000);
    tokio::time::pause();
    assert!(matches!(stream.next().await, Beat::Over(_)));
}

#[test]
fn streams_that_open_within_a_tenth_of_a_second_beat_together() {
    let now = Instant::now();
    let beats: Vec<Instant> = (0..1_000)
        .map(|after| first_beat(now + Duration::from_millis(after)))
        .collect();
    for (after, beat) in (0..).zip(&beats) {
        let until = beat.duration_since(now + Duration::from_millis(after));
        assert!(until <= KEEP_ALIVE && until > KEEP_ALIVE - TOGETHER, "{until:?}");
    }
    let together: std::collections::BTreeSet<_> = beats.into_iter().collect();
    assert!((10..=11).contains(&together.len()), "{}", together.len());
}

#[tokio::test]
async fn a_stream_ends_with_the_server() {
    let server = TestServer::new().await;
    let key = team(&server).await;
    let mut stream = lifeline(&server, &key);
    server.app.shutdown.send_replace(true);
    let Beat::Over(why) = stream.next().await else {
        panic!("the stream goes on");
    };
    assert!(why.contains("connect again"), "{why}");
}

#[tokio::test]
async fn an_open_stream_speaks_for_its_agent() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    let queue = server.queue(&key, "alice", "q").await;
    let made = server
        .graphql(
            &key,
            "mutation($queues: [ID!]!) { createLaunchAgent(input: {entityName: \"alice\", runQueues: $queues, \
             hostname: \"h\", managed: true}) { launchAgentId } }",
            json!({"queues": [queue]}),
        )
        .await
        .data();
    let id: AgentId = made["createLaunchAgent"]["launchAgentId"]
        .as_str()
        .and_then(|id| id.parse().ok())
        .expect("an agent's id");
    let app = &server.app;
    let mut stream = AgentStream {
        app: Arc::clone(app),
        id,
        connection: app.hub.connect(id, &[]),
        lifeline: Lifeline::new(app, &headers(&key), |_| true).expect("a lifeline"),
        ready: VecDeque::new(),
        ended: false,
    };
    tokio::time::pause();
    assert!(stream.next().await.is_some(), "a beat");
    tokio::time::resume();
    server.pass(20_000);
    app.contacts.write_down(&app.store, app.now()).await;
    let agent = app.store.agent(id).await.expect("a store").expect("the agent");
    assert_eq!(agent.heartbeat_at - START, 20_000);
}
