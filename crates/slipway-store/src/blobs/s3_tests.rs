//! Blobs in a bucket, against a real S3 service.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use super::tests::{ANY, body};
use super::*;

/// Base64 of the MD5 of `hello`.
const HELLO_MD5: &str = "XUFAKrxLKna5cZ2REBfFkg==";

fn endpoint() -> String {
    std::env::var("SLIPWAY_TEST_S3_ENDPOINT").unwrap_or_else(|_| {
        panic!(
            "this test needs an S3 service: run `make test`, or \
             SLIPWAY_TEST_S3_ENDPOINT=$(scripts/moto.sh start) cargo test"
        )
    })
}

/// Sends one request, as a client that knows nothing but an address would.
fn http(method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
    let url = Url::parse(url).unwrap();
    let address = url.socket_addrs(|| Some(80)).unwrap()[0];
    let mut connection = TcpStream::connect(address).unwrap();
    let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let mut request = format!(
        "{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    connection.write_all(format!("{request}\r\n{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let (_, content) = answer.split_once("\r\n\r\n").unwrap();
    (status, content.to_owned())
}

/// A bucket of its own for each test.
fn bucket(name: &str) -> (String, AmazonS3Builder) {
    let endpoint = endpoint();
    let bucket = format!("slipway-{name}-{}", std::process::id());
    assert_eq!(
        http("PUT", &format!("{endpoint}/{bucket}"), &[], "").0,
        200,
        "a bucket is made"
    );
    let settings = AmazonS3Builder::new()
        .with_endpoint(endpoint)
        .with_region("us-east-1")
        .with_access_key_id("test")
        .with_secret_access_key("test");
    (bucket, settings)
}

#[tokio::test]
async fn a_bucket_keeps_what_was_put_and_lists_by_prefix() {
    let (bucket, settings) = bucket("keeps");
    let blobs = Blobs::open_s3(&format!("s3://{bucket}/some/prefix"), settings.clone()).unwrap();
    blobs.check().await.unwrap();
    assert!(!blobs.is_local());
    let path = path::run_file(1, "media/日本 語=1%.png");
    let large: Vec<u8> = (0..2 * PART as u32 + 7).map(|n| (n % 251) as u8).collect();
    for content in [Vec::new(), b"0123456789".to_vec(), large] {
        let chunks = content.chunks(100_000).map(|chunk| Ok(chunk.to_vec())).collect();
        let stored = blobs.put(&path, body(chunks), ANY).await.unwrap();
        assert_eq!(stored.size, content.len() as u64);
        assert!(blobs.read(&path).await.unwrap() == content, "{} bytes", content.len());
    }
    blobs.put_bytes(&path, Bytes::from_static(b"0123456789")).await.unwrap();
    let read = blobs.get(&path, ByteRange::Between(2, 5)).await.unwrap();
    let bytes: Vec<Bytes> = read.stream.try_collect().await.unwrap();
    assert_eq!((bytes.concat(), read.info.size), (b"234".to_vec(), 10));
    let behind = blobs.get(&path, ByteRange::From(10)).await.err();
    assert!(matches!(behind, Some(BlobError::Range { size: 10 })), "{behind:?}");

    blobs.put_bytes("runs/12/a", Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(blobs.delete_prefix("runs/1").await.unwrap(), 1);
    assert!(matches!(blobs.head(&path).await, Err(BlobError::NotFound(_))));
    assert_eq!(blobs.read("runs/12/a").await.unwrap(), "x");
    blobs.delete("runs/12/a").await.unwrap();
    blobs.delete("runs/12/a").await.unwrap();
}

#[tokio::test]
async fn a_broken_upload_leaves_nothing_in_the_bucket() {
    let (bucket, settings) = bucket("broken");
    let blobs = Blobs::open_s3(&format!("s3://{bucket}"), settings).unwrap();
    let part = || Ok(vec![7; PART + 1]);
    let error = blobs
        .put("runs/1/a", body(vec![part(), part(), Err("reset")]), ANY)
        .await;
    assert!(matches!(error, Err(BlobError::Body(_))), "{error:?}");
    let wrong = Expect {
        limit: u64::MAX,
        md5: Some([0; 16]),
    };
    let error = blobs.put("runs/1/a", body(vec![part(), part()]), wrong).await;
    assert!(matches!(error, Err(BlobError::Md5 { .. })), "{error:?}");
    assert!(matches!(blobs.head("runs/1/a").await, Err(BlobError::NotFound(_))));
}

#[tokio::test]
async fn a_direct_address_takes_and_gives_without_credentials() {
    let (bucket, settings) = bucket("direct");
    let blobs = Blobs::open_s3(&format!("s3://{bucket}/p"), settings).unwrap();
    let term = Duration::from_secs(60);
    let put = blobs
        .direct_address(Method::Put, "artifacts/1/a", Some(HELLO_MD5), term)
        .await
        .unwrap()
        .unwrap();
    assert!(
        put.query().unwrap().contains("content-md5"),
        "the digest is part of what is signed: {put}"
    );
    let sent = put.to_string();
    let status = tokio::task::spawn_blocking(move || http("PUT", &sent, &[("Content-MD5", HELLO_MD5)], "hello"));
    assert_eq!(status.await.unwrap().0, 200);
    assert_eq!(blobs.read("artifacts/1/a").await.unwrap(), "hello");
    let get = blobs
        .direct_address(Method::Get, "artifacts/1/a", None, term)
        .await
        .unwrap()
        .unwrap();
    let answer = tokio::task::spawn_blocking(move || http("GET", get.as_str(), &[], ""))
        .await
        .unwrap();
    assert_eq!(answer, (200, "hello".to_owned()));
}

#[tokio::test]
async fn a_service_that_is_away_is_unavailable_not_empty() {
    let settings = AmazonS3Builder::new()
        .with_endpoint("http://127.0.0.1:9")
        .with_region("us-east-1")
        .with_access_key_id("test")
        .with_secret_access_key("very-secret");
    let mut blobs = Blobs::open_s3("s3://bucket", settings.clone()).unwrap();
    // The same settings without the patience of a server.
    let impatient = settings
        .with_bucket_name("bucket")
        .with_allow_http(true)
        .with_retry(RetryConfig {
            max_retries: 0,
            ..RetryConfig::default()
        });
    blobs.store = Arc::new(impatient.build().unwrap());
    let error = blobs.head("runs/1/a").await.unwrap_err();
    assert!(matches!(&error, BlobError::Unavailable(_)), "{error:?}");
    assert!(!error.to_string().contains("very-secret"));
}
