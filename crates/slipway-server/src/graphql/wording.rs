//! The wording of validation errors, which clients read: that of graphql-js.

use async_graphql::parser::types::{BaseType, DocumentOperations, ExecutableDocument, OperationDefinition, Type};
use async_graphql::{ErrorExtensionValues, ServerError};

use crate::error::{ApiError, Code};

/// Gives an error its code and hint, and a validation error graphql-js' words.
pub(super) fn reword(error: &mut ServerError) {
    let ours = error.source::<ApiError>().cloned();
    if ours.is_none() && error.path.is_empty() {
        error.message = graphql_js(&error.message);
    }
    let code = code_of(error);
    let extensions = error.extensions.get_or_insert_with(ErrorExtensionValues::default);
    extensions.set("code", code.as_str());
    if let Some(hint) = ours.and_then(|error| error.hint) {
        extensions.set("hint", hint);
    }
}

/// The code of an error. Those that are not ours come from parsing, validation or the reading of
/// arguments, and are the caller's.
pub(super) fn code_of(error: &ServerError) -> Code {
    error
        .source::<ApiError>()
        .map_or(Code::BadUserInput, |error| error.code)
}

/// One validation message in graphql-js' words.
fn graphql_js(message: &str) -> String {
    let quoted: Vec<&str> = message.split('"').skip(1).step_by(2).collect();
    let suggestion = message
        .find(" Did you mean")
        .map_or("", |start| message.get(start..).unwrap_or_default());
    match (message, quoted.as_slice()) {
        (m, [field, kind, ..]) if m.starts_with("Unknown field ") => {
            format!("Cannot query field \"{field}\" on type \"{kind}\".{suggestion}")
        }
        (m, [argument, field, kind, ..]) if m.starts_with("Unknown argument ") && m.contains(" of type ") => {
            format!("Unknown argument \"{argument}\" on field \"{kind}.{field}\".{suggestion}")
        }
        (m, [argument, directive, ..]) if m.starts_with("Unknown argument ") => {
            format!("Unknown argument \"{argument}\" on directive \"@{directive}\".")
        }
        (m, [field, argument, kind]) if m.starts_with("Field ") && m.ends_with("is required but not provided") => {
            format!(
                "Field \"{field}\" argument \"{argument}\" of type \"{kind}\" is required, but it was not provided."
            )
        }
        (m, [field, kind]) if m.starts_with("Field ") && m.ends_with("must have a selection of subfields") => {
            format!(
                "Field \"{field}\" of type \"{kind}\" must have a selection of subfields. \
                 Did you mean \"{field} {{ ... }}\"?"
            )
        }
        (m, [variable, operation]) if m.starts_with("Variable ") && m.contains("is not used by operation") => {
            format!("Variable \"{variable}\" is never used in operation \"{operation}\".")
        }
        (m, [variable]) if m.starts_with("Variable ") && m.ends_with("is not used") => {
            format!("Variable \"{variable}\" is never used.")
        }
        (m, [directive]) if m.starts_with("Unknown directive ") => format!("Unknown directive \"@{directive}\"."),
        (m, [fragment]) if m.starts_with("Unknown fragment") => format!("Unknown fragment \"{fragment}\"."),
        (m, _) if m.ends_with(['.', '?', '!']) || m.contains('\n') => m.to_owned(),
        (m, _) => format!("{m}."),
    }
}

/// What is wrong with the variables of a request, in graphql-js' words: required ones that are
/// absent or null. Variables that the document does not declare are ignored.
pub(super) fn check_variables(
    document: &ExecutableDocument,
    operation_name: Option<&str>,
    variables: &serde_json::Map<String, serde_json::Value>,
) -> Option<String> {
    let operation = operation(document, operation_name)?;
    operation.variable_definitions.iter().find_map(|definition| {
        let definition = &definition.node;
        let kind: &Type = &definition.var_type.node;
        let name = definition.name.node.as_str();
        if kind.nullable || definition.default_value.is_some() {
            return None;
        }
        match variables.get(name) {
            None => Some(format!(
                "Variable \"${name}\" of required type \"{}\" was not provided.",
                spell(kind)
            )),
            Some(serde_json::Value::Null) => Some(format!(
                "Variable \"${name}\" of non-null type \"{}\" must not be null.",
                spell(kind)
            )),
            Some(_) => None,
        }
    })
}

fn operation<'a>(document: &'a ExecutableDocument, name: Option<&str>) -> Option<&'a OperationDefinition> {
    match (&document.operations, name) {
        (DocumentOperations::Single(operation), _) => Some(&operation.node),
        (DocumentOperations::Multiple(operations), Some(name)) => operations.get(name).map(|operation| &operation.node),
        (DocumentOperations::Multiple(operations), None) => operations.values().next().map(|operation| &operation.node),
    }
}

fn spell(kind: &Type) -> String {
    let base = match &kind.base {
        BaseType::Named(name) => name.to_string(),
        BaseType::List(inner) => format!("[{}]", spell(inner)),
    };
    if kind.nullable { base } else { format!("{base}!") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validation_errors_read_as_in_graphql_js() {
        let cases = [
            (
                "Unknown field \"runSpec\" on type \"PushToRunQueueByNamePayload\".",
                "Cannot query field \"runSpec\" on type \"PushToRunQueueByNamePayload\".",
            ),
            (
                "Unknown field \"vier\" on type \"Query\". Did you mean \"viewer\"?",
                "Cannot query field \"vier\" on type \"Query\". Did you mean \"viewer\"?",
            ),
            (
                "Unknown argument \"x\" on field \"project\" of type \"Query\".",
                "Unknown argument \"x\" on field \"Query.project\".",
            ),
            (
                "Field \"run\" argument \"name\" of type \"String!\" is required but not provided",
                "Field \"run\" argument \"name\" of type \"String!\" is required, but it was not provided.",
            ),
            (
                "Field \"viewer\" of type \"User\" must have a selection of subfields",
                "Field \"viewer\" of type \"User\" must have a selection of subfields. Did you mean \"viewer { ... }\"?",
            ),
            (
                "Variable \"$a\" is not used by operation \"Q\"",
                "Variable \"$a\" is never used in operation \"Q\".",
            ),
            ("Unknown type \"X\"", "Unknown type \"X\"."),
            ("Unknown fragment: \"F\"", "Unknown fragment \"F\"."),
        ];
        for (given, expected) in cases {
            assert_eq!(graphql_js(given), expected);
        }
    }

    #[test]
    fn required_variables_must_be_given() {
        let document = async_graphql::parser::parse_query(
            "query Q($a: String!, $b: [ID!]!, $c: Int, $d: Int! = 3) { x(a: $a, b: $b, c: $c, d: $d) }",
        )
        .expect("a document");
        let cases = [
            (
                serde_json::json!({}),
                Some("Variable \"$a\" of required type \"String!\" was not provided."),
            ),
            (
                serde_json::json!({"a": "x", "b": null}),
                Some("Variable \"$b\" of non-null type \"[ID!]!\" must not be null."),
            ),
            (serde_json::json!({"a": "x", "b": [], "undeclared": 1}), None),
        ];
        for (variables, expected) in cases {
            let map = variables.as_object().cloned().unwrap_or_default();
            assert_eq!(check_variables(&document, Some("Q"), &map).as_deref(), expected);
        }
    }
}
