use futures::stream;
use tempfile::TempDir;

use super::*;

pub(super) const ANY: Expect = Expect {
    limit: u64::MAX,
    md5: None,
};

fn local() -> (TempDir, Blobs) {
    let dir = TempDir::new().unwrap();
    let options = BlobOptions::Local {
        dir: dir.path().join("blobs"),
    };
    (dir, Blobs::open(&options).unwrap())
}

pub(super) fn body(chunks: Vec<Result<Vec<u8>, &'static str>>) -> impl Stream<Item = Result<Bytes, &'static str>> {
    stream::iter(chunks.into_iter().map(|chunk| chunk.map(Bytes::from)))
}

/// Files below the root, relative.
fn files(dir: &TempDir) -> Vec<String> {
    fn walk(dir: &std::path::Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else {
                found.push(path.to_string_lossy().into_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(dir.path(), &mut found);
    found
}

#[tokio::test]
async fn what_was_put_is_read_back_whole_and_in_ranges() {
    let (_dir, blobs) = local();
    blobs.check().await.unwrap();
    let large: Vec<u8> = (0..12_000_000_u32).map(|n| (n % 251) as u8).collect();
    for content in [Vec::new(), b"0123456789".to_vec(), large] {
        let chunks = content.chunks(70_000).map(|chunk| Ok(chunk.to_vec())).collect();
        let stored = blobs.put("runs/1/a", body(chunks), ANY).await.unwrap();
        assert_eq!(stored.size, content.len() as u64);
        assert_eq!(stored.md5, <[u8; 16]>::from(Md5::digest(&content)));
        assert_eq!(blobs.read("runs/1/a").await.unwrap(), content);
        assert_eq!(blobs.head("runs/1/a").await.unwrap().size, content.len() as u64);
    }
    blobs
        .put_bytes("runs/1/a", Bytes::from_static(b"0123456789"))
        .await
        .unwrap();
    let cases = [
        (ByteRange::Full, 0..10),
        (ByteRange::From(4), 4..10),
        (ByteRange::Between(2, 5), 2..5),
        (ByteRange::Between(8, 99), 8..10),
        (ByteRange::Last(3), 7..10),
        (ByteRange::Last(99), 0..10),
    ];
    for (range, expected) in cases {
        let read = blobs.get("runs/1/a", range).await.unwrap();
        assert_eq!((read.range, read.info.size), (expected.clone(), 10), "{range:?}");
        let bytes: Vec<Bytes> = read.stream.try_collect().await.unwrap();
        let text: Vec<u8> = bytes.concat();
        assert_eq!(text, b"0123456789"[expected.start as usize..expected.end as usize]);
    }
    for range in [ByteRange::From(10), ByteRange::Between(5, 5), ByteRange::Last(0)] {
        let error = blobs.get("runs/1/a", range).await.err();
        assert!(matches!(error, Some(BlobError::Range { size: 10 })), "{range:?}");
    }
}

#[tokio::test]
async fn an_upload_that_fails_leaves_what_was_there_before() {
    let (dir, blobs) = local();
    blobs
        .put_bytes("runs/1/a", Bytes::from_static(b"before"))
        .await
        .unwrap();
    let part = vec![7; PART + 1];
    let small = Expect { limit: 5, md5: None };
    let other = Expect {
        limit: u64::MAX,
        md5: Some([0; 16]),
    };
    let cases = [
        ("too large", vec![Ok(vec![1; 6])], small),
        ("wrong digest", vec![Ok(vec![1])], other),
        (
            "wrong digest of a large body",
            vec![Ok(part.clone()), Ok(vec![1])],
            other,
        ),
        ("broken off", vec![Ok(part), Err("connection reset")], ANY),
    ];
    for (case, chunks, expect) in cases {
        let error = blobs.put("runs/1/a", body(chunks), expect).await.unwrap_err();
        match (case, error) {
            ("too large", BlobError::TooLarge { limit: 5 }) => {}
            ("wrong digest" | "wrong digest of a large body", BlobError::Md5 { .. }) => {}
            ("broken off", BlobError::Body(text)) => assert_eq!(text, "connection reset"),
            (case, error) => panic!("{case}: {error:?}"),
        }
        assert_eq!(blobs.read("runs/1/a").await.unwrap(), "before", "{case}");
    }
    // The parts of broken uploads are removed in the background.
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while files(&dir).len() > 1 {
        assert!(std::time::Instant::now() < deadline, "{:?}", files(&dir));
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn deleting_takes_exactly_what_is_named() {
    let (dir, blobs) = local();
    for path in ["runs/1/a", "runs/1/b%2Fc", "runs/12/a"] {
        blobs.put_bytes(path, Bytes::from_static(b"x")).await.unwrap();
    }
    assert_eq!(blobs.delete_prefix("runs/1").await.unwrap(), 2);
    assert_eq!(blobs.delete_prefix("runs/1").await.unwrap(), 0);
    assert!(!dir.path().join("blobs/runs/1").exists());
    assert!(matches!(blobs.read("runs/1/a").await, Err(BlobError::NotFound(_))));
    blobs.delete("runs/12/a").await.unwrap();
    blobs.delete("runs/12/a").await.unwrap();
    assert_eq!(files(&dir), Vec::<String>::new());
}

#[tokio::test]
async fn no_path_leaves_the_root() {
    let (dir, blobs) = local();
    std::fs::write(dir.path().join("secret"), "x").unwrap();
    for path in ["../secret", "/etc/hostname", "runs/../../secret", "a//b", "", "a\0b"] {
        assert!(matches!(blobs.read(path).await, Err(BlobError::Path(_))), "{path:?}");
        let written = blobs.put_bytes(path, Bytes::from_static(b"y")).await;
        assert!(matches!(written, Err(BlobError::Path(_))), "{path:?}");
        assert!(
            matches!(blobs.delete_prefix(path).await, Err(BlobError::Path(_))),
            "{path:?}"
        );
    }
    // `%2E%2E` is a name, not a step upwards.
    let path = path::run_file(1, "..");
    blobs.put_bytes(&path, Bytes::from_static(b"y")).await.unwrap();
    assert_eq!(blobs.read(&path).await.unwrap(), "y");
    assert!(files(&dir).iter().any(|file| file.ends_with("blobs/runs/1/%2E%2E")));
}

#[test]
fn bucket_addresses_are_checked() {
    let (bucket, prefix) = parse_s3_address("s3://models/team/a").unwrap();
    assert_eq!((bucket.as_str(), prefix.as_ref()), ("models", "team/a"));
    let (_, prefix) = parse_s3_address("s3://models/").unwrap();
    assert!(prefix.is_root());
    for address in [
        "models",
        "http://models",
        "s3://",
        "s3://key:secret@models",
        "s3://models?x=1",
    ] {
        let error = parse_s3_address(address).unwrap_err().to_string();
        assert!(error.contains("s3://bucket") && !error.contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn a_directory_has_no_direct_addresses() {
    let (_dir, blobs) = local();
    let address = blobs
        .direct_address(Method::Get, "runs/1/a", None, Duration::from_secs(60))
        .await;
    assert_eq!(address.unwrap(), None);
    assert!(blobs.is_local());
}
