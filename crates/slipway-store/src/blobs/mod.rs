//! The bytes of files, artifacts and logs: a local directory, or S3-compatible storage.
//!
//! A blob appears under its path only when all its bytes are stored and, in a local directory,
//! flushed with the directories that lead to it. This module knows nothing of runs and artifacts
//! but where their blobs lie ([`path`]), and decides nothing about access: who may do what with a
//! blob is in the address that [`Signer`] signs.

pub mod path;
mod signer;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use md5::{Digest as _, Md5};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::buffered::BufWriter;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer as _};
use object_store::{GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt as _, RetryConfig};
use slipway_model::Millis;
use tokio::io::AsyncWriteExt as _;
use url::Url;

pub use signer::{Grant, Method, SignatureError, Signer};

/// Bodies up to this size are written in one piece; larger ones in parts of it. The least part that
/// S3 takes.
const PART: usize = 5 * 1024 * 1024;

/// Parts of one upload that are under way at a time. Bounds the memory of an upload.
const PARTS_IN_FLIGHT: usize = 2;

/// How long a call to the object store may repeat itself before the caller hears of the trouble.
const RETRY_FOR: Duration = Duration::from_secs(20);

/// Where blobs are kept, by configuration.
#[derive(Debug, Clone)]
pub enum BlobOptions {
    /// A directory; files and directories are fsynced.
    Local {
        /// The root; created if absent.
        dir: PathBuf,
    },
    /// S3-compatible storage.
    S3 {
        /// `s3://bucket/prefix`; credentials, region and endpoint come from `AWS_*` variables.
        url: String,
    },
}

/// Why an operation on a blob did not happen. A failed write leaves what was there before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// There is no such blob.
    #[error("there is no blob `{0}`")]
    NotFound(String),
    /// The path is not one that this installation builds.
    #[error("`{0}` is not the path of a blob")]
    Path(String),
    /// The body is larger than the caller allows.
    #[error("the upload is larger than the {limit} bytes that are allowed")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The body's MD5 is not the announced one. Both in base64.
    #[error("the upload has MD5 {actual}, announced was {expected}")]
    Md5 {
        /// What was announced.
        expected: String,
        /// What arrived.
        actual: String,
    },
    /// The sender broke off.
    #[error("the upload broke off: {0}")]
    Body(String),
    /// The asked range begins behind the end.
    #[error("the blob has {size} bytes; the range begins behind its end")]
    Range {
        /// The blob's size in bytes.
        size: u64,
    },
    /// The configuration is not usable; the text says what to do.
    #[error("{0}")]
    Configuration(String),
    /// The storage cannot take the request now; the same request may succeed later. The text is for
    /// the log.
    #[error("the blob storage is unavailable: {0}")]
    Unavailable(String),
}

/// What is known of a blob without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobInfo {
    /// Bytes.
    pub size: u64,
    /// When it was written.
    pub modified_at: Millis,
    /// Changes with the content.
    pub etag: Option<String>,
}

/// Which part of a blob to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ByteRange {
    /// All of it.
    #[default]
    Full,
    /// From a position to the end.
    From(u64),
    /// From a position up to, not including, another; cut at the blob's end.
    Between(u64, u64),
    /// The last bytes.
    Last(u64),
}

impl ByteRange {
    /// The positions within a blob of `size` bytes; `None` if the range begins behind its end.
    #[must_use]
    pub fn resolve(self, size: u64) -> Option<Range<u64>> {
        match self {
            Self::Full => Some(0..size),
            Self::From(start) => (start < size).then_some(start..size),
            Self::Between(start, end) => (start < size && start < end).then(|| start..end.min(size)),
            Self::Last(count) => (count > 0 && size > 0).then(|| size.saturating_sub(count)..size),
        }
    }
}

/// A blob that is being read.
pub struct BlobRead {
    /// What is known of the whole.
    pub info: BlobInfo,
    /// The part that the stream yields.
    pub range: Range<u64>,
    /// Its bytes.
    pub stream: BoxStream<'static, Result<Bytes, BlobError>>,
}

/// What a caller demands of an upload.
#[derive(Debug, Clone, Copy)]
pub struct Expect {
    /// The most bytes.
    pub limit: u64,
    /// The MD5 that the bytes must have.
    pub md5: Option<[u8; 16]>,
}

