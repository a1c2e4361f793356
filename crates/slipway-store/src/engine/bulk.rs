//! Many rows in few statements, each engine in its own fastest way.

use super::{Dialect, Field, Records, Tx, Value, params};
use crate::error::Result;

/// How many rows one statement inserts on SQLite: the largest that fits what is left. A row then costs
/// neither a statement nor a look at the table's sequence of its own, and few statements stay prepared.
const STEPS: [usize; 3] = [64, 8, 1];

/// What happens to a row whose key there is already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conflict {
    /// The statement fails.
    Fail,
    /// The row that is there stays, and the new one is left out.
    Keep,
}

/// Inserts rows in order; returns how many.
///
/// # Errors
/// If the database refuses or is away.
pub(crate) fn insert_all(
    tx: &mut dyn Tx,
    table: &str,
    columns: &[(&str, Field)],
    conflict: Conflict,
    rows: Vec<Vec<Value>>,
) -> Result<u64> {
    if rows.is_empty() {
        return Ok(0);
    }
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let names = names.join(", ");
    let conflict = match conflict {
        Conflict::Fail => "",
        Conflict::Keep => " ON CONFLICT DO NOTHING",
    };
    let mut inserted = 0;
    match tx.dialect() {
        // Binding values costs less there than taking JSON apart.
        Dialect::Sqlite => {
            let row = format!("({})", vec!["?"; columns.len()].join(", "));
            let mut left = rows.len();
            let mut rows = rows.into_iter();
            for step in STEPS {
                if left < step {
                    continue;
                }
                let sql = format!(
                    "INSERT INTO {table} ({names}) VALUES {}{conflict}",
                    vec![row.as_str(); step].join(", ")
                );
                while left >= step {
                    let values: Vec<Value> = rows.by_ref().take(step).flatten().collect();
                    inserted += tx.execute(&sql, &values)?;
                    left -= step;
                }
            }
        }
        Dialect::Postgres => {
            let records = Records::new(tx.dialect(), columns, rows)?;
            let sql = format!(
                "INSERT INTO {table} ({names}) SELECT r.* FROM {} AS r{conflict}",
                records.source(1)
            );
            inserted += tx.execute(&sql, &records.after(params![]))?;
        }
    }
    Ok(inserted)
}

/// Reserves numbers for rows of a table, ascending, so that rows in several tables can refer to
/// each other before any is inserted.
///
/// # Errors
/// If the database refuses or is away.
pub(crate) fn next_numbers(tx: &mut dyn Tx, table: &str, count: usize) -> Result<Vec<i64>> {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    if count == 0 {
        return Ok(Vec::new());
    }
    match tx.dialect() {
        // The writer is alone, and inserting a larger number moves the sequence.
        Dialect::Sqlite => {
            let last = tx.query_opt("SELECT seq FROM sqlite_sequence WHERE name = $1", params![table])?;
            let last = last.map_or(Ok(0), |row| row.i64(0))?;
            Ok((last + 1..=last + count).collect())
        }
        Dialect::Postgres => {
            let rows = tx.query(
                "SELECT nextval((SELECT CAST(pg_get_serial_sequence($1, 'id') AS regclass))) FROM generate_series(1, $2)",
                params![table, count],
            )?;
            let mut numbers = rows.iter().map(|row| row.i64(0)).collect::<Result<Vec<_>>>()?;
            numbers.sort_unstable();
            Ok(numbers)
        }
    }
}

/// Takes one number of a table for something else than a row: no row will bear it.
///
/// # Errors
/// If the database refuses or is away, or the table has never had a row.
pub(crate) fn next_number(tx: &mut dyn Tx, table: &str) -> Result<i64> {
    let sql = match tx.dialect() {
        Dialect::Sqlite => "UPDATE sqlite_sequence SET seq = seq + 1 WHERE name = $1 RETURNING seq",
        Dialect::Postgres => "SELECT nextval(pg_get_serial_sequence($1, 'id'))",
    };
    tx.query_one(sql, params![table])?.i64(0)
}
