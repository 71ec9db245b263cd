//! A table that does not respond for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use forebay_connect::table::{
    Import, ImportSummary, InspectionFinding, RowStream, Table, TableError, TableInspection,
};
use forebay_model::{Mapping, TableBackend, TableId};

pub(crate) struct SilentTable {
    pub(crate) table: Arc<dyn Table>,
    pub(crate) is_silent: AtomicBool,
    /// Calls without a response.
    pub(crate) unanswered: AtomicU64,
}

impl SilentTable {
    fn answering(&self) -> Result<&dyn Table, TableError> {
        if self.is_silent.load(Ordering::Relaxed) {
            self.unanswered.fetch_add(1, Ordering::Relaxed);
            return Err(TableError::Retryable("no answer".to_owned()));
        }
        Ok(&*self.table)
    }
}

#[async_trait]
impl Table for SilentTable {
    fn backend(&self) -> TableBackend {
        self.table.backend()
    }

    fn check_names(&self, table: &TableId, mapping: &Mapping) -> Vec<InspectionFinding> {
        self.table.check_names(table, mapping)
    }

    async fn inspect(
        &self,
        table: &TableId,
        mapping: &Mapping,
    ) -> Result<TableInspection, TableError> {
        self.answering()?.inspect(table, mapping).await
    }

    async fn prepare(&self, table: &TableId, mapping: &Mapping) -> Result<(), TableError> {
        self.answering()?.prepare(table, mapping).await
    }

    async fn import(
        &self,
        import: &Import,
        rows: RowStream<'_>,
    ) -> Result<ImportSummary, TableError> {
        self.answering()?.import(import, rows).await
    }

    async fn forget(&self, imports: &[String]) -> Result<(), TableError> {
        self.answering()?.forget(imports).await
    }

    async fn imported(&self, import_id: &str) -> Result<Option<u64>, TableError> {
        self.answering()?.imported(import_id).await
    }

    async fn missing_imports(&self, imports: &[String]) -> Result<Vec<String>, TableError> {
        self.answering()?.missing_imports(imports).await
    }

    async fn ledger(&self, after: &str, limit: u32) -> Result<Vec<String>, TableError> {
        self.answering()?.ledger(after, limit).await
    }

    async fn check(&self) -> Result<(), TableError> {
        self.answering()?.check().await
    }
}
