//! `slipway server`, and what `slipway up` and `slipway user` share with it.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use chrono::Utc;
use clap::{Args, ValueEnum};
use slipway_model::address::HostPort;
use slipway_server::auth::{generate_key, hash_secret, key_hint, stored_key};
use slipway_server::{Listening, Network, RateLimit, Server, ServerOptions, TlsFiles};
use slipway_store::blobs::{BlobOptions, Blobs};
use slipway_store::identity::NewUser;
use slipway_store::{Options, Store};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::api_key;
use crate::config::files::{cannot, read_or_empty, write_private};
use crate::context::non_empty;
use crate::exit::{Error, Result};
use crate::output;
use crate::shell::quote;
use crate::telemetry::{self, LogArgs};

/// The data directory where none is named.
pub(crate) const DATA_DIR: &str = "slipway-data";

/// What the first admin's key is called.
const FIRST_ADMIN: &str = "first admin";

/// The file in the data directory that holds the generated key of the first admin.
const ADMIN_KEY: &str = "admin-key";

/// The file in the data directory that holds the address of the server that uses it.
const ADDRESS: &str = "address";

/// Where a server keeps its data.
#[derive(Debug, Clone, Args)]
pub(crate) struct StoreArgs {
    /// The data directory
    #[arg(long, default_value = DATA_DIR, env = "SLIPWAY_DATA_DIR", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Keep data in PostgreSQL 15 or later instead of the data directory:
    /// `postgres://user:password@host/database`
    #[arg(long, env = "SLIPWAY_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<String>,
}

