//! The expected tables, and how they are queried.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use forebay_connect::table::query::{QueryCell, QueryVisitor};
use forebay_model::{ProjectId, SourceId, SourceKey, TableBackend, TableId, TableSink};
use http::Method;

use crate::api::tests::world::{Reply, World};

/// The expected tables.
#[derive(Debug, Default)]
pub(super) struct Model {
    /// The project that filled it first, or that an operator gave it to.
    pub(super) owner: BTreeMap<String, u64>,
    pub(super) shared: BTreeSet<(String, u64)>,
    /// Writers of the rows.
    pub(super) rows: BTreeMap<String, Vec<String>>,
}

impl Model {
    /// No other project owns it.
    pub(super) fn may(&self, project: u64, table: &str) -> bool {
        let table = table.to_ascii_lowercase();
        match self.owner.get(&table) {
            None => true,
            Some(owner) => *owner == project || self.shared.contains(&(table, project)),
        }
    }
}

pub(super) struct Rows(pub(super) Vec<String>);

impl QueryVisitor for Rows {
    fn columns(&mut self, _: &[&str]) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn row(&mut self, cells: &[QueryCell<'_>]) -> ControlFlow<()> {
        if let Some(QueryCell::Text(text)) = cells.first() {
            self.0.push((*text).to_owned());
        }
        ControlFlow::Continue(())
    }
}

pub(super) fn id(table: &str) -> TableId {
    table.parse().unwrap()
}

pub(super) fn table_sink(table: &str) -> TableSink {
    let column = forebay_model::MappingColumn::new("who", forebay_model::ColumnKind::Body);
    TableSink {
        backend: TableBackend::Sqlite,
        table: id(table),
        mapping: forebay_model::Mapping {
            columns: vec![column],
        },
    }
}

pub(super) fn source_key(project: u64, source: &str) -> SourceKey {
    let branch = if project == 123 { 111 } else { 222 };
    SourceKey {
        branch: forebay_model::BranchKey {
            project: ProjectId(project),
            branch: forebay_model::BranchId(branch),
        },
        source: SourceId::from_raw(source),
    }
}

/// Outcome of a request and its task.
pub(super) async fn done(world: &World, token: &str, reply: &Reply) -> Result<(), String> {
    if reply.status != 202 {
        let ok = reply.status.is_success();
        return ok.then_some(()).ok_or_else(|| reply.text.clone());
    }
    let url = reply.json()["url"].as_str().unwrap().to_owned();
    let path = url.strip_prefix("https://stream.example").unwrap();
    loop {
        let task = world.call_as(token, Method::GET, path, "").await.ok();
        match task["status"].as_str() {
            Some("success") => return Ok(()),
            Some("error") => return Err(task["error"].to_string()),
            _ => tokio::time::sleep(std::time::Duration::from_millis(2)).await,
        }
    }
}
