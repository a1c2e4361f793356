//! Reaching the server: its address, TLS, the checks of durability, migrations.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use postgres::config::Host;
use postgres::{Client, Config, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::super::job::Job;
use super::super::{Dialect, Lane, failpoint, migrations, tls};
use super::Attempt;
use super::tx::{PostgresTx, Trouble, explain};
use crate::error::{Error, Result};

/// The oldest version that is supported, as `server_version_num`.
const OLDEST: i64 = 150_000;

/// Prepared statements kept per connection; rarely varied SQL stays far below.
const STATEMENTS: usize = 1_000;

/// A server, and how to connect to it.
pub(super) struct Server {
    config: Config,
    tls: MakeRustlsConnect,
    place: String,
    require_durable: bool,
}

impl Server {
    /// Reads a URL.
    ///
    /// # Errors
    /// [`Error::Unfit`] if it is none; the text does not repeat it, for its password.
    pub(super) fn parse(url: &str, require_durable: bool) -> Result<Self> {
        let (url, tls_options) = TlsOptions::take_from(url);
        let mut config: Config = url.parse().map_err(|error: postgres::Error| {
            Error::Unfit(format!(
                "the database URL cannot be read ({}): it looks like postgres://user:password@host:5432/database",
                causes(&error)
            ))
        })?;
        if config.get_application_name().is_none() {
            config.application_name("slipway");
        }
        config
            .connect_timeout(Duration::from_secs(10))
            .tcp_user_timeout(Duration::from_secs(30));
        let host = match config.get_hosts().first() {
            Some(Host::Tcp(host)) => host.clone(),
            Some(Host::Unix(path)) => path.display().to_string(),
            None => "localhost".to_owned(),
        };
        let place = format!(
            "PostgreSQL at {host}:{} (database `{}`)",
            config.get_ports().first().copied().unwrap_or(5432),
            config.get_dbname().unwrap_or("postgres")
        );
        Ok(Self {
            tls: tls::connector(tls_options.verify, tls_options.roots.as_deref())?,
            config,
            place,
            require_durable,
        })
    }

    /// The server in words, without secrets.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Connects and checks that the server keeps what it acknowledges.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if it cannot be reached, [`Error::Unfit`] if it must not be used.
    pub(super) fn connect(&self) -> Result<Session> {
        let mut client = self
            .config
            .connect(self.tls.clone())
            .map_err(|error| Error::Unavailable(format!("cannot connect to {}: {}", self.place, causes(&error))))?;
        self.check(&mut client)?;
        Ok(Session {
            client,
            statements: HashMap::new(),
            published: false,
        })
    }

    fn check(&self, client: &mut Client) -> Result<()> {
        let names = ["server_version_num", "fsync", "full_page_writes", "synchronous_commit"];
        let row = client
            .query_one(
                "SELECT current_setting($1), current_setting($2), current_setting($3), current_setting($4)",
                &[&names[0], &names[1], &names[2], &names[3]],
            )
            .map_err(|error| Error::Unavailable(format!("cannot ask {}: {}", self.place, causes(&error))))?;
        let version: &str = row.get(0);
        if version.parse::<i64>().is_ok_and(|version| version < OLDEST) {
            return Err(Error::Unfit(format!(
                "{} has version {version}, but 15 or later is needed: upgrade it",
                self.place
            )));
        }
        if !self.require_durable {
            return Ok(());
        }
        names
            .iter()
            .enumerate()
            .skip(1)
            .try_for_each(|(place, name)| self.check_setting(name, row.get(place)))
    }

    /// Refuses a setting with which an acknowledged write could be lost.
    fn check_setting(&self, name: &str, value: &str) -> Result<()> {
        if value != "off" {
            return Ok(());
        }
        Err(Error::Unfit(format!(
            "{} runs with {name} = off, so acknowledged writes could be lost: run `ALTER SYSTEM SET {name} = on` and \
             `SELECT pg_reload_conf()` (and look for a setting of the role or the database), then start again",
            self.place
        )))
    }
}

/// What of a URL concerns TLS and is not the client library's to know.
#[derive(Debug, PartialEq, Eq)]
struct TlsOptions {
    verify: bool,
    roots: Option<PathBuf>,
}

impl TlsOptions {
    /// Takes `sslrootcert` out of a URL and turns the verifying modes into `require`, which is as
    /// far as the client library's own words go.
    fn take_from(url: &str) -> (String, Self) {
        let mut options = Self {
            verify: false,
            roots: None,
        };
        let Some((base, query)) = url.split_once('?') else {
            return (url.to_owned(), options);
        };
        let mut kept = Vec::new();
        for pair in query.split('&') {
            match pair.split_once('=') {
                Some(("sslmode", "verify-ca" | "verify-full")) => {
                    options.verify = true;
                    kept.push("sslmode=require");
                }
                Some(("sslrootcert", _)) => {
                    options.roots = url::form_urlencoded::parse(pair.as_bytes())
                        .next()
                        .map(|(_, path)| PathBuf::from(path.as_ref()));
                }
                _ => kept.push(pair),
            }
        }
        (format!("{base}?{}", kept.join("&")), options)
    }
}

/// An error with what lies beneath it.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// A connection and its prepared statements.
pub(super) struct Session {
    pub(super) client: Client,
    statements: HashMap<String, Statement>,
    published: bool,
}

impl Session {
    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Whether the last write appended events; asking clears it.
    pub(super) fn take_published(&mut self) -> bool {
        std::mem::take(&mut self.published)
    }

    /// Brings the schema up to date, one server at a time.
    pub(super) fn migrate(&mut self, server: &Server) -> Result<()> {
        const KEY: &str = "hashtextextended(current_schema() || '.migrate', 0)";
        self.command(&format!("SELECT pg_advisory_lock({KEY})"))?;
        let migrated = [Lane::Control, Lane::RunData]
            .into_iter()
            .try_for_each(|lane| migrations::migrate(&mut self.client, lane, Dialect::Postgres, server.place()));
        self.command(&format!("SELECT pg_advisory_unlock({KEY})"))?;
        migrated
    }

    fn command(&mut self, sql: &str) -> Result<()> {
        self.client.batch_execute(sql).map_err(|error| explain(&error, sql).0)
    }

    fn tx(&mut self) -> PostgresTx<'_> {
        if self.statements.len() > STATEMENTS {
            self.statements.clear();
        }
        PostgresTx::new(&mut self.client, &mut self.statements)
    }

    /// Runs a job whose statements commit one by one: it changes nothing.
    pub(super) fn read(&mut self, job: &mut dyn Job) -> Attempt {
        let mut tx = self.tx();
        job.run(&mut tx);
        match tx.trouble() {
            Some(Trouble::Lost) => Attempt::Lost(true),
            Some(Trouble::Race) => Attempt::Again,
            Some(Trouble::Failed) | None => Attempt::Done,
        }
    }

    /// Runs a job in a transaction.
    pub(super) fn write(&mut self, job: &mut dyn Job) -> Attempt {
        if let Err(error) = self.command("BEGIN") {
            job.fail(error);
            return Attempt::Lost(true);
        }
        let mut tx = self.tx();
        let succeeded = job.run(&mut tx);
        let (trouble, published) = (tx.trouble(), tx.published());
        match trouble {
            Some(Trouble::Lost) => return Attempt::Lost(true),
            Some(trouble) => {
                // After an error PostgreSQL would turn a commit into a silent rollback.
                if succeeded {
                    job.fail(Error::Internal(format!(
                        "`{}` went on after a failed statement",
                        job.label()
                    )));
                }
                return match (self.command("ROLLBACK"), trouble) {
                    (Err(_), _) => Attempt::Lost(true),
                    (Ok(()), Trouble::Race) => Attempt::Again,
                    (Ok(()), Trouble::Failed | Trouble::Lost) => Attempt::Done,
                };
            }
            None if !succeeded => {
                return match self.command("ROLLBACK") {
                    Ok(()) => Attempt::Done,
                    // The job's own error stands; only the connection is of no more use.
                    Err(_) => Attempt::Lost(false),
                };
            }
            None => {}
        }
        failpoint::hit(job.label(), "begun");
        match self.client.batch_execute("COMMIT") {
            Ok(()) => {
                self.published = published;
                Attempt::Done
            }
            Err(error) => {
                let (explained, trouble) = explain(&error, "COMMIT");
                match trouble {
                    Trouble::Race => Attempt::Again,
                    Trouble::Failed => {
                        job.fail(explained);
                        Attempt::Done
                    }
                    Trouble::Lost => {
                        job.fail(Error::Unavailable(
                            "the connection broke while the request was being committed; whether it was is not known"
                                .to_owned(),
                        ));
                        Attempt::Lost(false)
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verifying_modes_are_taken_out_of_the_url() {
        for (url, kept, verify, roots) in [
            ("postgres://h/d", "postgres://h/d", false, None),
            (
                "postgres://h/d?sslmode=require",
                "postgres://h/d?sslmode=require",
                false,
                None,
            ),
            (
                "postgres://h/d?sslmode=verify-full",
                "postgres://h/d?sslmode=require",
                true,
                None,
            ),
            (
                "postgres://h/d?sslrootcert=%2Fca.pem&sslmode=verify-ca&options=-c%20a%3Db",
                "postgres://h/d?sslmode=require&options=-c%20a%3Db",
                true,
                Some("/ca.pem"),
            ),
        ] {
            let roots = roots.map(PathBuf::from);
            assert_eq!(
                TlsOptions::take_from(url),
                (kept.to_owned(), TlsOptions { verify, roots })
            );
        }
    }

    #[test]
    fn a_server_that_could_lose_writes_is_refused_by_the_settings_name() {
        let server = Server::parse("postgres://u@h/d", true).expect("a server");
        for name in ["fsync", "full_page_writes", "synchronous_commit"] {
            for (value, refused) in [("off", true), ("on", false), ("remote_apply", false)] {
                let error = server.check_setting(name, value).err();
                assert_eq!(error.is_some(), refused, "{name} = {value}");
                if let Some(error) = error {
                    assert!(
                        error.to_string().contains(&format!("ALTER SYSTEM SET {name} = on")),
                        "{error}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_password_is_in_no_error() {
        for url in [
            "postgres://u:hunter2@h:x/d",
            "postgres://u:hunter2@h/d?sslmode=what",
            "hunter2",
        ] {
            let error = Server::parse(url, true).err().expect("an error").to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        let server = Server::parse("postgres://u:hunter2@127.0.0.1:1/d", true).expect("a server");
        let error = server.connect().err().expect("nobody listens there").to_string();
        assert!(!error.contains("hunter2") && error.contains("127.0.0.1:1"), "{error}");
    }
}
