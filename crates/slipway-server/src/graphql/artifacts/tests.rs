//! Making, finding and reading artifacts as the official client does it, bytes included.

use std::fmt::Write as _;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use serde_json::{Value, json};

use crate::testing::{Answer, TestServer, basic};

const JOB: &[u8] = br#"{"_version":"v0","source_type":"image","source":{"image":"python:3.11-slim"}}"#;

fn md5(bytes: &[u8]) -> String {
    STANDARD.encode(Md5::digest(bytes))
}

async fn transfer(server: &TestServer, method: &str, url: &Value, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let url = url.as_str().unwrap_or_else(|| panic!("no address: {url}"));
    let (_, rest) = url.split_once("://").unwrap();
    let path = &rest[rest.find('/').unwrap()..];
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    server.send(request.body(Body::from(body.to_vec())).unwrap()).await
}

fn new_artifact(collection: &str, client_id: &str, digest: &str) -> Value {
    json!({"input": {
        "aliases": [{"alias": "prod", "artifactCollectionName": collection}], "artifactCollectionName": collection,
        "artifactCollectionNames": null, "artifactTypeName": "job", "clientID": client_id, "clientMutationId": null,
        "description": null, "digest": digest, "digestAlgorithm": "MANIFEST_MD5", "distributedID": null,
        "enableDigestDeduplication": true, "entityName": "alice", "historyStep": null, "labels": null,
        "metadata": "{\"_partial\": true}", "projectName": "proj", "runName": null, "sequenceClientID": "seq",
        "storageRegion": null, "ttlDurationSeconds": null,
    }})
}

async fn create(server: &TestServer, key: &str, client_id: &str, digest: &str) -> Value {
    let made = server
        .official(key, "CreateArtifact-2", new_artifact("img-job", client_id, digest))
        .await;
    made.data()["createArtifact"]["artifact"].clone()
}

async fn announce(server: &TestServer, key: &str, id: &Value, digest: &str) -> Value {
    let upload = !digest.is_empty();
    let variables = json!({"artifactID": id, "name": "wandb_manifest.json", "digest": digest, "entityName": "alice",
        "projectName": "proj", "runName": "", "manifestType": "FULL", "includeUpload": upload});
    let made = server.official(key, "CreateArtifactManifest", variables).await.data();
    made["createArtifactManifest"]["artifactManifest"]["file"]["uploadUrl"].clone()
}

async fn add_file(server: &TestServer, key: &str, id: &Value, name: &str, bytes: &[u8]) -> Value {
    let file = json!({"artifactID": id, "name": name, "md5": md5(bytes), "mimetype": null, "uploadPartsInput": null});
    let variables = json!({"input": {"artifactFiles": [file], "storageLayout": "V2", "cloudRegionID": null}});
    let made = server.official(key, "CreateArtifactFiles", variables).await.data();
    made["createArtifactFiles"]["files"]["edges"][0]["node"].clone()
}

fn manifest(name: &str, bytes: &[u8]) -> Vec<u8> {
    json!({"version": 1, "storagePolicy": "wandb-storage-policy-v1", "storagePolicyConfig": {"storageLayout": "V2"},
        "contents": {name: {"digest": md5(bytes), "size": bytes.len(), "local_path": "/tmp/x"}}})
    .to_string()
    .into_bytes()
}

async fn commit(server: &TestServer, key: &str, id: &Value) -> Answer {
    server.official(key, "CommitArtifact", json!({"artifactID": id})).await
}

/// Makes a version with one file, whole.
async fn publish(server: &TestServer, key: &str, client_id: &str, digest: &str, bytes: &[u8]) -> Value {
    let id = create(server, key, client_id, digest).await["id"].clone();
    announce(server, key, &id, "").await;
    let file = add_file(server, key, &id, "wandb-job.json", bytes).await;
    if !file["uploadUrl"].is_null() {
        let stored = transfer(
            server,
            "PUT",
            &file["uploadUrl"],
            &[("content-md5", &md5(bytes))],
            bytes,
        )
        .await;
        assert_eq!(stored.status, StatusCode::OK);
    }
    let list = manifest("wandb-job.json", bytes);
    let upload = announce(server, key, &id, &md5(&list)).await;
    assert_eq!(
        transfer(server, "PUT", &upload, &[], &list).await.status,
        StatusCode::OK
    );
    commit(server, key, &id).await.data();
    id
}

