//! Sinks whose mappings `forebay test` applies.

use forebay_api::mapping::MappingRequest;
use forebay_api::sink::SinkView;
use forebay_api::topic::MessageRequest;
use forebay_control::api::{ColumnProblem, Mapper, mapping_from_request, message_from_request};
use forebay_model::{
    HttpMethod, Mapping, SinkTarget, TableBackend, TableSink, TopicKind, TopicSink,
};
use serde_json::{Value, json};

use crate::definitions::{
    ColumnDefinition, DefinitionProblem, DefinitionSet, MessageDefinition, SinkDefinition,
};
use crate::mapper::RecordMapper;

/// A sink with its mapping.
#[derive(Clone, Debug)]
pub(crate) struct TestedSink {
    pub(crate) source: String,
    pub(crate) sink: String,
    /// The table or topic.
    pub(crate) name: String,
    pub(crate) target: SinkTarget,
}

struct SinkViolation {
    /// Field of the sink in a file.
    field: String,
    message: String,
}

impl SinkViolation {
    fn all(field: &str, messages: Vec<String>) -> Vec<Self> {
        let violation = |message| Self {
            field: field.to_owned(),
            message,
        };
        messages.into_iter().map(violation).collect()
    }
}

/// The sinks of a file, compiled as the server does; or all violations with their positions.
pub(crate) fn from_file(
    definitions: &DefinitionSet,
    mapper: &RecordMapper,
) -> Result<Vec<TestedSink>, Vec<DefinitionProblem>> {
    let mut sinks = Vec::new();
    let mut violations = Vec::new();
    for (i, placed) in definitions.sources.iter().enumerate() {
        let source = &placed.definition;
        let Ok(source_id) = source.source_id() else {
            continue;
        };
        for (k, sink) in source.sinks.iter().enumerate() {
            let Ok(id) = sink.sink_id() else { continue };
            let target = from_definition(sink, &id).and_then(|target| checked(target, mapper));
            match target {
                Ok(target) => sinks.push(TestedSink {
                    source: source_id.clone(),
                    name: target_name(&target),
                    sink: id,
                    target,
                }),
                Err(found) => violations.extend(found.into_iter().filter_map(|violation| {
                    let message = format!("sink {source_id}/{id}: {}", violation.message);
                    definitions.problem_of(i, Some(k), &violation.field, message)
                })),
            }
        }
    }
    if violations.is_empty() {
        Ok(sinks)
    } else {
        Err(violations)
    }
}

/// The sink in force on a server.
pub(crate) fn from_view(source: &str, sink: &SinkView) -> Result<TestedSink, Vec<String>> {
    let target = match (&sink.table, &sink.topic) {
        (Some(table), _) => {
            let columns: Vec<ColumnDefinition> =
                table.mapping.columns.iter().map(Into::into).collect();
            table_target(&columns, &table.table_id)
        }
        (None, Some(topic)) => {
            let message = MessageDefinition::from(&topic.message).request();
            let method = topic.method.map(HttpMethod::from).unwrap_or_default();
            let kind = if sink.r#type.to_string() == "kafka" {
                TopicKind::Kafka
            } else {
                TopicKind::Http
            };
            let batches = topic.batches.unwrap_or_default();
            topic_target(message, kind, &topic.topic, (batches, method))
        }
        (None, None) => return Err(vec!["the sink has neither a table nor a topic".to_owned()]),
    };
    let target = target.map_err(|found| -> Vec<String> {
        found
            .into_iter()
            .map(|violation| violation.message)
            .collect()
    })?;
    Ok(TestedSink {
        source: source.to_owned(),
        sink: sink.sink_id.clone(),
        name: target_name(&target),
        target,
    })
}

fn target_name(target: &SinkTarget) -> String {
    match target {
        SinkTarget::Table(table) => table.table.to_string(),
        SinkTarget::Topic(topic) => topic.topic.clone(),
    }
}

fn from_definition(sink: &SinkDefinition, id: &str) -> Result<SinkTarget, Vec<SinkViolation>> {
    if let Some((kind, topic)) = sink.topic() {
        let kind = if kind == "kafka" {
            TopicKind::Kafka
        } else {
            TopicKind::Http
        };
        let method = topic.method.as_deref().and_then(HttpMethod::from_name);
        let name = topic.topic.as_deref().unwrap_or(id);
        let how = (topic.batches, method.unwrap_or_default());
        return topic_target(topic.message.request(), kind, name, how);
    }
    table_target(&sink.columns, sink.table.as_deref().unwrap_or_default())
}

fn table_target(
    columns: &[ColumnDefinition],
    table: &str,
) -> Result<SinkTarget, Vec<SinkViolation>> {
    let of_columns = |messages| SinkViolation::all("columns", messages);
    let columns: Vec<Value> = columns.iter().map(ColumnDefinition::request).collect();
    let request: MappingRequest = serde_json::from_value(json!({ "columns": columns }))
        .map_err(|e| of_columns(vec![e.to_string()]))?;
    let mapping = mapping_from_request(request, true).map_err(of_columns)?;
    let table = table
        .parse()
        .map_err(|e| SinkViolation::all("table", vec![format!("table is \"{table}\": {e}")]))?;
    Ok(SinkTarget::Table(TableSink {
        backend: TableBackend::Sqlite,
        table,
        mapping,
    }))
}

fn topic_target(
    message: Value,
    kind: TopicKind,
    topic: &str,
    (batches, method): (bool, HttpMethod),
) -> Result<SinkTarget, Vec<SinkViolation>> {
    let in_message = |messages| SinkViolation::all(&message_field(kind), messages);
    let request: MessageRequest =
        serde_json::from_value(message).map_err(|e| in_message(vec![e.to_string()]))?;
    let topic = TopicSink {
        kind,
        provider: String::new(),
        topic: topic.to_owned(),
        batches,
        method,
        message: message_from_request(request, true).map_err(in_message)?,
    };
    Ok(SinkTarget::Topic(topic))
}

fn message_field(kind: TopicKind) -> String {
    format!("{}.message", kind.name())
}

/// Compiles paths and templates.
fn checked(target: SinkTarget, mapper: &RecordMapper) -> Result<SinkTarget, Vec<SinkViolation>> {
    let problems = match &target {
        SinkTarget::Table(table) => mapper.check(&table.mapping),
        SinkTarget::Topic(topic) => mapper.check(&topic.message.columns()),
    };
    if problems.is_empty() {
        return Ok(target);
    }
    let field = |problem: &ColumnProblem| match &target {
        SinkTarget::Table(table) => column_field(&table.mapping, &problem.column),
        SinkTarget::Topic(topic) => message_field(topic.kind),
    };
    let violation = |p: ColumnProblem| SinkViolation {
        field: field(&p),
        message: format!("column \"{}\" is invalid: {}", p.column, p.message),
    };
    Err(problems.into_iter().map(violation).collect())
}

/// The path or template of a column.
fn column_field(mapping: &Mapping, name: &str) -> String {
    let columns = mapping.columns.iter().enumerate();
    let mut found = columns.filter(|(_, column)| column.name == name);
    match found.next() {
        Some((i, column)) => format!("columns[{i}].{}", column.kind.type_name()),
        None => "columns".to_owned(),
    }
}
