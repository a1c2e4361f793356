//! The wire's own scalars. Which field has which is part of the contract: `JSONString` is a string
//! that contains JSON, `JSON` is a JSON value in place.

use async_graphql::{InputValueError, InputValueResult, Scalar, ScalarType, Value};
use chrono::{SecondsFormat, TimeZone as _, Utc};
use serde::{Deserialize, Serialize};
use slipway_model::Millis;

/// A string that contains JSON. As input, a JSON value in place is accepted too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JsonString(pub(crate) String);

#[Scalar(name = "JSONString")]
impl ScalarType for JsonString {
    fn parse(value: Value) -> InputValueResult<Self> {
        match value {
            Value::String(text) => Ok(Self(text)),
            Value::Object(_) | Value::List(_) => serde_json::to_string(&value)
                .map(Self)
                .map_err(|error| InputValueError::custom(error.to_string())),
            other => Err(InputValueError::expected_type(other)),
        }
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.clone())
    }
}

impl JsonString {
    /// Reads the JSON inside.
    ///
    /// # Errors
    /// Says where the text stops being JSON; `what` names the field.
    pub(crate) fn read(&self, what: &str) -> Result<serde_json::Value, crate::ApiError> {
        serde_json::from_str(&self.0).map_err(|error| crate::ApiError::bad(format!("{what} is not JSON: {error}")))
    }
}

impl From<String> for JsonString {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// A JSON value in place.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Json(pub(crate) serde_json::Value);

#[Scalar(name = "JSON")]
impl ScalarType for Json {
    fn parse(value: Value) -> InputValueResult<Self> {
        value
            .into_json()
            .map(Self)
            .map_err(|error| InputValueError::custom(error.to_string()))
    }

    fn to_value(&self) -> Value {
        Value::from_json(self.0.clone()).unwrap_or(Value::Null)
    }
}

impl Json {
    /// Stored JSON text as a value. Text that is not JSON, which a damaged database could hold,
    /// becomes a string rather than an error that hides everything around it.
    #[must_use]
    pub(crate) fn from_text(text: &str) -> Self {
        Self(serde_json::from_str(text).unwrap_or_else(|_| serde_json::Value::String(text.to_owned())))
    }
}

/// A point in time, written in ISO 8601, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DateTime(pub(crate) Millis);

#[Scalar(name = "DateTime")]
impl ScalarType for DateTime {
    fn parse(value: Value) -> InputValueResult<Self> {
        let Value::String(text) = &value else {
            return Err(InputValueError::expected_type(value));
        };
        chrono::DateTime::parse_from_rfc3339(text)
            .map(|time| Self(time.timestamp_millis()))
            .map_err(|error| InputValueError::custom(format!("`{text}` is not an ISO 8601 time: {error}")))
    }

    fn to_value(&self) -> Value {
        Value::String(iso(self.0))
    }
}

/// ISO 8601 in UTC, such as `2026-11-22T07:34:17.123Z`.
#[must_use]
pub(crate) fn iso(time: Millis) -> String {
    match Utc.timestamp_millis_opt(time).single() {
        Some(time) => time.to_rfc3339_opts(SecondsFormat::Millis, true),
        None => "1970-01-01T00:00:00.000Z".to_owned(),
    }
}

macro_rules! integers {
    ($($(#[$meta:meta])* $name:ident;)*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) struct $name(pub(crate) i64);

        #[Scalar]
        impl ScalarType for $name {
            fn parse(value: Value) -> InputValueResult<Self> {
                match &value {
                    Value::Number(number) => number.as_i64().map(Self).ok_or_else(|| {
                        InputValueError::custom(format!("{number} is not a 64-bit integer"))
                    }),
                    Value::String(text) => text.parse().map(Self).map_err(|_| {
                        InputValueError::custom(format!("`{text}` is not a 64-bit integer"))
                    }),
                    _ => Err(InputValueError::expected_type(value)),
                }
            }

            fn to_value(&self) -> Value {
                Value::Number(self.0.into())
            }
        }
    )*};
}

integers! {
    /// A 64-bit integer.
    Int64;
    /// A duration in milliseconds.
    Duration;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_iso_8601_and_never_panic() {
        for (time, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_795_332_857_123, "2026-11-22T07:34:17.123Z"),
            (i64::MAX, "1970-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(iso(time), text);
        }
    }

    #[test]
    fn json_strings_take_text_or_a_value_in_place() {
        let object = Value::from_json(serde_json::json!({"b": 1, "a": [2]})).expect("JSON");
        let parsed = JsonString::parse(object).ok().map(|json| json.0);
        assert_eq!(parsed.as_deref(), Some(r#"{"b":1,"a":[2]}"#));
        assert!(JsonString::parse(Value::Null).is_err());
    }

    #[test]
    fn int64_takes_numbers_and_text_within_range() {
        assert_eq!(Int64::parse(Value::Number(7.into())).ok(), Some(Int64(7)));
        assert_eq!(Int64::parse(Value::String("-9".into())).ok(), Some(Int64(-9)));
        assert!(Int64::parse(Value::Number(u64::MAX.into())).is_err());
        assert!(Int64::parse(Value::String("x".into())).is_err());
    }
}