async fn membership(server: &TestServer, key: &str, name: &str) -> Value {
    let variables = json!({"entity": "alice", "project": "proj", "name": name, "includeAliases": true});
    let found = server.official(key, "ArtifactMembershipByName", variables).await.data();
    found["project"]["artifactCollectionMembership"].clone()
}

#[tokio::test]
async fn a_job_is_uploaded_committed_found_and_downloaded() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    let id = publish(&server, &key, "client-1", "digest-1", JOB).await;

    for name in ["img-job", "img-job:latest", "img-job:prod", "img-job:v0"] {
        let found = membership(&server, &key, name).await;
        let artifact = &found["artifact"];
        assert_eq!(found["__typename"], "ArtifactCollectionMembership", "{name}");
        assert_eq!(
            (&artifact["id"], &artifact["state"]),
            (&id, &json!("COMMITTED")),
            "{name}"
        );
        assert_eq!(artifact["artifactSequence"]["__typename"], "ArtifactSequence");
        assert_eq!(artifact["artifactType"]["name"], "job");
        assert_eq!(artifact["ttlDurationSeconds"], -2);
        assert_eq!(
            (&artifact["size"], &artifact["fileCount"]),
            (&json!(JOB.len()), &json!(1))
        );
    }
    assert_eq!(membership(&server, &key, "img-job:v1").await, Value::Null);

    let found = server
        .official(&key, "FetchArtifactManifest", json!({"id": id}))
        .await
        .data();
    let url = &found["artifact"]["currentManifest"]["file"]["directUrl"];
    let got = transfer(&server, "GET", url, &[], b"").await;
    assert_eq!(got.json()["contents"]["wandb-job.json"]["digest"], md5(JOB));

    let variables =
        json!({"entity": "alice", "project": "proj", "collection": "img-job", "alias": "v0", "perPage": 5000});
    let found = server
        .official(&key, "GetArtifactMembershipFileUrls", variables)
        .await
        .data();
    let files = &found["project"]["artifactCollection"]["artifactMembership"]["files"];
    assert_eq!(files["edges"][0]["node"]["name"], "wandb-job.json");
    let got = transfer(&server, "GET", &files["edges"][0]["node"]["directUrl"], &[], b"").await;
    assert_eq!(got.body, JOB);

    let variables = json!({"entityName": "alice", "projectName": "proj", "artifactTypeName": "job"});
    let found = server.official(&key, "ArtifactOfType", variables).await.data();
    let collections = &found["project"]["artifactType"]["artifactCollections"]["edges"];
    assert_eq!(
        collections[0]["node"]["artifacts"]["edges"][0]["node"]["artifactSequence"]["name"],
        "img-job"
    );
}

#[tokio::test]
async fn what_lies_elsewhere_is_listed_with_where_it_lies() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    let id = create(&server, &key, "client-1", "digest-1").await["id"].clone();
    announce(&server, &key, &id, "").await;
    let list = json!({"version": 1, "contents": {"data": {"digest": "etag", "ref": "s3://bucket/key", "size": 9}}});
    let list = list.to_string().into_bytes();
    let upload = announce(&server, &key, &id, &md5(&list)).await;
    let stored = transfer(&server, "PUT", &upload, &[], &list).await;
    assert_eq!(stored.status, StatusCode::OK);
    commit(&server, &key, &id).await.data();
    let asked = "query($id: ID!) { artifact(id: $id) { fileCount size \
                 files(first: 5) { edges { node { name directUrl sizeBytes } } } } }";
    let found = server.graphql(&key, asked, json!({"id": id})).await.data();
    let node = json!({"name": "data", "directUrl": "s3://bucket/key", "sizeBytes": 9});
    assert_eq!(
        found["artifact"],
        json!({"fileCount": 1, "size": 0, "files": {"edges": [{"node": node}]}})
    );
}

