//! One job's view of a PostgreSQL connection.

use std::collections::HashMap;
use std::error::Error as StdError;

use postgres::error::SqlState;
use postgres::types::private::BytesMut;
use postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use postgres::{Client, Statement};

use super::super::{Dialect, Row, Tx, Value};
use super::connect::causes;
use crate::error::{Error, Result};
use crate::events::Event;

/// What kind of error a statement met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Another transaction was in the way: the same job may succeed.
    Race,
    /// The connection is gone.
    Lost,
    /// The database refused.
    Failed,
}

pub(super) struct PostgresTx<'session> {
    client: &'session mut Client,
    statements: &'session mut HashMap<String, Statement>,
    trouble: Option<Trouble>,
    published: bool,
}

impl<'session> PostgresTx<'session> {
    pub(super) fn new(client: &'session mut Client, statements: &'session mut HashMap<String, Statement>) -> Self {
        Self {
            client,
            statements,
            trouble: None,
            published: false,
        }
    }

    /// The first error of a statement, if there was one.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        self.trouble
    }

    pub(super) fn published(&self) -> bool {
        self.published
    }

    fn prepare(&mut self, sql: &str) -> Result<Statement> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).map_err(|error| self.note(&error, sql))?;
        self.statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    fn note(&mut self, error: &postgres::Error, sql: &str) -> Error {
        let (explained, trouble) = explain(error, sql);
        self.trouble.get_or_insert(trouble);
        explained
    }
}

impl Tx for PostgresTx<'_> {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    fn query(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Row>> {
        let statement = self.prepare(sql)?;
        let rows = self
            .client
            .query(&statement, &borrowed(params))
            .map_err(|error| self.note(&error, sql))?;
        rows.iter()
            .map(|row| {
                (0..row.len())
                    .map(|column| row.try_get(column).map_err(|error| self.note(&error, sql)))
                    .collect::<Result<Vec<Value>>>()
                    .map(Row)
            })
            .collect()
    }

    fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64> {
        let statement = self.prepare(sql)?;
        self.client
            .execute(&statement, &borrowed(params))
            .map_err(|error| self.note(&error, sql))
    }

    fn publish(&mut self, _events: Vec<Event>) {
        self.published = true;
    }
}

fn borrowed(params: &[Value]) -> Vec<&(dyn ToSql + Sync)> {
    params.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

/// Sorts PostgreSQL's errors into the caller's fault, passing trouble and defects. Neither values
/// nor credentials are in the text.
pub(super) fn explain(error: &postgres::Error, sql: &str) -> (Error, Trouble) {
    let Some(refusal) = error.as_db_error() else {
        let encoding = error
            .source()
            .is_some_and(|source| source.downcast_ref::<Mismatch>().is_some());
        return if encoding {
            (Error::Internal(format!("{} in: {sql}", causes(error))), Trouble::Failed)
        } else {
            (Error::Unavailable(causes(error)), Trouble::Lost)
        };
    };
    let text = format!("{} ({})", refusal.message(), refusal.code().code());
    match refusal.code() {
        &SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED => {
            (Error::Unavailable(text), Trouble::Race)
        }
        &SqlState::UNIQUE_VIOLATION => (Error::Internal(format!("{text} in: {sql}")), Trouble::Race),
        &SqlState::ADMIN_SHUTDOWN | &SqlState::CRASH_SHUTDOWN | &SqlState::CANNOT_CONNECT_NOW => {
            (Error::Unavailable(text), Trouble::Lost)
        }
        &SqlState::READ_ONLY_SQL_TRANSACTION | &SqlState::QUERY_CANCELED | &SqlState::LOCK_NOT_AVAILABLE => {
            (Error::Unavailable(text), Trouble::Failed)
        }
        // Lack of disk, memory or connections.
        code if code.code().starts_with("53") || code.code().starts_with("58") => {
            (Error::Unavailable(text), Trouble::Failed)
        }
        // Text that PostgreSQL cannot hold, such as a NUL character.
        &SqlState::CHARACTER_NOT_IN_REPERTOIRE | &SqlState::UNTRANSLATABLE_CHARACTER => (
            Error::Invalid("the text holds a character that cannot be stored, such as NUL".to_owned()),
            Trouble::Failed,
        ),
        _ => (Error::Internal(format!("{text} in: {sql}")), Trouble::Failed),
    }
}

/// A value that does not fit the type that a statement expects: a defect of a statement.
#[derive(Debug, thiserror::Error)]
#[error("a {value} does not fit type {wanted}")]
struct Mismatch {
    value: &'static str,
    wanted: String,
}

impl ToSql for Value {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> std::result::Result<IsNull, Box<dyn StdError + Sync + Send>> {
        let mismatch = |value| {
            Box::new(Mismatch {
                value,
                wanted: kind.to_string(),
            })
        };
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Int(value) => match *kind {
                Type::INT8 => value.to_sql(kind, out),
                Type::INT4 => i32::try_from(*value)
                    .map_err(|_| mismatch("large number"))?
                    .to_sql(kind, out),
                Type::INT2 => i16::try_from(*value)
                    .map_err(|_| mismatch("large number"))?
                    .to_sql(kind, out),
                Type::BOOL => (*value != 0).to_sql(kind, out),
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "the statement asks for a floating point number"
                )]
                Type::FLOAT8 => (*value as f64).to_sql(kind, out),
                _ => Err(mismatch("number")),
            },
            Self::Real(value) => match *kind {
                Type::FLOAT8 => value.to_sql(kind, out),
                _ => Err(mismatch("floating point number")),
            },
            Self::Text(value) => match *kind {
                Type::TEXT | Type::VARCHAR | Type::NAME | Type::BPCHAR | Type::UNKNOWN | Type::JSON => {
                    out.extend_from_slice(value.as_bytes());
                    Ok(IsNull::No)
                }
                _ => Err(mismatch("text")),
            },
            Self::Bytes(value) => match *kind {
                Type::BYTEA => value.as_slice().to_sql(kind, out),
                _ => Err(mismatch("byte string")),
            },
            Self::Ints(values) => match *kind {
                Type::INT8_ARRAY => values.to_sql(kind, out),
                _ => Err(mismatch("list of numbers")),
            },
            Self::Texts(values) => match *kind {
                Type::TEXT_ARRAY => values.to_sql(kind, out),
                _ => Err(mismatch("list of texts")),
            },
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Value {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> std::result::Result<Self, Box<dyn StdError + Sync + Send>> {
        match *kind {
            Type::INT8 => i64::from_sql(kind, raw).map(Self::Int),
            Type::INT4 => i32::from_sql(kind, raw).map(|value| Self::Int(value.into())),
            Type::INT2 => i16::from_sql(kind, raw).map(|value| Self::Int(value.into())),
            Type::BOOL => bool::from_sql(kind, raw).map(|value| Self::Int(value.into())),
            Type::FLOAT8 => f64::from_sql(kind, raw).map(Self::Real),
            Type::BYTEA => Ok(Self::Bytes(raw.to_vec())),
            _ => String::from_sql(kind, raw).map(Self::Text),
        }
    }

    fn from_sql_null(_: &Type) -> std::result::Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self::Null)
    }

    fn accepts(kind: &Type) -> bool {
        matches!(
            *kind,
            Type::INT8 | Type::INT4 | Type::INT2 | Type::BOOL | Type::FLOAT8 | Type::BYTEA
        ) || <String as FromSql>::accepts(kind)
    }
}
