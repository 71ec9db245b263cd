//! Table in memory: rows and ledger in one transaction, as the trait demands; and tables with
//! deliberate bugs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use forebay_connect::table::{
    Import, ImportSummary, InspectionFinding, RowStream, Table, TableError, TableInspection,
};
use forebay_model::{Mapping, TableBackend, TableId};
use futures::StreamExt;

use crate::gate::{Gates, Step, Verdict};

/// A row: its cells.
pub(crate) type Row = Vec<Vec<u8>>;

/// Deliberate bug of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fault {
    #[default]
    None,
    /// Rows are stored, the ledger never has the import.
    ForgetsItsLedger,
    /// Rows are stored before the transaction, each in its own.
    RowByRow,
    /// The ledger has an import whose rows are not stored.
    LedgerFirst,
    /// The last row of an import is not stored.
    DropsTheLastRow,
}

#[derive(Debug, Default)]
struct Kept {
    rows: BTreeMap<String, Vec<Row>>,
    ledger: BTreeMap<String, u64>,
    /// Committed imports: import, table, number of rows.
    commits: Vec<(String, String, usize)>,
    outage: bool,
    /// It rejects its input until an operator changes that.
    rejects: bool,
}

/// The database. Clones are the same; it outlives every process.
#[derive(Clone, Debug)]
pub(crate) struct SimTable {
    kept: Arc<Mutex<Kept>>,
    gates: Gates,
    fault: Fault,
}

impl SimTable {
    pub(crate) fn new(gates: Gates, fault: Fault) -> Self {
        let kept = Arc::default();
        Self { kept, gates, fault }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_outage(&self, outage: bool) {
        self.lock().outage = outage;
    }

    pub(crate) fn set_rejects(&self, rejects: bool) {
        self.lock().rejects = rejects;
    }

    /// Loses the last confirmed transaction, like a database whose write-ahead log is lost; returns
    /// its import.
    pub(crate) fn lose_the_last(&self) -> Option<String> {
        let mut kept = self.lock();
        let (import, table, rows) = kept.commits.pop()?;
        kept.ledger.remove(&import)?;
        let table = kept.rows.get_mut(&table)?;
        let left = table.len() - rows;
        table.truncate(left);
        Some(import)
    }

    /// The rows of a table, in the order in which they were imported.
    pub(crate) fn rows(&self, table: &str) -> Vec<Row> {
        self.lock().rows.get(table).cloned().unwrap_or_default()
    }

    fn available(&self) -> Result<(), TableError> {
        if self.lock().outage {
            return Err(TableError::Retryable("outage".to_owned()));
        }
        Ok(())
    }

    fn known(&self, id: &str) -> Option<ImportSummary> {
        let rows = *self.lock().ledger.get(id)?;
        Some(ImportSummary {
            rows,
            already_done: true,
            replaced_cells: 0,
        })
    }

    fn insert(&self, table: &str, rows: &[Row]) {
        let mut kept = self.lock();
        let table = kept.rows.entry(table.to_owned()).or_default();
        table.extend_from_slice(rows);
    }

    fn commit(&self, import: &Import, rows: &[Row]) {
        let table = import.table.to_string();
        match self.fault {
            Fault::LedgerFirst => {}
            Fault::DropsTheLastRow if rows.len() > 1 => {
                self.insert(&table, &rows[..rows.len() - 1]);
            }
            Fault::RowByRow => {}
            _ => self.insert(&table, rows),
        }
        if self.fault != Fault::ForgetsItsLedger {
            let mut kept = self.lock();
            kept.ledger.insert(import.id.clone(), rows.len() as u64);
            kept.commits.push((import.id.clone(), table, rows.len()));
        }
    }
}

async fn read(mut stream: RowStream<'_>) -> Result<Vec<Row>, TableError> {
    let mut rows = Vec::new();
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        if batch.has_partial_row() {
            return Err(TableError::Terminal("a row lacks cells".to_owned()));
        }
        let cells: Vec<&[u8]> = batch.cells().collect();
        let whole = cells.chunks(batch.columns());
        rows.extend(whole.map(|row| row.iter().map(|c| c.to_vec()).collect::<Row>()));
    }
    Ok(rows)
}

#[async_trait]
impl Table for SimTable {
    fn backend(&self) -> TableBackend {
        TableBackend::Sqlite
    }

    fn check_names(&self, _: &TableId, _: &Mapping) -> Vec<InspectionFinding> {
        Vec::new()
    }

    async fn inspect(&self, _: &TableId, _: &Mapping) -> Result<TableInspection, TableError> {
        // It is created by its first import, and inspected only before that.
        self.available()?;
        Ok(TableInspection::default())
    }

    async fn prepare(&self, _: &TableId, _: &Mapping) -> Result<(), TableError> {
        self.available()?;
        if self.lock().rejects {
            return Err(TableError::Terminal("it is a view".to_owned()));
        }
        Ok(())
    }

    async fn import(
        &self,
        import: &Import,
        rows: RowStream<'_>,
    ) -> Result<ImportSummary, TableError> {
        self.available()?;
        if let Some(known) = self.known(&import.id) {
            return Ok(known);
        }
        let rows = read(rows).await?;
        if self.fault == Fault::RowByRow {
            self.insert(&import.table.to_string(), &rows);
        }
        if self.gates.pass(Step::Import, &import.id).await == Verdict::Fail {
            return Err(TableError::Retryable("the commit failed".to_owned()));
        }
        self.available()?;
        // Two at a time: the second to commit finds the entry of the first.
        if let Some(known) = self.known(&import.id) {
            return Ok(known);
        }
        self.commit(import, &rows);
        if self.gates.pass(Step::Imported, &import.id).await == Verdict::Fail {
            return Err(TableError::Retryable("the answer was lost".to_owned()));
        }
        if self.fault == Fault::LedgerFirst {
            self.insert(&import.table.to_string(), &rows);
        }
        Ok(ImportSummary {
            rows: rows.len() as u64,
            already_done: false,
            replaced_cells: 0,
        })
    }

    async fn forget(&self, imports: &[String]) -> Result<(), TableError> {
        if self.gates.pass(Step::Forget, "").await == Verdict::Fail {
            return Err(TableError::Retryable(
                "the ledger was not written".to_owned(),
            ));
        }
        self.available()?;
        let mut kept = self.lock();
        for id in imports {
            kept.ledger.remove(id);
        }
        Ok(())
    }

    async fn imported(&self, import_id: &str) -> Result<Option<u64>, TableError> {
        self.available()?;
        Ok(self.lock().ledger.get(import_id).copied())
    }

    async fn missing_imports(&self, imports: &[String]) -> Result<Vec<String>, TableError> {
        self.available()?;
        let kept = self.lock();
        let lacking = imports.iter().filter(|id| !kept.ledger.contains_key(*id));
        Ok(lacking.cloned().collect())
    }

    async fn ledger(&self, after: &str, limit: u32) -> Result<Vec<String>, TableError> {
        self.available()?;
        let kept = self.lock();
        let ids = kept.ledger.keys().filter(|id| id.as_str() > after);
        Ok(ids.take(limit as usize).cloned().collect())
    }

    async fn check(&self) -> Result<(), TableError> {
        self.available()
    }
}
