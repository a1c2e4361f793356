//! The bytes of files, artifacts and logs: a local directory, or S3-compatible storage.

/// Where blobs are kept, by configuration.
#[derive(Debug, Clone)]
pub enum BlobOptions {
    /// A directory; files and directories are fsynced.
    Local {
        /// The root.
        dir: std::path::PathBuf,
    },
    /// S3-compatible storage.
    S3 {
        /// `s3://bucket/prefix`; credentials, region and endpoint come from `AWS_*` variables.
        url: String,
    },
}