/// Where and how a server listens.
#[derive(Debug, Clone, Args)]
pub(crate) struct ListenArgs {
    /// The address to listen on; port 0 takes a free one
    #[arg(
        long,
        default_value = "127.0.0.1:8080",
        env = "SLIPWAY_LISTEN",
        value_name = "HOST:PORT"
    )]
    listen: HostPort,
    /// The address under which clients reach the server [default: that of their request]
    #[arg(long, env = "SLIPWAY_PUBLIC_URL", value_name = "URL")]
    public_url: Option<url::Url>,
    /// Serve HTTPS with this certificate chain, PEM
    #[arg(long, env = "SLIPWAY_TLS_CERT", requires = "tls_key", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key, PEM
    #[arg(long, env = "SLIPWAY_TLS_KEY", requires = "tls_cert", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Proxies whose `X-Forwarded-Host` and `X-Forwarded-Proto` are believed: addresses and networks, such as 10.0.0.0/8
    #[arg(
        long,
        env = "SLIPWAY_TRUSTED_PROXIES",
        value_delimiter = ',',
        value_name = "IP|NETWORK,…"
    )]
    trusted_proxies: Vec<Network>,
    /// How many requests per second one key may send, and after a colon how many at once
    /// [default: no limit; ten seconds' worth at once]
    #[arg(long, env = "SLIPWAY_RATE_LIMIT", value_name = "RATE[:BURST]")]
    rate_limit: Option<RateLimit>,
    /// Where files, logs and artifacts are kept: a directory or `s3://bucket/prefix`
    /// [default: `blobs` in the data directory]
    #[arg(long, env = "SLIPWAY_BLOBS", value_name = "DIR|URL")]
    blobs: Option<String>,
    /// How clients reach the files of artifacts: through the server, or straight at the S3 storage
    #[arg(long, value_enum, default_value_t, env = "SLIPWAY_BLOB_ACCESS", value_name = "HOW")]
    blob_access: BlobAccess,
    /// Offer only what that API has
    #[arg(long, value_enum, env = "SLIPWAY_COMPAT", value_name = "API")]
    compat: Option<Compat>,
    /// The name of the first admin
    #[arg(long, env = "SLIPWAY_ADMIN_USER", default_value = "admin", value_name = "USERNAME")]
    admin_user: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Compat {
    /// The official W&B API
    Official,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum BlobAccess {
    /// Everything passes through the server
    #[default]
    Proxy,
    /// Clients get addresses of the storage
    Direct,
}

/// Flags of `slipway server`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  slipway server --data-dir /var/lib/slipway
  SLIPWAY_ADMIN_USER=me SLIPWAY_ADMIN_API_KEY=… slipway server --listen 0.0.0.0:8080 --tls-cert c.pem --tls-key k.pem
  slipway server --database-url postgres://slipway@db/slipway --blobs s3://bucket/slipway --blob-access direct

The first start makes an admin: SLIPWAY_ADMIN_USER with the key SLIPWAY_ADMIN_API_KEY, or user `admin`
with a new key in `admin-key` in the data directory.")]
pub(crate) struct ServerArgs {
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    listen: ListenArgs,
    /// No other server uses the database, so that files may stay on this machine
    #[arg(long, env = "SLIPWAY_SINGLE_REPLICA")]
    single_replica: bool,
    #[command(flatten)]
    log: LogArgs,
}

/// Runs a server until SIGTERM or Ctrl-C. A second one does not wait for requests under way.
pub(crate) async fn run(args: ServerArgs) -> Result<()> {
    telemetry::install(&args.log)?;
    check_replicas(&args)?;
    let signals = Signals::watch()?;
    let (_, listening) = open(&args.store, &args.listen).await?;
    output::note(format!("serving {}", listening.url()));
    tokio::select! {
        () = listening.run(signals.first.cancelled_owned()) => {}
        () = signals.second.cancelled() => output::note("ended at once; requests under way were cut off"),
    }
    Ok(())
}

/// Servers that share a database must share their files too.
fn check_replicas(args: &ServerArgs) -> Result<()> {
    let shared = non_empty(args.store.database_url.as_deref()).is_some();
    let elsewhere = args.listen.blobs.as_deref().is_some_and(is_url);
    if !shared || elsewhere || args.single_replica {
        return Ok(());
    }
    let message = "several servers may use a PostgreSQL database, but files would stay on this machine, where the \
                   others cannot read them";
    let hint = "keep files in S3 with `--blobs s3://bucket/prefix`, or say with `--single-replica` that this is the \
                only server";
    Err(Error::failure(message).with_hint(hint))
}

/// Whether `--blobs` names an object store, not a directory.
fn is_url(blobs: &str) -> bool {
    blobs.contains("://")
}

/// Opens the store, makes the first admin and starts to listen.
pub(crate) async fn open(store_args: &StoreArgs, args: &ListenArgs) -> Result<(Store, Listening)> {
    let address = resolve(&args.listen).await?;
    let store = open_store(store_args).await?;
    let blobs = open_blobs(store_args, args).await?;
    let made = make_first_admin(&store, store_args, args).await?;
    let options = ServerOptions {
        listen: address,
        public_url: args.public_url.clone(),
        tls: match (&args.tls_cert, &args.tls_key) {
            (Some(cert), Some(key)) => Some(TlsFiles {
                cert: cert.clone(),
                key: key.clone(),
            }),
            _ => None,
        },
        trusted_proxies: args.trusted_proxies.clone(),
        direct_blobs: args.blob_access == BlobAccess::Direct,
        compat_official: args.compat == Some(Compat::Official),
        rate_limit: args.rate_limit,
        ..ServerOptions::default()
    };
    let listening = Server::new(options, store.clone(), blobs)
        .bind()
        .await
        .map_err(|error| Error::failure(error.to_string()))?;
    write_private(&store_args.data_dir.join(ADDRESS), &format!("{}\n", listening.url()))?;
    if let Some(key) = made {
        let (url, key) = (quote(&listening.url()), quote(&key.to_string_lossy()));
        output::note(format!("sign in with `slipway login --host {url} < {key}`"));
    }
    Ok((store, listening))
}

/// The address that a host means; one of IPv4 if it has both kinds.
async fn resolve(address: &HostPort) -> Result<SocketAddr> {
    let unknown = |why: String| {
        Error::usage(format!(
            "`--listen`: the host `{}` is not known here: {why}",
            address.host
        ))
    };
    let found = tokio::net::lookup_host((address.host.as_str(), address.port)).await;
    let found = found.map_err(|error| unknown(error.to_string()))?;
    found
        .min_by_key(SocketAddr::is_ipv6)
        .ok_or_else(|| unknown("it has no address".to_owned()))
}

/// Opens the store that the flags name.
pub(crate) async fn open_store(args: &StoreArgs) -> Result<Store> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&args.data_dir);
    made.map_err(|error| cannot("make", &args.data_dir, &error))?;
    let options = match non_empty(args.database_url.as_deref()) {
        Some(url) => Options::postgres(url),
        None => Options::sqlite(&args.data_dir),
    };
    Ok(Store::open(options).await?)
}

async fn open_blobs(store: &StoreArgs, args: &ListenArgs) -> Result<Blobs> {
    let options = match non_empty(args.blobs.as_deref()) {
        Some(url) if is_url(url) => BlobOptions::S3 { url: url.to_owned() },
        Some(dir) => BlobOptions::Local { dir: dir.into() },
        None => BlobOptions::Local {
            dir: store.data_dir.join("blobs"),
        },
    };
    let failed = |error: slipway_store::blobs::BlobError| Error::failure(error.to_string());
    let blobs = Blobs::open(&options).map_err(failed)?;
    if args.blob_access == BlobAccess::Direct && blobs.is_local() {
        return Err(Error::usage("clients cannot be sent straight to files of this machine")
            .with_hint("name an S3 storage with `--blobs s3://bucket/prefix`, or leave `--blob-access direct` out"));
    }
    blobs.check().await.map_err(failed)?;
    Ok(blobs)
}

