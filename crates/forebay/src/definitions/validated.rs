//! A plan that the server has validated; rejected changes are problems of the files.

use super::problem::DefinitionProblem;
use super::send::RejectedStep;
use super::{
    ApplyPlan, DefinitionSet, PlanOptions, SinkDefinition, problems_error, rejected_steps,
};
use crate::api_client::ApiClient;
use crate::cli_error::CliError;
use crate::definitions::file::SETTINGS;

/// Reason for which definitions can't be applied. Nothing was changed.
#[derive(Debug)]
pub(crate) enum ApplyFailure {
    /// The files have problems.
    Problems(Vec<DefinitionProblem>),
    /// The server can't be asked.
    Other(CliError),
}

impl From<CliError> for ApplyFailure {
    fn from(error: CliError) -> Self {
        Self::Other(error)
    }
}

impl From<ApplyFailure> for CliError {
    fn from(failure: ApplyFailure) -> Self {
        match failure {
            ApplyFailure::Problems(problems) => problems_error(&problems),
            ApplyFailure::Other(error) => error,
        }
    }
}

impl DefinitionSet {
    /// Plans the changes and lets the server validate them.
    pub(crate) async fn plan(
        &self,
        api: &ApiClient,
        options: &PlanOptions,
    ) -> Result<ApplyPlan, ApplyFailure> {
        let sources = self.sources.iter().map(|source| &source.definition);
        let sources: Vec<_> = sources.collect();
        let plan = ApplyPlan::new(api, &sources, options).await?;
        let rejected = rejected_steps(api, &plan).await?;
        if rejected.is_empty() {
            return Ok(plan);
        }
        let problems = rejected.iter().filter_map(|r| self.rejection(r));
        Err(ApplyFailure::Problems(problems.collect()))
    }

    /// The problem of a rejected step, at the field that the server names.
    fn rejection(&self, rejected: &RejectedStep<'_>) -> Option<DefinitionProblem> {
        let RejectedStep { step, violation } = rejected;
        let (source, sink) = step.place?;
        let definition = &self.sources.get(source)?.definition;
        let field = violation.field.as_deref().unwrap_or_default();
        let field = match sink.and_then(|sink| definition.sinks.get(sink)) {
            Some(sink) => sink_field(sink, field),
            None => own_field(field, &definition.settings),
        };
        let message = format!("{}: {}", step.what(), violation.message);
        self.problem_of(source, sink, &field, message)
    }
}

/// Field of a sink in a file, from its path in a request.
fn sink_field(sink: &SinkDefinition, field: &str) -> String {
    for (request, file) in [
        ("table.tableId", "table"),
        ("table.type", "backend"),
        ("table.mapping.columns", "columns"),
        ("topic", sink.type_name()),
    ] {
        if let Some(rest) = field.strip_prefix(request) {
            return format!("{file}{rest}");
        }
    }
    own_field(field, &sink.settings)
}

/// Field of a source or sink in a file, from its path in a request.
fn own_field<V>(field: &str, settings: &std::collections::BTreeMap<String, V>) -> String {
    if let Some(key) = field.strip_prefix("settings.") {
        let short = key.strip_prefix(SETTINGS).unwrap_or(key);
        let name = if settings.contains_key(key) {
            key
        } else {
            short
        };
        return format!("settings.{name}");
    }
    match field {
        "sourceId" | "sinkId" => "id".to_owned(),
        other => other.to_owned(),
    }
}
