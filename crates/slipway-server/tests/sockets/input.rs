//! Bad input on the wire: each a clear answer with the right status, never a 5xx, and a server that
//! goes on.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::header::AUTHORIZATION;
use serde_json::{Value, json};
use slipway_server::ServerOptions;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::bed::{Bed, basic, get, now, post, soon};
use super::streams::PUSH;

/// Sends bytes, closes the sending half and reads what comes back.
async fn raw(bed: &Bed, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(bed.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    soon("an answer", stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

async fn healthy(bed: &Bed) {
    let (status, _) = bed.send(get("none", "/healthz")).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_body_above_the_limit_is_refused_before_it_was_read() {
    let bed = Bed::with(ServerOptions {
        max_body: 1_000,
        ..ServerOptions::default()
    })
    .await;
    let key = bed.user("ann").await;
    let query = format!("{{ viewer {{ id }} }} # {}", "x".repeat(3_000_000));
    let (status, body) = bed.graphql(&key, &query, json!({})).await;
    assert_eq!(
        (status, &body["errors"][0]["extensions"]["code"]),
        (413, &json!("TOO_LARGE"))
    );
    healthy(&bed).await;
}

#[tokio::test]
async fn a_small_body_that_unpacks_to_a_large_one_is_refused() {
    let bed = Bed::with(ServerOptions {
        max_body: 100_000,
        ..ServerOptions::default()
    })
    .await;
    let key = bed.user("ann").await;
    let packed = gzip(&json!({"query": "x".repeat(50_000_000)}).to_string());
    assert!(packed.len() < 100_000, "{}", packed.len());
    let mut request = post(&key, "/graphql", packed);
    request
        .headers_mut()
        .insert("content-encoding", "gzip".parse().unwrap());
    let (status, _) = bed.send(request).await;
    assert_eq!(status, 413);
    healthy(&bed).await;
}

fn gzip(text: &str) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_document_that_is_too_deep_is_refused() {
    let bed = Bed::start().await;
    let key = bed.user("ann").await;
    let nested = format!(
        "{{ {} viewer {{ id }} {} }}",
        "a: viewer { ".repeat(5_000),
        "}".repeat(5_000)
    );
    let fields = "{ queueItem { run ".repeat(60);
    let shallow = format!("{{ runQueues {{ items {{ edges {{ node {fields} }} }} }} }}");
    for query in [nested, shallow] {
        let (status, body) = bed.graphql(&key, &query, json!({})).await;
        assert_eq!(status, 400, "{body}");
        assert_eq!(body["errors"][0]["extensions"]["code"], "BAD_USER_INPUT", "{body}");
    }
    healthy(&bed).await;
}

#[tokio::test]
async fn a_file_stream_that_breaks_off_is_refused_and_stores_nothing() {
    let bed = Bed::start().await;
    let key = bed.user("ann").await;
    let made = "mutation { upsertBucket(input: {name: \"r\", entityName: \"ann\", modelName: \"p\"}) { inserted } }";
    bed.data(&key, made, json!({})).await;
    let whole = json!({"files": {"output.log": {"offset": 0, "content": ["one", "two"]}}}).to_string();
    let path = "/files/ann/p/r/file_stream";

    let (status, body) = bed.send(post(&key, path, whole[..whole.len() - 5].to_owned())).await;
    assert_eq!(status, 400, "{}", String::from_utf8_lossy(&body));
    let packed = gzip(&whole);
    let mut request = post(&key, path, packed[..packed.len() / 2].to_vec());
    request
        .headers_mut()
        .insert("content-encoding", "gzip".parse().unwrap());
    let (status, body) = bed.send(request).await;
    assert_eq!(status, 400, "{}", String::from_utf8_lossy(&body));
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\nContent-Length: {}\r\n\r\n",
        basic(&key),
        whole.len()
    );
    // The connection ends within the body: whether an answer still gets through is up to the other side.
    let answer = raw(&bed, format!("{head}{}", &whole[..20]).as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");

    let (status, log) = bed.send(get(&key, "/slipway/v1/runs/ann/p/r/log")).await;
    assert_eq!((status, log), (200, Vec::new()), "nothing was stored");
    let (status, _) = bed.send(post(&key, path, whole)).await;
    assert_eq!(status, 200, "and the stream goes on");
}

#[tokio::test]
async fn bytes_that_are_no_request_end_the_connection_and_nothing_else() {
    let bed = Bed::start().await;
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"",
    ] {
        let answer = raw(&bed, bytes).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{bytes:?}: {answer}"
        );
    }
    healthy(&bed).await;
}

#[tokio::test]
async fn keys_that_are_wrong_expired_or_absent_are_401_everywhere() {
    let bed = Bed::start().await;
    let key = bed.user("ann").await;
    bed.queue(&key, "ann", "q").await;
    let expired = bed.key("ann", Some(now() - 1)).await;
    let forged = "slipway_run-1_1_1_0000000000000000000000000000000000000000000";
    for presented in [expired.as_str(), "slipway_wrong", forged, &"x".repeat(10_000)] {
        for request in [
            post(presented, "/graphql", json!({"query": "{ viewer { id } }"}).to_string()),
            post(presented, "/files/ann/p/r/file_stream", "{}"),
            get(presented, "/slipway/v1/events?entity=ann"),
            get(presented, "/slipway/v1/runs/ann/p/r/log"),
        ] {
            let path = request.uri().to_string();
            let (status, body) = bed.send(request).await;
            let body = String::from_utf8(body).unwrap();
            assert_eq!(status, 401, "{path}: {body}");
            assert!(!body.contains(presented), "{path}: {body}");
        }
    }
    let bare = raw(
        &bed,
        b"POST /graphql HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
    )
    .await;
    assert!(bare.starts_with("HTTP/1.1 401"), "{bare}");
}

#[tokio::test]
async fn another_users_queue_is_as_if_it_did_not_exist() {
    let bed = Bed::start().await;
    let ann = bed.user("ann").await;
    let bob = bed.user("bob").await;
    let queue = bed.queue(&ann, "ann", "q").await;
    let agent = bed.agent(&ann, "ann", &queue).await;
    let spec = json!({"docker": {"docker_image": "a"}}).to_string();
    let pushed = bed.data(&ann, PUSH, json!({"e": "ann", "s": spec})).await;
    let item = pushed["pushToRunQueueByName"]["runQueueItemId"]
        .as_str()
        .unwrap()
        .to_owned();

    let pop = "mutation { popFromRunQueue(input: {entityName: \"ann\", projectName: \"model-registry\", queueName: \
               \"q\"}) { runQueueItemId } }";
    let register = "mutation($q: [ID!]!) { createLaunchAgent(input: {runQueues: $q, hostname: \"h\"}) { success } }";
    let cancel = "mutation($i: ID!) { cancelRunQueueItem(input: {runQueueItemId: $i}) { item { state } } }";
    let pause = "mutation($q: ID!) { pauseRunQueue(input: {queueID: $q, paused: true}) { queue { name } } }";
    let cases: [(&str, Value); 5] = [
        (PUSH, json!({"e": "ann", "s": spec})),
        (pop, json!({})),
        (register, json!({"q": [queue]})),
        (cancel, json!({"i": item})),
        (pause, json!({"q": queue})),
    ];
    for (query, variables) in cases {
        let (status, body) = bed.graphql(&bob, query, variables).await;
        assert_eq!(status, 404, "{query}: {body}");
    }
    for path in [
        format!("/slipway/v1/agents/{agent}/events"),
        format!("/slipway/v1/events?queue={queue}"),
        format!("/slipway/v1/events?item={item}"),
        "/slipway/v1/events?entity=ann".to_owned(),
        format!("/slipway/v1/items/{item}/output"),
    ] {
        let (status, body) = bed.send(get(&bob, &path)).await;
        assert_eq!(status, 404, "{path}: {}", String::from_utf8_lossy(&body));
    }
    let seen = "query($i: ID!) { runQueueItem(id: $i) { id } runQueues { name } }";
    let seen = bed.data(&bob, seen, json!({"i": item})).await;
    assert_eq!(seen, json!({"runQueueItem": null, "runQueues": []}));
    assert_eq!(bed.items(&ann).await, [item], "and ann's item still waits");
}

#[tokio::test]
async fn a_request_over_http2_is_answered_with_addresses_of_the_host_that_it_names() {
    let bed = Bed::start().await;
    let key = bed.user("ann").await;
    let run = "mutation { upsertBucket(input: {name: \"r1\", modelName: \"p\", entityName: \"ann\"}) { inserted } }";
    bed.data(&key, run, json!({})).await;
    let files = "mutation { createRunFiles(input: {entityName: \"ann\", projectName: \"p\", runName: \"r1\", \
                 files: [\"a.txt\"]}) { files { uploadUrl } } }";
    let request = Request::post("http://slipway.example:8443/graphql")
        .header(AUTHORIZATION, basic(&key))
        .body(Full::new(Bytes::from(json!({"query": files}).to_string())))
        .unwrap();
    let (status, body) = bed.send_by_http2(request).await;
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(status, 200, "{body}");
    let url = body["data"]["createRunFiles"]["files"][0]["uploadUrl"]
        .as_str()
        .unwrap();
    assert!(url.starts_with("http://slipway.example:8443/storage/"), "{url}");
}
