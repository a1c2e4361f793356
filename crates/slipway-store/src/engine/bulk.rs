//! Many rows in few statements, each engine in its own fastest way.

use super::{Dialect, Field, Tx, Value, params};
use crate::error::{Error, Result};

/// How many rows travel in one parameter to PostgreSQL.
const CHUNK: usize = 2_000;

/// Inserts rows in order.
///
/// # Errors
/// If the database refuses or is away.
pub(crate) fn insert_all(tx: &mut dyn Tx, table: &str, columns: &[(&str, Field)], rows: &[Vec<Value>]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let names = names.join(", ");
    match tx.dialect() {
        // A prepared statement per row costs less there than taking JSON apart.
        Dialect::Sqlite => {
            let places: Vec<String> = (1..=columns.len()).map(|place| format!("${place}")).collect();
            let sql = format!("INSERT INTO {table} ({names}) VALUES ({})", places.join(", "));
            for row in rows {
                tx.execute(&sql, row)?;
            }
        }
        Dialect::Postgres => {
            let records = tx.records("$1", columns);
            let sql = format!("INSERT INTO {table} ({names}) SELECT r.* FROM {records} AS r");
            for chunk in rows.chunks(CHUNK) {
                let lists = chunk
                    .iter()
                    .map(|row| row.iter().map(json).collect::<Result<Vec<_>>>())
                    .collect::<Result<Vec<_>>>()?;
                tx.execute(&sql, params![serde_json::json!(lists).to_string()])?;
            }
        }
    }
    Ok(())
}

fn json(value: &Value) -> Result<serde_json::Value> {
    Ok(match value {
        Value::Null => serde_json::Value::Null,
        Value::Int(value) => (*value).into(),
        Value::Real(value) => (*value).into(),
        Value::Text(value) => value.as_str().into(),
        Value::Bytes(_) => return Err(Error::Internal("bytes do not travel in bulk".to_owned())),
    })
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
                "SELECT nextval(pg_get_serial_sequence($1, 'id')) FROM generate_series(1, $2)",
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