/// What an upload stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredBlob {
    /// Bytes.
    pub size: u64,
    /// Their MD5.
    pub md5: [u8; 16],
}

/// A handle to the blob storage; cheap to clone.
#[derive(Debug, Clone)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    /// Set for storage that clients can be sent to directly.
    direct: Option<Arc<AmazonS3>>,
    /// Set for a local directory.
    dir: Option<PathBuf>,
    prefix: Path,
}

impl Blobs {
    /// Opens the storage. Does not touch the network: see [`Self::check`].
    ///
    /// # Errors
    /// [`BlobError::Configuration`] if the directory cannot be made or the options do not fit.
    pub fn open(options: &BlobOptions) -> Result<Self, BlobError> {
        match options {
            BlobOptions::Local { dir } => Self::open_local(dir),
            BlobOptions::S3 { url } => Self::open_s3(url, AmazonS3Builder::from_env()),
        }
    }

    fn open_local(dir: &std::path::Path) -> Result<Self, BlobError> {
        let unusable = |error: &dyn std::fmt::Display| {
            BlobError::Configuration(format!("the blob directory {} cannot be used: {error}", dir.display()))
        };
        make_directory(dir).map_err(|error| unusable(&error))?;
        let store = LocalFileSystem::new_with_prefix(dir).map_err(|error| unusable(&error))?;
        Ok(Self {
            store: Arc::new(store.with_fsync(true)),
            direct: None,
            dir: Some(dir.to_owned()),
            prefix: Path::default(),
        })
    }

    fn open_s3(address: &str, settings: AmazonS3Builder) -> Result<Self, BlobError> {
        let (bucket, prefix) = parse_s3_address(address)?;
        let endpoint = settings.get_config_value(&AmazonS3ConfigKey::Endpoint);
        let retry = RetryConfig {
            max_retries: 5,
            retry_timeout: RETRY_FOR,
            ..RetryConfig::default()
        };
        let store = settings
            .with_bucket_name(bucket)
            .with_retry(retry)
            // Whoever sets a plain endpoint has decided for it: a store on the same machine or network.
            .with_allow_http(endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")))
            .build()
            .map_err(|error| {
                BlobError::Configuration(format!("the S3 settings in AWS_* variables do not fit: {error}"))
            })?;
        let store = Arc::new(store);
        Ok(Self {
            store: store.clone(),
            direct: Some(store),
            dir: None,
            prefix,
        })
    }

    /// Writes, reads and deletes a small blob, so that wrong settings show when a server starts
    /// rather than with the first upload.
    ///
    /// # Errors
    /// The first thing that did not work.
    pub async fn check(&self) -> Result<(), BlobError> {
        const PROBE: &str = "probe";
        self.put_bytes(PROBE, Bytes::from_static(b"probe")).await?;
        let read = self.read(PROBE).await?;
        if &read[..] != b"probe" {
            return Err(BlobError::Configuration(
                "the blob storage returned other bytes than were written to it".to_owned(),
            ));
        }
        self.delete(PROBE).await
    }

    /// Whether this is a directory of this machine, which other servers cannot see.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.dir.is_some()
    }

