//! Parameters and columns.

use crate::error::{Error, Result};

/// A parameter or a column.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// SQL NULL.
    Null,
    /// BIGINT; booleans are 0 and 1.
    Int(i64),
    /// DOUBLE PRECISION.
    Real(f64),
    /// TEXT.
    Text(String),
    /// BYTEA or BLOB.
    Bytes(Vec<u8>),
    /// A BIGINT array, of [`Records`](super::Records) on PostgreSQL.
    Ints(Vec<Option<i64>>),
    /// A TEXT array, likewise.
    Texts(Vec<Option<String>>),
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Int(i64::from(value))
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Self::Text(value.clone())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Self::Bytes(value.to_vec())
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(value)
    }
}

impl<const N: usize> From<[u8; N]> for Value {
    fn from(value: [u8; N]) -> Self {
        Self::Bytes(value.to_vec())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl Value {
    /// The value as a list of records carries it.
    ///
    /// # Errors
    /// [`Error::Internal`] for bytes: JSON has none.
    pub(crate) fn to_json(&self) -> Result<serde_json::Value> {
        Ok(match self {
            Self::Null => serde_json::Value::Null,
            Self::Int(value) => (*value).into(),
            Self::Real(value) => (*value).into(),
            Self::Text(value) => value.as_str().into(),
            Self::Bytes(_) | Self::Ints(_) | Self::Texts(_) => {
                return Err(Error::Internal("neither bytes nor lists travel in a record".to_owned()));
            }
        })
    }
}

/// One row of an answer, by column position.
#[derive(Debug, Clone)]
pub struct Row(pub(crate) Vec<Value>);

impl Row {
    /// A whole number.
    ///
    /// # Errors
    /// [`Error::Internal`] if the column is absent or holds something else; so do all accessors.
    pub fn i64(&self, column: usize) -> Result<i64> {
        self.opt_i64(column)?.ok_or_else(|| self.mismatch(column, "a number"))
    }

    /// A whole number or NULL.
    ///
    /// # Errors
    /// See [`Self::i64`].
    pub fn opt_i64(&self, column: usize) -> Result<Option<i64>> {
        match self.0.get(column) {
            Some(Value::Int(value)) => Ok(Some(*value)),
            Some(Value::Null) => Ok(None),
            _ => Err(self.mismatch(column, "a number")),
        }
    }

    /// A boolean, stored as 0 or 1.
    ///
    /// # Errors
    /// See [`Self::i64`].
    pub fn bool(&self, column: usize) -> Result<bool> {
        Ok(self.i64(column)? != 0)
    }

    /// A floating point number.
    ///
    /// # Errors
    /// See [`Self::i64`].
    pub fn f64(&self, column: usize) -> Result<f64> {
        match self.0.get(column) {
            Some(Value::Real(value)) => Ok(*value),
            _ => Err(self.mismatch(column, "a floating point number")),
        }
    }

    /// Text.
    ///
    /// # Errors
    /// See [`Self::i64`].
    pub fn text(&self, column: usize) -> Result<String> {
        self.opt_text(column)?.ok_or_else(|| self.mismatch(column, "text"))
    }

    /// Text or NULL.
    ///
    /// # Errors
    /// See [`Self::i64`].
    pub fn opt_text(&self, column: usize) -> Result<Option<String>> {
        match self.0.get(column) {
            Some(Value::Text(value)) => Ok(Some(value.clone())),
            Some(Value::Null) => Ok(None),
            _ => Err(self.mismatch(column, "text")),
        }
    }

    /// Bytes.
    ///
    /// # Errors
    /// See [`Self::i64`].
    pub fn bytes(&self, column: usize) -> Result<Vec<u8>> {
        match self.0.get(column) {
            Some(Value::Bytes(value)) => Ok(value.clone()),
            _ => Err(self.mismatch(column, "bytes")),
        }
    }

    fn mismatch(&self, column: usize, wanted: &str) -> Error {
        let found = match self.0.get(column) {
            None => "nothing",
            Some(Value::Null) => "NULL",
            Some(Value::Int(_)) => "a number",
            Some(Value::Real(_)) => "a floating point number",
            Some(Value::Text(_)) => "text",
            Some(Value::Bytes(_)) => "bytes",
            Some(Value::Ints(_) | Value::Texts(_)) => "a list",
        };
        Error::Internal(format!("column {column} holds {found}, not {wanted}"))
    }
}

impl Value {
    /// About how many bytes it takes.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Null | Self::Int(_) | Self::Real(_) => 8,
            Self::Text(value) => value.len(),
            Self::Bytes(value) => value.len(),
            Self::Ints(values) => values.len() * 8,
            Self::Texts(values) => values.iter().flatten().map(String::len).sum(),
        }
    }
}