#[tokio::test]
async fn the_sdk_downloads_by_digest_what_its_user_may_read() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    let outsider = server.user("bob").await;
    let id = publish(&server, &key, "client-1", "digest-1", JOB).await;
    let id = id.as_str().unwrap();
    let hex = Md5::digest(JOB).iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    });
    let get = async |path: &str, key: Option<&str>, headers: &[(&str, &str)]| {
        let mut request = Request::get(path);
        if let Some(key) = key {
            request = request.header(header::AUTHORIZATION, basic(key));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        server.send(request.body(Body::empty()).unwrap()).await
    };
    for path in [
        format!("/artifacts/alice/{hex}"),
        format!("/artifactsV2/default/alice/{hex}"),
        format!("/artifactsV2/default/alice/{id}/{hex}/wandb-job.json"),
        format!("/artifactsV2/default/alice/proj/img-job/{id}/{hex}/wandb-job.json"),
        format!("/artifactsV2/default/alice/proj/img-job//{hex}/wandb-job.json"),
        format!("/artifactsV2/default/alice/proj/img-job/{id}//{hex}/a%20b%23.json"),
    ] {
        let got = get(&path, Some(&key), &[]).await;
        assert_eq!((got.status, got.body.as_slice()), (StatusCode::OK, JOB), "{path}");
        assert_eq!(get(&path, None, &[]).await.status, StatusCode::UNAUTHORIZED, "{path}");
        let foreign = get(&path, Some(&outsider), &[]).await;
        assert_eq!(foreign.status, StatusCode::NOT_FOUND, "{path}");
    }
    let part = get(
        &format!("/artifacts/alice/{hex}"),
        Some(&key),
        &[("range", "bytes=1-3")],
    )
    .await;
    assert_eq!(
        (part.status, part.body.as_slice()),
        (StatusCode::PARTIAL_CONTENT, &JOB[1..4])
    );
    let absent = "0".repeat(32);
    for path in [
        format!("/artifacts/alice/{absent}"),
        format!("/artifacts/nobody/{hex}"),
        // Another entity's store does not hold the bytes.
        format!("/artifacts/bob/{hex}"),
        "/artifacts/alice/not-a-digest".to_owned(),
        format!("/artifactsV2/{hex}"),
    ] {
        let got = get(&path, Some(&key), &[]).await;
        assert_eq!(got.status, StatusCode::NOT_FOUND, "{path}");
    }
    let own = get(&format!("/artifacts/bob/{hex}"), Some(&outsider), &[]).await;
    assert_eq!(own.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_same_client_id_or_digest_gets_the_same_version() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    let first = create(&server, &key, "client-1", "digest-1").await;
    assert_eq!(first["state"], "PENDING");
    assert_eq!(create(&server, &key, "client-1", "digest-1").await["id"], first["id"]);
    let id = publish(&server, &key, "client-1", "digest-1", JOB).await;
    assert_eq!(first["id"], id);

    let again = create(&server, &key, "client-2", "digest-1").await;
    assert_eq!((&again["id"], &again["state"]), (&id, &json!("COMMITTED")));

    let next = publish(&server, &key, "client-3", "digest-3", b"{}").await;
    assert_ne!(next, id);
    assert_eq!(membership(&server, &key, "img-job:prod").await["versionIndex"], 1);
    assert_eq!(membership(&server, &key, "img-job:v0").await["artifact"]["id"], id);
    let mapped = server
        .official(&key, "ClientIDMapping", json!({"clientID": "client-3"}))
        .await
        .data();
    assert_eq!(mapped["clientIDMapping"]["serverID"], next);
}

#[tokio::test]
async fn bytes_that_are_stored_are_not_asked_for_again() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    publish(&server, &key, "client-1", "digest-1", JOB).await;
    let id = create(&server, &key, "client-2", "digest-2").await["id"].clone();
    let file = add_file(&server, &key, &id, "copy.json", JOB).await;
    assert_eq!(file["uploadUrl"], Value::Null);
    assert_eq!(file["artifact"]["id"], id);
}

#[tokio::test]
async fn an_incomplete_version_is_not_committed() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    let id = create(&server, &key, "client-1", "digest-1").await["id"].clone();
    assert_eq!(
        commit(&server, &key, &id).await.status,
        StatusCode::BAD_REQUEST,
        "no manifest"
    );
    let list = manifest("wandb-job.json", JOB);
    let upload = announce(&server, &key, &id, &md5(&list)).await;
    assert_eq!(
        commit(&server, &key, &id).await.status,
        StatusCode::BAD_REQUEST,
        "manifest not uploaded"
    );
    assert_eq!(
        transfer(&server, "PUT", &upload, &[], &list).await.status,
        StatusCode::OK
    );
    let (status, _, message) = commit(&server, &key, &id).await.error();
    assert!((400..500).contains(&status), "a file is missing: {status} {message}");
    assert_eq!(membership(&server, &key, "img-job").await, Value::Null);

    let file = add_file(&server, &key, &id, "wandb-job.json", JOB).await;
    transfer(&server, "PUT", &file["uploadUrl"], &[], JOB).await;
    commit(&server, &key, &id).await.data();
    // Once more, as after a lost answer.
    commit(&server, &key, &id).await.data();
    assert_eq!(membership(&server, &key, "img-job").await["versionIndex"], 0);
}

