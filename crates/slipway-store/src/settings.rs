//! What an installation keeps about itself: its signing key, and small values of the tick.

use rand::Rng as _;

use crate::engine::{Lane, Tx, params};
use crate::{Error, Result, Store};

/// Reads a value.
pub(crate) fn get(tx: &mut dyn Tx, name: &str) -> Result<Option<Vec<u8>>> {
    tx.query_opt("SELECT value FROM settings WHERE name = $1", params![name])?
        .map(|row| row.bytes(0))
        .transpose()
}

/// Writes a value.
pub(crate) fn put(tx: &mut dyn Tx, name: &str, value: Vec<u8>) -> Result<()> {
    tx.execute(
        "INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        params![name, value],
    )
    .map(drop)
}

impl Store {
    /// The key that signs URLs and run keys: made once, the same on every replica and after every
    /// restart.
    ///
    /// # Errors
    /// [`Error::Internal`] if the stored key is damaged.
    pub async fn signing_key(&self) -> Result<[u8; 32]> {
        let mut fresh = [0_u8; 32];
        rand::rng().fill_bytes(&mut fresh);
        self.write(Lane::Control, "signing-key", move |tx| {
            tx.execute(
                "INSERT INTO settings (name, value) VALUES ('signing-key', $1) ON CONFLICT (name) DO NOTHING",
                params![fresh],
            )?;
            let key = get(tx, "signing-key")?.unwrap_or_default();
            key.try_into().map_err(|_| {
                Error::Internal("the signing key in `settings` is damaged: restore it from a backup".to_owned())
            })
        })
        .await
    }

    /// Whether the store takes writes: makes one.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if it does not.
    pub async fn ping(&self) -> Result<()> {
        for lane in [Lane::Control, Lane::RunData] {
            self.write(lane, "ping", move |tx| match lane {
                Lane::Control => put(tx, "ping", Vec::new()),
                Lane::RunData => tx.query("SELECT 1", params![]).map(drop),
            })
            .await?;
        }
        Ok(())
    }
}