    /// Stores a body under a path, replacing what was there. The blob appears when the whole body is
    /// stored and has passed `expect`, or not at all. Holds a few parts in memory, never the body.
    ///
    /// # Errors
    /// [`BlobError::Body`] if the sender breaks off, [`BlobError::TooLarge`] and [`BlobError::Md5`] if
    /// the body is not as expected, [`BlobError::Unavailable`] if the storage does not take it.
    pub async fn put<S, E>(&self, path: &str, body: S, expect: Expect) -> Result<StoredBlob, BlobError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send,
        E: std::fmt::Display,
    {
        let location = self.location(path)?;
        let mut upload = Upload::begin(&self.store, location);
        let mut md5 = Md5::new();
        let mut size = 0_u64;
        let mut body = std::pin::pin!(body);
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| BlobError::Body(error.to_string()))?;
            size += chunk.len() as u64;
            if size > expect.limit {
                return Err(BlobError::TooLarge { limit: expect.limit });
            }
            md5.update(&chunk);
            upload.write(chunk).await?;
        }
        let md5: [u8; 16] = md5.finalize().into();
        if let Some(expected) = expect.md5.filter(|expected| *expected != md5) {
            return Err(BlobError::Md5 {
                expected: STANDARD.encode(expected),
                actual: STANDARD.encode(md5),
            });
        }
        upload.finish().await?;
        Ok(StoredBlob { size, md5 })
    }

    /// Stores bytes that are at hand.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub async fn put_bytes(&self, path: &str, bytes: Bytes) -> Result<StoredBlob, BlobError> {
        let expect = Expect {
            limit: u64::MAX,
            md5: None,
        };
        let body = futures::stream::iter([Ok::<_, std::convert::Infallible>(bytes)]);
        self.put(path, body, expect).await
    }

    /// Reads a blob, or a part of it.
    ///
    /// # Errors
    /// [`BlobError::NotFound`]; [`BlobError::Range`] if the range begins behind the end.
    pub async fn get(&self, path: &str, range: ByteRange) -> Result<BlobRead, BlobError> {
        let location = self.location(path)?;
        let mut options = GetOptions::new();
        if range != ByteRange::Full {
            // The size decides what the range means; object stores answer an unsatisfiable one in
            // different ways.
            let info = self.head(path).await?;
            let resolved = range.resolve(info.size).ok_or(BlobError::Range { size: info.size })?;
            options = options.with_range(Some(resolved));
        }
        let result = self
            .store
            .get_opts(&location, options)
            .await
            .map_err(|error| translate(path, error))?;
        let owned = path.to_owned();
        Ok(BlobRead {
            info: info(&result.meta),
            range: result.range.clone(),
            stream: result
                .into_stream()
                .map_err(move |error| translate(&owned, error))
                .boxed(),
        })
    }

    /// Reads a whole blob into memory: for manifests and other things that are known to be small.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn read(&self, path: &str) -> Result<Bytes, BlobError> {
        let mut stream = self.get(path, ByteRange::Full).await?.stream;
        let mut bytes = bytes::BytesMut::new();
        while let Some(chunk) = stream.try_next().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    }

    /// What is known of a blob.
    ///
    /// # Errors
    /// [`BlobError::NotFound`] if there is none.
    pub async fn head(&self, path: &str) -> Result<BlobInfo, BlobError> {
        let meta = self.store.head(&self.location(path)?).await;
        meta.map(|meta| info(&meta)).map_err(|error| translate(path, error))
    }

    /// Deletes a blob; nothing happens if there is none.
    ///
    /// # Errors
    /// [`BlobError::Unavailable`].
    pub async fn delete(&self, path: &str) -> Result<(), BlobError> {
        match self.store.delete(&self.location(path)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(translate(path, error)),
        }
    }

    /// Deletes every blob below a prefix, such as [`path::run_files`]. Returns how many there were.
    /// Whole segments count: `runs/1` does not touch `runs/12`.
    ///
    /// # Errors
    /// [`BlobError::Unavailable`]; what was deleted until then stays deleted.
    pub async fn delete_prefix(&self, prefix: &str) -> Result<u64, BlobError> {
        let location = self.location(prefix)?;
        let found = self.store.list(Some(&location)).map_ok(|meta| meta.location).boxed();
        let deleted = self
            .store
            .delete_stream(found)
            .filter(|result| {
                let gone = matches!(result, Err(object_store::Error::NotFound { .. }));
                futures::future::ready(!gone)
            })
            .try_fold(0, |count, _| futures::future::ready(Ok(count + 1)))
            .await
            .map_err(|error| translate(prefix, error))?;
        if let Some(dir) = &self.dir {
            // Left behind by the local store, which knows files only.
            let dir = dir.join(location.as_ref());
            match tokio::fs::remove_dir_all(&dir).await {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(BlobError::Unavailable(format!("{}: {error}", dir.display()))),
            }
        }
        Ok(deleted)
    }

    /// An address at which a client reaches the storage itself, for `expires_in`. `None` if the
    /// storage is a directory, which only the server reaches. With `md5` an upload must carry that
    /// `Content-MD5`.
    ///
    /// # Errors
    /// [`BlobError::Unavailable`] if no credentials can be had.
    pub async fn direct_address(
        &self,
        method: Method,
        path: &str,
        md5: Option<&str>,
        expires_in: Duration,
    ) -> Result<Option<Url>, BlobError> {
        let Some(store) = &self.direct else { return Ok(None) };
        let location = self.location(path)?;
        let mut options = SignedUrlOptions::new();
        if let Some(md5) = md5 {
            let value = md5.parse().map_err(|_| BlobError::Path(path.to_owned()))?;
            let name = "content-md5".parse().expect("a constant header name is valid");
            options = options.with_signed_header(name, value);
        }
        let method = method.as_str().parse().expect("a constant method is valid");
        let url = store.signed_url_opts(method, &location, expires_in, &options).await;
        url.map(Some).map_err(|error| translate(path, error))
    }

    fn location(&self, path: &str) -> Result<Path, BlobError> {
        let path = path::parse(path).ok_or_else(|| BlobError::Path(path.chars().take(200).collect()))?;
        if self.prefix.is_root() {
            return Ok(path);
        }
        let joined = format!("{}/{path}", self.prefix);
        Path::parse(&joined).map_err(|_| BlobError::Path(joined))
    }
}

