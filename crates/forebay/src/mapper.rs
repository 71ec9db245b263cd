//! Compiles and tests mappings for the management API.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use async_trait::async_trait;
use forebay_control::api::{ColumnProblem, Mapper, TestCell, TestError, TestRecord, TestTable};
use forebay_ingest::template::TemplatePool;
use forebay_model::{Mapping, Sink, SinkTarget, TopicSink};
use forebay_record::{
    CompiledMapping, CompiledMessage, RecordContext, RecordError, RequestInfo, RowLimits,
};

/// Compiles and tests mappings with the code of the source.
pub(crate) struct RecordMapper {
    templates: Arc<TemplatePool>,
    limits: RowLimits,
    random: Arc<dyn Fn() -> u128 + Send + Sync>,
}

impl RecordMapper {
    pub(crate) fn new(
        templates: Arc<TemplatePool>,
        limits: RowLimits,
        random: Arc<dyn Fn() -> u128 + Send + Sync>,
    ) -> Self {
        Self {
            templates,
            limits,
            random,
        }
    }

    /// The row of a record in a table, or the parts of its message.
    pub(crate) async fn target_row(
        &self,
        target: &SinkTarget,
        record: TestRecord,
    ) -> Result<Vec<TestCell>, TestError> {
        self.rows(target, &context(record)?).await
    }

    async fn rows(
        &self,
        target: &SinkTarget,
        context: &RecordContext,
    ) -> Result<Vec<TestCell>, TestError> {
        match target {
            SinkTarget::Table(table) => self.cells(&table.mapping, context).await,
            SinkTarget::Topic(topic) => self.message(topic, context).await,
        }
    }

    async fn cells(
        &self,
        mapping: &Mapping,
        context: &RecordContext,
    ) -> Result<Vec<TestCell>, TestError> {
        let mapping = CompiledMapping::compile_checked(mapping, &self.limits);
        let evaluated = self.templates.evaluate(mapping.templates(), context).await;
        let mut random = || (self.random)();
        let cells = mapping
            .render_cells(context, &evaluated, &mut random)
            .map_err(rejected)?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let names = mapping.column_names();
        let cell = |(name, bytes): (&str, Vec<u8>)| TestCell {
            column: name.to_owned(),
            value: text(bytes),
        };
        Ok(names.zip(cells).map(cell).collect())
    }

    /// The parts of a message as the cells of a row.
    async fn message(
        &self,
        topic: &TopicSink,
        context: &RecordContext,
    ) -> Result<Vec<TestCell>, TestError> {
        let compiled = CompiledMessage::compile_checked(&topic.message, &self.limits);
        let templates = compiled.mapping().templates();
        let evaluated = self.templates.evaluate(templates, context).await;
        let mut random = || (self.random)();
        let message = compiled
            .render(context, &evaluated, &mut random)
            .map_err(rejected)?;
        let cell = |column: String, bytes: Vec<u8>| TestCell {
            column,
            value: String::from_utf8_lossy(&bytes).into_owned(),
        };
        let mut cells = vec![cell("value".to_owned(), message.value)];
        cells.extend(message.key.map(|key| cell("key".to_owned(), key)));
        let headers = message.headers.into_iter();
        cells.extend(headers.map(|(name, value)| cell(format!("headers.{name}"), value)));
        Ok(cells)
    }
}

/// Maximum bytes of a tested record as UTF-8; the API accepts less.
const BODY_MAX: usize = 64 << 20;

/// The record as the source would receive it.
fn context(record: TestRecord) -> Result<RecordContext, TestError> {
    let client_ip = record.ip.parse();
    let request = RequestInfo {
        received: record.received_at,
        client_ip: client_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        headers: record.headers.into(),
    };
    let received = RecordContext::received(Arc::new(request), &record.body, BODY_MAX);
    received.map_err(|e| TestError::Body(e.to_string()))
}

fn rejected(error: RecordError) -> TestError {
    TestError::Column {
        column: error.column,
        message: error.message,
    }
}

#[async_trait]
impl Mapper for RecordMapper {
    fn check(&self, mapping: &Mapping) -> Vec<ColumnProblem> {
        match CompiledMapping::compile(mapping, &self.limits) {
            Ok(_) => Vec::new(),
            Err(errors) => errors
                .into_iter()
                .map(|e| ColumnProblem {
                    column: e.column,
                    message: e.message,
                })
                .collect(),
        }
    }

    async fn test(&self, sinks: &[Sink], record: TestRecord) -> Result<Vec<TestTable>, TestError> {
        let context = context(record)?;
        let mut tables = Vec::with_capacity(sinks.len());
        for sink in sinks {
            let row = self.rows(&sink.target, &context).await?;
            tables.push(TestTable {
                sink: sink.key.clone(),
                table: match &sink.target {
                    SinkTarget::Table(table) => table.table.to_string(),
                    SinkTarget::Topic(topic) => topic.topic.clone(),
                },
                rows: vec![row],
            });
        }
        Ok(tables)
    }

    async fn row(&self, mapping: &Mapping, record: TestRecord) -> Result<Vec<TestCell>, TestError> {
        self.cells(mapping, &context(record)?).await
    }
}