/// Makes the first admin, or sees to it that the named one has the given key. Answers with the file of the
/// key of an admin that was made with a new one.
async fn make_first_admin(store: &Store, args: &StoreArgs, listen: &ListenArgs) -> Result<Option<PathBuf>> {
    // Only a variable: a flag would show the key to other users of the machine.
    let given = std::env::var("SLIPWAY_ADMIN_API_KEY")
        .ok()
        .filter(|key| !key.is_empty());
    let username = listen.admin_user.as_str();
    match given {
        Some(key) => {
            api_key::check(&key).map_err(|problem| Error::usage(format!("`SLIPWAY_ADMIN_API_KEY`: {problem}")))?;
            if store.user(username).await?.is_some() {
                add_key(store, username, &key, FIRST_ADMIN).await?;
                return Ok(None);
            }
            let new_key = stored_key(&key, FIRST_ADMIN);
            store.create_user_with_key(admin(username), new_key, "", now()).await?;
            Ok(None)
        }
        None if store.users().await?.is_empty() => {
            let path = args.data_dir.join(ADMIN_KEY);
            let new_key = stored_key(&kept_key(&path)?, FIRST_ADMIN);
            store.create_user_with_key(admin(username), new_key, "", now()).await?;
            output::note(format!("made user `{username}`; its API key is in {}", path.display()));
            Ok(Some(path))
        }
        None => Ok(None),
    }
}

fn admin(username: &str) -> NewUser {
    NewUser {
        username: username.to_owned(),
        name: String::new(),
        email: String::new(),
        admin: true,
        service_of: None,
        password_hash: None,
    }
}

/// The key in a file, made if there is none.
fn kept_key(path: &Path) -> Result<String> {
    let kept = read_or_empty(path)?.trim().to_owned();
    if !kept.is_empty() {
        return Ok(kept);
    }
    let key = generate_key();
    write_private(path, &format!("{key}\n"))?;
    Ok(key)
}

/// The key in a file, made if there is none, and known to the store as that user's. One that is another
/// user's is replaced.
pub(crate) async fn local_key(store: &Store, path: &Path, username: &str, description: &str) -> Result<String> {
    let kept = kept_key(path)?;
    match add_key(store, username, &kept, description).await {
        Ok(()) => Ok(kept),
        Err(slipway_store::Error::Exists { .. }) => {
            let key = generate_key();
            add_key(store, username, &key, description).await?;
            write_private(path, &format!("{key}\n"))?;
            Ok(key)
        }
        Err(error) => Err(error.into()),
    }
}

/// Makes a key known to the store; harmless if it is.
async fn add_key(store: &Store, username: &str, key: &str, description: &str) -> slipway_store::Result<()> {
    let digest = hash_secret(key);
    store
        .add_key(username, digest, &key_hint(key), description, None, now())
        .await
        .map(drop)
}

/// The server that uses a data directory.
pub(crate) struct Running {
    /// Its address.
    pub address: String,
    /// The generated key of its first admin.
    pub admin_key: Option<String>,
}

/// The server that last used a data directory, if one did.
pub(crate) fn running_server(data_dir: &Path) -> Result<Option<Running>> {
    let read = |name: &str| {
        let text = read_or_empty(&data_dir.join(name))?.trim().to_owned();
        Ok::<_, Error>((!text.is_empty()).then_some(text))
    };
    let admin_key = read(ADMIN_KEY)?;
    Ok(read(ADDRESS)?.map(|address| Running { address, admin_key }))
}

/// SIGTERM and Ctrl-C, told apart by how often they came.
pub(crate) struct Signals {
    /// Cancelled by the first one.
    pub first: CancellationToken,
    /// Cancelled by the second one.
    pub second: CancellationToken,
}

impl Signals {
    /// Watches for them from now on.
    pub(crate) fn watch() -> Result<Self> {
        let failed = |error: std::io::Error| Error::failure(format!("cannot watch for signals: {error}"));
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let (first, second) = (CancellationToken::new(), CancellationToken::new());
        let tokens = [first.clone(), second.clone()];
        tokio::spawn(async move {
            for token in tokens {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                token.cancel();
            }
        });
        Ok(Self { first, second })
    }
}

/// Now, as stores count.
pub(crate) fn now() -> slipway_model::Millis {
    Utc::now().timestamp_millis()
}
