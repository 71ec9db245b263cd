//! Selects the next file of each sink.
//!
//! This is the oldest, until it is done. A file that its table rejects lets later ones pass: at
//! once where the order of rows does not matter, after a while where a later row replaces an
//! earlier one (`docs/adr/1372-…`). The same holds for a file that waits for a slice which the log
//! lacks.

use std::collections::{BTreeMap, HashSet};

use forebay_meta::{Revision, Versioned};
use forebay_model::{File, FileKey, FileState, SinkKey, Timestamp};
use std::sync::Arc;

use crate::work_queue::DueItem;

/// Returns the next file of each sink, if it is in staging, due, and no file of the sink is being
/// imported. `closed` are files that are no longer written; `defined` gives the revision of a
/// sink's last change, `due` whether its wait is over, `stuck` the time since when a slice of a file can't be uploaded without an
/// operator.
pub(super) fn next_of_each_sink<'f>(
    closed: impl Iterator<Item = &'f Versioned<Arc<File>>>,
    busy: &HashSet<FileKey>,
    (defined, due): (
        impl Fn(&SinkKey) -> Option<Revision>,
        impl Fn(&File) -> bool,
    ),
    stuck: impl Fn(&FileKey) -> Option<Timestamp>,
    now: Timestamp,
) -> Vec<DueItem<FileKey>> {
    let mut by_sink: BTreeMap<&SinkKey, Vec<&Versioned<Arc<File>>>> = BTreeMap::new();
    for file in closed {
        by_sink.entry(&file.key.sink).or_default().push(file);
    }
    let busy: HashSet<&SinkKey> = busy.iter().map(|k| &k.sink).collect();
    let mut next = Vec::new();
    for (sink, mut files) in by_sink {
        if busy.contains(sink) {
            continue;
        }
        files.sort_by_key(|f| f.key.opened_at);
        for file in files {
            if is_due(file, defined(sink), &due) {
                next.push((file.key.clone(), file.revision));
            } else if lets_later_files_pass(file, &stuck, now) {
                continue;
            }
            break;
        }
    }
    next
}

/// Whether the file is to be tried now; a parked one as soon as its sink has changed.
fn is_due(
    file: &Versioned<Arc<File>>,
    defined: Option<Revision>,
    due: impl Fn(&File) -> bool,
) -> bool {
    let changed = file.retry.parked && defined.is_some_and(|at| at > file.revision);
    file.state == FileState::Importing && (changed || due(file))
}

fn lets_later_files_pass(
    file: &File,
    stuck: impl Fn(&FileKey) -> Option<Timestamp>,
    now: Timestamp,
) -> bool {
    if file.dead_rows.is_some() {
        // Its rows become dead letters, where order does not matter.
        return true;
    }
    let since = match file.state {
        FileState::Importing if file.retry.parked => file.retry.first_failed_at,
        FileState::Closing => stuck(&file.key),
        _ => None,
    };
    let has_key = file.table.mapping.primary_key().next().is_some();
    since.is_some_and(|since| !has_key || now.since(since) >= file.settings.import.hold_back.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_model::{
        Backoff, ColumnKind, Mapping, MappingColumn, SinkSettings, TableBackend, TableSink,
    };

    fn at(s: i64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + s * 1000)
    }

    fn file(n: i64, keyed: bool, parked_at: Option<i64>) -> Versioned<Arc<File>> {
        let column = MappingColumn {
            primary_key: keyed,
            ..MappingColumn::new("id", ColumnKind::Body)
        };
        let table = TableSink {
            backend: TableBackend::Sqlite,
            table: "in.b.t".parse().unwrap(),
            mapping: Mapping {
                columns: vec![column],
            },
        };
        let key = FileKey {
            sink: "1/2/s/t".parse().unwrap(),
            opened_at: at(n),
        };
        let mut file = File::open(key, table, SinkSettings::default());
        file.state = FileState::Importing;
        if let Some(parked_at) = parked_at {
            let why = "too long".to_owned();
            file.retry
                .record_failure(why, true, at(parked_at), &Backoff::default(), 100);
        }
        let revision = Revision(10);
        Versioned {
            value: Arc::new(file),
            revision,
        }
    }

    fn next(files: &[Versioned<Arc<File>>], defined: u64, now: i64) -> Option<i64> {
        let defined = |_: &SinkKey| Some(Revision(defined));
        let stuck = |key: &FileKey| (key.opened_at == at(7)).then_some(at(20));
        let due = |file: &File| file.retry.is_due(at(now));
        let due = next_of_each_sink(
            files.iter(),
            &HashSet::new(),
            (defined, due),
            stuck,
            at(now),
        );
        assert!(due.len() <= 1);
        let due = due.first()?;
        files.iter().position(|f| f.key == due.0).map(|i| i as i64)
    }

    #[test]
    fn a_parked_file_lets_later_ones_pass_at_once_or_after_a_while() {
        for (keyed, waits) in [(false, 0), (true, 600)] {
            let files = [file(1, keyed, Some(20)), file(2, keyed, None)];
            if waits > 0 {
                assert_eq!(next(&files, 9, 20 + 250), None, "held back");
            }
            // It is retried every five minutes, and comes first then.
            assert_eq!(next(&files, 9, 20 + 301), Some(0));
            // A repeated failure keeps the time of the first one.
            let mut again = (*files[0].value).clone();
            let (why, now) = ("too long".to_owned(), at(20 + waits));
            again
                .retry
                .record_failure(why, true, now, &Backoff::default(), 100);
            let again = Versioned {
                value: Arc::new(again),
                revision: Revision(10),
            };
            assert_eq!(next(&[again, files[1].clone()], 9, 20 + waits), Some(1));
        }
    }

    #[test]
    fn a_file_waiting_for_a_stuck_slice_lets_later_ones_pass() {
        let closing = |n, keyed| {
            let mut file = (*file(n, keyed, None).value).clone();
            file.state = FileState::Closing;
            let (value, revision) = (Arc::new(file), Revision(10));
            Versioned { value, revision }
        };
        for (keyed, waits) in [(false, 0), (true, 600)] {
            let stuck = [closing(7, keyed), file(8, keyed, None)];
            if waits > 0 {
                assert_eq!(next(&stuck, 9, 20 + waits - 1), None, "held back");
            }
            assert_eq!(next(&stuck, 9, 20 + waits), Some(1));
            // A file whose slices are being uploaded is waited for.
            let waiting = [closing(6, keyed), file(8, keyed, None)];
            assert_eq!(next(&waiting, 9, 20 + waits), None);
        }
    }

    #[test]
    fn a_parked_file_is_retried_at_once_when_its_sink_changes() {
        let files = [file(1, true, Some(20)), file(2, true, None)];
        assert_eq!(next(&files, 11, 21), Some(0));
    }

    #[test]
    fn a_file_that_may_succeed_holds_back_later_ones() {
        let mut first = (*file(1, false, None).value).clone();
        first.retry.record_failure(
            "no route".to_owned(),
            false,
            at(20),
            &Backoff::default(),
            100,
        );
        let first = Versioned {
            value: Arc::new(first),
            revision: Revision(10),
        };
        assert_eq!(next(&[first, file(2, false, None)], 11, 20), None);
    }
}