#[tokio::test]
async fn uploads_are_held_to_what_was_announced() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    let id = create(&server, &key, "client-1", "digest-1").await["id"].clone();
    let file = add_file(&server, &key, &id, "a.bin", b"right").await;
    let url = &file["uploadUrl"];
    let forged = json!(url.as_str().unwrap().replace("a.bin", "b.bin"));
    for (what, answer, status) in [
        (
            "other bytes",
            transfer(&server, "PUT", url, &[], b"wrong").await,
            StatusCode::BAD_REQUEST,
        ),
        (
            "another digest",
            transfer(&server, "PUT", url, &[("content-md5", &md5(b"wrong"))], b"wrong").await,
            StatusCode::BAD_REQUEST,
        ),
        (
            "no digest",
            transfer(&server, "PUT", url, &[("content-md5", "?")], b"right").await,
            StatusCode::BAD_REQUEST,
        ),
        (
            "another name",
            transfer(&server, "PUT", &forged, &[], b"right").await,
            StatusCode::FORBIDDEN,
        ),
        (
            "another method",
            transfer(&server, "GET", url, &[], b"").await,
            StatusCode::FORBIDDEN,
        ),
        (
            "right",
            transfer(&server, "PUT", url, &[], b"right").await,
            StatusCode::OK,
        ),
    ] {
        assert_eq!(answer.status, status, "{what}");
    }
    server.pass(25 * 3_600_000);
    assert_eq!(
        transfer(&server, "PUT", url, &[], b"right").await.status,
        StatusCode::FORBIDDEN,
        "expired"
    );
}

#[tokio::test]
async fn run_files_are_stored_listed_and_served_safely() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    let variables = json!({"name": "r1", "project": "proj", "host": "vm"});
    server.official(&key, "UpsertBucket", variables).await.data();
    let names = ["page.html", "media/../a=1 図.txt", "config.yaml"];
    let variables = json!({"entity": "alice", "project": "proj", "run": "r1", "files": names});
    let made = server.official(&key, "CreateRunFiles", variables).await.data();
    for file in made["createRunFiles"]["files"].as_array().unwrap() {
        let body = format!("<script>{}</script>", file["name"]);
        let stored = transfer(&server, "PUT", &file["uploadUrl"], &[], body.as_bytes()).await;
        assert_eq!(stored.status, StatusCode::OK, "{file}");
    }
    // Both are one file, by either name.
    let again = json!({"entity": "alice", "project": "proj", "run": "r1", "files": ["./config.yaml"]});
    let made = server.official(&key, "CreateRunFiles", again).await.data();
    let file = &made["createRunFiles"]["files"][0];
    assert_eq!(file["name"], "./config.yaml");
    transfer(&server, "PUT", &file["uploadUrl"], &[], b"again").await;
    for name in ["config.yaml", "./config.yaml"] {
        let document = "query($n: [String]) { project(name: \"proj\", entityName: \"alice\") { run(name: \"r1\") { \
                        files(names: $n) { edges { node { name directUrl } } } } } }";
        let found = server.graphql(&key, document, json!({"n": [name]})).await.data();
        let edges = &found["project"]["run"]["files"]["edges"];
        assert_eq!(edges[0]["node"]["name"], "config.yaml", "{found}");
        let got = transfer(&server, "GET", &edges[0]["node"]["directUrl"], &[], b"").await;
        assert_eq!(got.body, b"again"[..]);
    }
    let variables = json!({"entity": "alice", "project": "proj", "name": "r1", "pattern": "%.html"});
    let run = server.official(&key, "RunFiles", variables).await.data()["project"]["run"].clone();
    assert_eq!(
        (&run["fileCount"], run["files"]["edges"].as_array().unwrap().len()),
        (&json!(3), 1)
    );
    let url = &run["files"]["edges"][0]["node"]["directUrl"];
    let got = transfer(&server, "GET", url, &[], b"").await;
    assert_eq!(got.status, StatusCode::OK);
    for (name, value) in [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox"),
    ] {
        assert_eq!(got.headers[&name], value);
    }
    let disposition = got.headers[header::CONTENT_DISPOSITION].to_str().unwrap();
    assert!(disposition.starts_with("attachment;"), "{disposition}");

    let part = transfer(&server, "GET", url, &[("range", "bytes=0-7")], b"").await;
    assert_eq!(
        (part.status, part.body.as_slice()),
        (StatusCode::PARTIAL_CONTENT, &b"<script>"[..])
    );
    let beyond = transfer(&server, "GET", url, &[("range", "bytes=999-")], b"").await;
    assert_eq!(beyond.status, StatusCode::RANGE_NOT_SATISFIABLE);
    let etag = got.headers[header::ETAG].to_str().unwrap();
    let known = transfer(&server, "GET", url, &[("if-none-match", etag)], b"").await;
    assert_eq!(known.status, StatusCode::NOT_MODIFIED);
}

