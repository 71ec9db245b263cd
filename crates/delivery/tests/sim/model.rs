//! Model of a run: the outcome of each record, and what must be true of the tables because of it.

use std::collections::BTreeMap;

use crate::table::Row;

/// Outcome of a record at one sink, as its sender knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// No response yet.
    Pending,
    /// Acknowledged as stored, at this moment of the run.
    Stored(u64),
    /// Rejected: it is not stored, and never will be.
    Rejected,
    /// Reported as unknown, or not at all because the process has ended.
    Unknown,
}

/// A record and one sink.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// The moment of the run when it was sent.
    pub(crate) sent: u64,
    pub(crate) outcome: Outcome,
    /// Its row; none if the sink's mapping rejects it.
    pub(crate) row: Row,
}

/// All records of one sink, by number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) records: BTreeMap<u64, Record>,
}

/// Counts of records that the table lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Missing {
    /// Acknowledged, and not in the table.
    pub(crate) stored: u64,
    /// Perhaps stored, and not in the table.
    pub(crate) unknown: u64,
}

impl Model {
    /// The process has ended: pending requests get no response.
    pub(crate) fn end_process(&mut self) {
        for record in self.records.values_mut() {
            if record.outcome == Outcome::Pending {
                record.outcome = Outcome::Unknown;
            }
        }
    }

    /// Checks what must be true of the table's rows at any time: no foreign, altered, rejected or
    /// duplicate rows and, if `ordered`, rows in the order of acknowledgement.
    pub(crate) fn check_rows(&self, rows: &[Row], ordered: bool) -> Result<Missing, String> {
        let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
        let mut in_order: Vec<(u64, &Record)> = Vec::new();
        for row in rows {
            let id = number(row).ok_or_else(|| format!("foreign row {row:?}"))?;
            let record = self.records.get(&id);
            let record = record.ok_or_else(|| format!("record {id} was never sent"))?;
            if record.row != *row {
                return Err(format!("record {id} was altered: {row:?}"));
            }
            if record.outcome == Outcome::Rejected {
                return Err(format!("record {id} was rejected and is in the table"));
            }
            let times = seen.entry(id).or_default();
            *times += 1;
            if *times > 1 {
                return Err(format!("record {id} is in the table twice"));
            }
            in_order.push((id, record));
        }
        // From the last row backwards: no earlier row may have been sent after its acknowledgement.
        let mut first_answer = (u64::MAX, 0);
        for (id, record) in in_order.into_iter().rev() {
            if ordered && record.sent > first_answer.0 {
                let later = first_answer.1;
                return Err(format!(
                    "record {id} is before record {later}, which was acknowledged before {id} was sent"
                ));
            }
            if let Outcome::Stored(at) = record.outcome {
                first_answer = first_answer.min((at, id));
            }
        }
        let missing = |outcome: fn(&Outcome) -> bool| {
            let all = self.records.iter().filter(|(_, r)| outcome(&r.outcome));
            all.filter(|(id, _)| !seen.contains_key(id)).count() as u64
        };
        Ok(Missing {
            stored: missing(|f| matches!(f, Outcome::Stored(_))),
            unknown: missing(|f| *f == Outcome::Unknown),
        })
    }

    pub(crate) fn count(&self, outcome: fn(&Outcome) -> bool) -> u64 {
        self.records
            .values()
            .filter(|r| outcome(&r.outcome))
            .count() as u64
    }
}

/// Number at the beginning of a row's first cell.
fn number(row: &Row) -> Option<u64> {
    let cell = row.first()?;
    let digits = cell.iter().skip_while(|b| !b.is_ascii_digit());
    let digits: Vec<u8> = digits.take_while(|b| b.is_ascii_digit()).copied().collect();
    String::from_utf8(digits).ok()?.parse().ok()
}
