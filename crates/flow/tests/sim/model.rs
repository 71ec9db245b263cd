//! What the run knows of each record, and what must be true of the tables because of it.

use std::collections::BTreeMap;

use crate::table::Row;

/// What a sender knows of its record, for one sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// There is no answer yet.
    Pending,
    /// It was told that the record is stored, at this moment of the run.
    Stored(u64),
    /// It was told that the record is not stored, and never will be.
    Refused,
    /// It was told that nobody knows, or nothing: the process has ended.
    Unknown,
}

/// A record and one sink.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// The moment of the run when it was sent.
    pub(crate) sent: u64,
    pub(crate) fate: Fate,
    /// The row that it makes; none if the sink's mapping refuses it.
    pub(crate) row: Row,
}

/// All records of one sink, by their number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) records: BTreeMap<u64, Record>,
}

/// How many records are where, by what the table has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Missing {
    /// Acknowledged, and not in the table.
    pub(crate) stored: u64,
    /// Perhaps stored, and not in the table.
    pub(crate) unknown: u64,
}

impl Model {
    /// The process has ended: whoever waited learns nothing any more.
    pub(crate) fn end_process(&mut self) {
        for record in self.records.values_mut() {
            if record.fate == Fate::Pending {
                record.fate = Fate::Unknown;
            }
        }
    }

    /// Checks what must be true of the rows of the table at any time: nothing foreign, nothing
    /// altered, nothing that was refused, nothing twice, and, if `ordered`, in the order of
    /// acknowledgement.
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
            if record.fate == Fate::Refused {
                return Err(format!("record {id} was refused and is in the table"));
            }
            let times = seen.entry(id).or_default();
            *times += 1;
            if *times > 1 {
                return Err(format!("record {id} is in the table twice"));
            }
            in_order.push((id, record));
        }
        // From the last row backwards: nothing before it may have been sent after its answer.
        let mut first_answer = (u64::MAX, 0);
        for (id, record) in in_order.into_iter().rev() {
            if ordered && record.sent > first_answer.0 {
                let later = first_answer.1;
                return Err(format!(
                    "record {id} is before record {later}, which was acknowledged before {id} was sent"
                ));
            }
            if let Fate::Stored(at) = record.fate {
                first_answer = first_answer.min((at, id));
            }
        }
        let missing = |fate: fn(&Fate) -> bool| {
            let all = self.records.iter().filter(|(_, r)| fate(&r.fate));
            all.filter(|(id, _)| !seen.contains_key(id)).count() as u64
        };
        Ok(Missing {
            stored: missing(|f| matches!(f, Fate::Stored(_))),
            unknown: missing(|f| *f == Fate::Unknown),
        })
    }

    pub(crate) fn count(&self, fate: fn(&Fate) -> bool) -> u64 {
        self.records.values().filter(|r| fate(&r.fate)).count() as u64
    }
}

/// The number at the beginning of a row's first cell.
fn number(row: &Row) -> Option<u64> {
    let cell = row.first()?;
    let digits = cell.iter().skip_while(|b| !b.is_ascii_digit());
    let digits: Vec<u8> = digits.take_while(|b| b.is_ascii_digit()).copied().collect();
    String::from_utf8(digits).ok()?.parse().ok()
}