#[tokio::test]
async fn outsiders_and_bad_input_are_refused() {
    let server = TestServer::new().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let id = publish(&server, &alice, "client-1", "digest-1", JOB).await;
    let hidden = server
        .official(&bob, "FetchArtifactManifest", json!({"id": id}))
        .await
        .data();
    assert_eq!(hidden["artifact"], Value::Null);
    let variables = json!({"artifactID": id, "metadata": "{}"});
    let refused = server.official(&bob, "UpdateArtifact", variables).await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND);
    for (change, status) in [
        (json!({"artifactCollectionName": "a/b"}), StatusCode::BAD_REQUEST),
        (json!({"artifactCollectionName": null}), StatusCode::BAD_REQUEST),
        (json!({"metadata": "{"}), StatusCode::BAD_REQUEST),
        (json!({"entityName": "bob"}), StatusCode::NOT_FOUND),
        (json!({"digestAlgorithm": "MANIFEST_XXH128"}), StatusCode::BAD_REQUEST),
    ] {
        let mut variables = new_artifact("other", "client-9", "digest-9");
        let input = variables["input"].as_object_mut().unwrap();
        input.extend(change.as_object().unwrap().clone());
        let answer = server.official(&alice, "CreateArtifact-2", variables).await;
        assert_eq!(answer.status, status, "{change}");
    }
    let garbage = announce_garbage(&server, &alice).await;
    assert_eq!(garbage.status, StatusCode::BAD_REQUEST);
    let unknown = server
        .official(&alice, "ArtifactByID", json!({"id": "nonsense"}))
        .await
        .data();
    assert_eq!(unknown["artifact"], Value::Null);
}

async fn announce_garbage(server: &TestServer, key: &str) -> Answer {
    let id = create(server, key, "client-8", "digest-8").await["id"].clone();
    let upload = announce(server, key, &id, &md5(b"\xff\x00")).await;
    transfer(server, "PUT", &upload, &[], b"\xff\x00").await;
    commit(server, key, &id).await
}

#[tokio::test]
async fn metadata_aliases_and_uses_are_recorded() {
    let server = TestServer::new().await;
    let key = server.user("alice").await;
    let id = publish(&server, &key, "client-1", "digest-1", JOB).await;
    let changed = server
        .official(
            &key,
            "UpdateArtifact",
            json!({"artifactID": id, "metadata": "{\"input_types\":{}}"}),
        )
        .await
        .data();
    assert_eq!(changed["updateArtifact"]["artifact"]["id"], id);
    let alias =
        json!([{"alias": "best", "artifactCollectionName": "img-job", "entityName": "alice", "projectName": "proj"}]);
    let input = json!({"input": {"artifactID": id, "aliases": alias}});
    server.official(&key, "AddAliases", input.clone()).await.data();
    let found = membership(&server, &key, "img-job:best").await;
    assert_eq!(found["artifact"]["metadata"], "{\"input_types\":{}}");
    server.official(&key, "DeleteAliases", input).await.data();
    assert_eq!(membership(&server, &key, "img-job:best").await, Value::Null);

    let run = json!({"name": "r1", "project": "proj", "host": "vm"});
    server.official(&key, "UpsertBucket", run).await.data();
    let variables =
        json!({"entityName": "alice", "projectName": "proj", "runName": "r1", "artifactID": id, "usedAs": null});
    server.official(&key, "UseArtifact", variables).await.data();
    let variables = json!({"entity": "alice", "project": "proj", "run": "r1"});
    let used = server.official(&key, "RunInputArtifacts", variables).await.data();
    assert_eq!(used["project"]["run"]["artifacts"]["edges"][0]["node"]["id"], id);
}
