//! For tests and fuzzing: documents are put to the schema without being run.

use std::sync::Arc;

use async_graphql::extensions::{Extension, ExtensionContext, ExtensionFactory, NextValidation};
use async_graphql::{ServerError, ValidationResult};

/// Ends every request after validation.
pub(crate) struct ValidateOnly;

/// The error with which a valid document ends.
pub(crate) const VALID: &str = "valid";

impl ExtensionFactory for ValidateOnly {
    fn create(&self) -> Arc<dyn Extension> {
        Arc::new(Self)
    }
}

#[async_graphql::async_trait::async_trait]
impl Extension for ValidateOnly {
    async fn validation(
        &self,
        context: &ExtensionContext<'_>,
        next: NextValidation<'_>,
    ) -> Result<ValidationResult, Vec<ServerError>> {
        next.run(context).await?;
        Err(vec![ServerError::new(VALID, None)])
    }
}

/// All that a document passes before anything of it runs.
#[cfg(feature = "fuzzing")]
pub(crate) struct DocumentChecks(super::ApiSchema);

#[cfg(feature = "fuzzing")]
impl DocumentChecks {
    pub(crate) fn new() -> Self {
        Self(super::builder().extension(ValidateOnly).finish())
    }

    /// The errors in the words that a client would read; [`VALID`] if there is none.
    pub(crate) async fn check(&self, text: &str) -> Vec<String> {
        let document = match super::size::check_text(text).map(|()| async_graphql::parser::parse_query(text)) {
            Ok(Ok(document)) => document,
            Ok(Err(error)) => return vec![error.to_string()],
            Err(error) => return vec![error.message],
        };
        if let Err(error) = super::size::check_document(&document) {
            return vec![error.message];
        }
        let unset = super::wording::check_variables(&document, None, &serde_json::Map::new());
        let mut request = async_graphql::Request::new(text);
        request.set_parsed_query(document);
        let mut errors = self.0.execute(request).await.errors;
        errors.iter_mut().for_each(super::wording::reword);
        unset
            .into_iter()
            .chain(errors.into_iter().map(|error| error.message))
            .collect()
    }
}

/// Reads the body of a request as far as the choice between the two ways.
///
/// # Errors
/// What the long way would say to what the short way takes.
#[cfg(feature = "fuzzing")]
pub(crate) fn choose_way(body: &axum::body::Bytes) -> Result<(), String> {
    let Ok(posted) = super::handler::parse_body(body) else {
        return Ok(());
    };
    let query = posted.query.unwrap_or_default();
    match super::direct::Direct::read(&query, posted.operation_name.as_deref(), posted.variables, true) {
        Some(direct) => {
            let variables = posted.variables.map_or("null", |variables| variables.get());
            let variables = serde_json::from_str(variables).map_err(|error| error.to_string())?;
            direct.takes_the_long_way(&variables)
        }
        None => Ok(()),
    }
}
