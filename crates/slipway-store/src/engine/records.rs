//! Rows on their way into one statement, whose cost is then the same for one row and for a thousand.

use super::{Dialect, Value};
use crate::error::{Error, Result};

/// A condition on a number that is always true, and that PostgreSQL's planner takes for one that few rows
/// pass: for each of them it then looks up by its key what is joined to it. Without it, it expects so much
/// of a batch, and so little of a table that was small when the statement was planned, that it reads the
/// whole table, for as long as the plan is kept; and of a table without statistics it expects that a state
/// selects one row, and goes through the batch again for each row in that state.
pub(crate) fn few(dialect: Dialect, number: &str) -> String {
    match dialect {
        Dialect::Sqlite => "true".to_owned(),
        Dialect::Postgres => format!("{number} + 0 = {number}"),
    }
}

/// The type of one field of [`Records`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    /// A whole number.
    Int,
    /// Text.
    Text,
}

/// Rows that travel as parameters of a statement: on PostgreSQL an array for each field, on SQLite one
/// JSON array of arrays.
///
/// A statement that takes them numbers its own parameters first: how many these are differs.
#[derive(Debug)]
pub(crate) struct Records<'a> {
    dialect: Dialect,
    fields: &'a [(&'a str, Field)],
    params: Vec<Value>,
}

impl<'a> Records<'a> {
    /// Packs rows, each with one value per field.
    ///
    /// # Errors
    /// [`Error::Internal`] for a value that is neither NULL nor of its field's type.
    pub(crate) fn new(
        dialect: Dialect,
        fields: &'a [(&'a str, Field)],
        rows: impl IntoIterator<Item = Vec<Value>>,
    ) -> Result<Self> {
        let params = match dialect {
            Dialect::Sqlite => vec![json(rows)?],
            Dialect::Postgres => arrays(fields, rows)?,
        };
        Ok(Self {
            dialect,
            fields,
            params,
        })
    }

    /// A subquery that yields the rows, with the fields as its columns; `WITH`, `FROM` and `IN` take it.
    /// Its parameters are numbered from `first` on.
    pub(crate) fn source(&self, first: usize) -> String {
        let fields = self.fields.iter().enumerate();
        match self.dialect {
            Dialect::Sqlite => {
                let columns = fields.map(|(place, (name, _))| format!("json_extract(value, '$[{place}]') AS {name}"));
                let columns: Vec<String> = columns.collect();
                format!("(SELECT {} FROM json_each(${first}))", columns.join(", "))
            }
            Dialect::Postgres => {
                let names: Vec<&str> = self.fields.iter().map(|(name, _)| *name).collect();
                let arrays = fields.map(|(place, (_, field))| {
                    let kind = match field {
                        Field::Int => "BIGINT",
                        Field::Text => "TEXT",
                    };
                    format!("CAST(${} AS {kind}[])", first + place)
                });
                let arrays: Vec<String> = arrays.collect();
                let (arrays, names) = (arrays.join(", "), names.join(", "));
                let few = few(self.dialect, "nth");
                format!("(SELECT {names} FROM unnest({arrays}) WITH ORDINALITY AS records({names}, nth) WHERE {few})")
            }
        }
    }

    /// All parameters of a statement: its own, then the rows.
    pub(crate) fn after(self, own: &[Value]) -> Vec<Value> {
        let mut params = own.to_vec();
        params.extend(self.params);
        params
    }
}

fn json(rows: impl IntoIterator<Item = Vec<Value>>) -> Result<Value> {
    let rows = rows
        .into_iter()
        .map(|row| row.iter().map(Value::to_json).collect::<Result<Vec<_>>>())
        .collect::<Result<Vec<_>>>()?;
    Ok(serde_json::json!(rows).to_string().into())
}

fn arrays(fields: &[(&str, Field)], rows: impl IntoIterator<Item = Vec<Value>>) -> Result<Vec<Value>> {
    let empty = |(_, field): &(&str, Field)| match field {
        Field::Int => Value::Ints(Vec::new()),
        Field::Text => Value::Texts(Vec::new()),
    };
    let mut columns: Vec<Value> = fields.iter().map(empty).collect();
    for row in rows {
        if row.len() != columns.len() {
            return Err(Error::Internal(format!(
                "a record has {} values, not {}",
                row.len(),
                columns.len()
            )));
        }
        for (column, value) in columns.iter_mut().zip(row) {
            match (column, value) {
                (Value::Ints(column), Value::Int(value)) => column.push(Some(value)),
                (Value::Ints(column), Value::Null) => column.push(None),
                (Value::Texts(column), Value::Text(value)) => column.push(Some(value)),
                (Value::Texts(column), Value::Null) => column.push(None),
                _ => return Err(Error::Internal("a value does not fit its field of a record".to_owned())),
            }
        }
    }
    Ok(columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::params;

    #[test]
    fn rows_become_columns_on_postgres_alone() {
        let fields = [("n", Field::Int), ("t", Field::Text)];
        let rows = || vec![params![1, "a"].to_vec(), params![2, None::<String>].to_vec()];
        let records = Records::new(Dialect::Postgres, &fields, rows()).unwrap();
        assert_eq!(
            records.source(2),
            "(SELECT n, t FROM unnest(CAST($2 AS BIGINT[]), CAST($3 AS TEXT[])) WITH ORDINALITY AS records(n, t, nth) \
             WHERE nth + 0 = nth)"
        );
        assert_eq!(
            records.after(params![7]),
            [
                Value::Int(7),
                Value::Ints(vec![Some(1), Some(2)]),
                Value::Texts(vec![Some("a".to_owned()), None]),
            ]
        );
        let records = Records::new(Dialect::Sqlite, &fields, rows()).unwrap();
        assert_eq!(records.after(params![7]), params![7, r#"[[1,"a"],[2,null]]"#]);
    }

    #[test]
    fn a_record_that_does_not_fit_is_an_error() {
        let fields = [("n", Field::Int)];
        for row in [params!["a"], params![1, 2], params![]] {
            assert!(
                Records::new(Dialect::Postgres, &fields, [row.to_vec()]).is_err(),
                "{row:?}"
            );
        }
    }
}