/// Makes a directory whose name survives a loss of power: what is below it is synced with each blob,
/// but a name is durable only once the directory that holds it is synced, too. The name of a directory
/// that is there already may not be: a server may have died right after it made it.
fn make_directory(dir: &std::path::Path) -> std::io::Result<()> {
    let dir = std::path::absolute(dir)?;
    let made = dir.ancestors().skip(1).take_while(|path| !path.exists()).count();
    std::fs::create_dir_all(&dir)?;
    for parent in dir.ancestors().skip(1).take(made + 1) {
        std::fs::File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// Reads the base64 form of an MD5, as `Content-MD5` and manifests carry it.
#[must_use]
pub fn decode_md5(text: &str) -> Option<[u8; 16]> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

/// An upload under way. Dropped before its end, it takes back what it has stored.
struct Upload {
    writer: Option<BufWriter>,
    location: Path,
}

impl Upload {
    fn begin(store: &Arc<dyn ObjectStore>, location: Path) -> Self {
        let writer = BufWriter::with_capacity(store.clone(), location.clone(), PART);
        Self {
            writer: Some(writer.with_max_concurrency(PARTS_IN_FLIGHT)),
            location,
        }
    }

    async fn write(&mut self, chunk: Bytes) -> Result<(), BlobError> {
        let writer = self.writer.as_mut().expect("only `finish` takes the writer");
        writer
            .put(chunk)
            .await
            .map_err(|error| translate(self.location.as_ref(), error))
    }

    async fn finish(mut self) -> Result<(), BlobError> {
        let mut writer = self.writer.take().expect("only `finish` takes the writer");
        writer
            .shutdown()
            .await
            .map_err(|error| BlobError::Unavailable(error.to_string()))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(mut writer) = self.writer.take() else { return };
        let location = std::mem::take(&mut self.location);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = writer.abort().await {
                    tracing::warn!(path = %location, %error, "parts of a broken upload could not be removed");
                }
            });
        }
    }
}

fn info(meta: &ObjectMeta) -> BlobInfo {
    BlobInfo {
        size: meta.size,
        modified_at: meta.last_modified.timestamp_millis(),
        etag: meta.e_tag.clone(),
    }
}

fn translate(path: &str, error: object_store::Error) -> BlobError {
    match error {
        object_store::Error::NotFound { .. } => BlobError::NotFound(path.to_owned()),
        object_store::Error::InvalidPath { .. } => BlobError::Path(path.to_owned()),
        other => BlobError::Unavailable(other.to_string()),
    }
}

/// Splits `s3://bucket/prefix`.
fn parse_s3_address(address: &str) -> Result<(String, Path), BlobError> {
    let wrong = || {
        BlobError::Configuration(format!(
            "`{address}` is not the address of a bucket; write `s3://bucket` or `s3://bucket/prefix`"
        ))
    };
    let url = Url::parse(address).map_err(|_| wrong())?;
    let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    if url.scheme() != "s3" || !plain {
        return Err(BlobError::Configuration(
            "blobs go to `s3://bucket` or `s3://bucket/prefix`, without credentials; those come from AWS_* variables"
                .to_owned(),
        ));
    }
    let bucket = url.host_str().ok_or_else(wrong)?.to_owned();
    let prefix = Path::from_url_path(url.path()).map_err(|_| wrong())?;
    Ok((bucket, prefix))
}

#[cfg(test)]
mod s3_tests;
#[cfg(test)]
mod tests;
