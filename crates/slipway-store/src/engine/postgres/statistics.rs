//! Statistics of tables that grow, in good time.
//!
//! PostgreSQL's autovacuum looks at tables once a minute. Until then the planner takes what it knew of a
//! table when a statement was first planned, which for a new one is nothing: it walks through an index
//! that begins with the entity where another holds the whole key, for each row of a batch, and a kept plan
//! stays so while the table goes from nothing to a hundred thousand rows. An `ANALYZE` after each doubling
//! costs little, and has the statements on the table planned again.

use super::connect::Session;
use super::tx::explain;
use crate::error::Result;

/// Tables with more than twice the rows that the planner knows of.
const GROWN: &str = "SELECT quote_ident(relname) FROM pg_class WHERE relkind = 'r' \
     AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema()) \
     AND pg_stat_get_live_tuples(oid) > 2 * GREATEST(reltuples, 100) AND pg_has_role(relowner, 'USAGE')";

/// Brings the statistics of grown tables up to date, as far as nobody holds a lock on one: whoever vacuums it,
/// makes an index or looks at it as well. The session bounds how long it waits.
///
/// # Errors
/// If the database refuses to tell which have grown, or is away.
pub(super) fn refresh(session: &mut Session) -> Result<()> {
    let grown = session
        .client
        .query(GROWN, &[])
        .map_err(|error| explain(&error, GROWN).0)?;
    for row in grown {
        let table: String = row.try_get(0).map_err(|error| explain(&error, GROWN).0)?;
        let sql = format!("ANALYZE {table}");
        if let Err(error) = session.client.batch_execute(&sql) {
            tracing::debug!(%error, table, "its statistics stay as they are");
        }
    }
    Ok(())
}
