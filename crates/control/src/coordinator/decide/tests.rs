use std::time::Duration;

use forebay_model::{
    BlockCompression, ByteSize, HumanDuration, Mapping, SinkSettings, TableBackend, TableSink,
};

use super::*;

const OPENED: &str = "2026-11-21T05:00:00.000Z";

fn file() -> File {
    let table = TableSink {
        backend: TableBackend::Sqlite,
        table: "in.c-b.t".parse().unwrap(),
        mapping: Mapping::default(),
    };
    let mut settings = SinkSettings::default();
    settings.upload.count = 10;
    settings.upload.size = ByteSize(1000);
    settings.upload.interval = HumanDuration::secs(30);
    settings.import.count = 100;
    settings.import.size = ByteSize(10_000);
    settings.import.interval = HumanDuration::secs(60);
    settings.import.slices = 20;
    File::open(
        format!("1/1/src/snk/{OPENED}").parse().unwrap(),
        table,
        settings,
    )
}

fn slice() -> Slice {
    let key = format!("1/1/src/snk/{OPENED}/vol/{OPENED}")
        .parse()
        .unwrap();
    Slice::open(key, BlockCompression::None)
}

fn after(ms: u64) -> Timestamp {
    let opened: Timestamp = OPENED.parse().unwrap();
    opened.plus(Duration::from_millis(ms))
}

fn holding(records: u64, compressed_bytes: u64) -> Statistics {
    Statistics {
        records,
        compressed_bytes,
        ..Statistics::default()
    }
}

#[test]
fn a_slice_is_rotated_at_each_trigger_and_not_one_below() {
    let config = CoordinatorConfig::default();
    for (records, bytes, ms, expected) in [
        (0, 0, 3_600_000, None),
        (10, 0, 999, None),
        (10, 0, 1000, Some(RotationReason::Count)),
        (9, 999, 29_999, None),
        (1, 1000, 1000, Some(RotationReason::Size)),
        (1, 1, 30_000, Some(RotationReason::Age)),
    ] {
        let decided = slice_rotation(
            &file(),
            &slice(),
            &holding(records, bytes),
            &config,
            after(ms),
        );
        assert_eq!(
            decided, expected,
            "{records} records, {bytes} bytes, {ms} ms"
        );
    }
}

#[test]
fn only_open_slices_are_rotated() {
    let mut closing = slice();
    closing.transition(SliceState::Closing, after(1)).unwrap();
    let config = CoordinatorConfig::default();
    assert_eq!(
        slice_rotation(&file(), &closing, &holding(99, 99), &config, after(99_999)),
        None
    );
}

#[test]
fn a_file_is_rotated_at_each_trigger_and_not_one_below() {
    let config = CoordinatorConfig::default();
    for (slices, records, bytes, in_flight, ms, expected) in [
        (100, 0, 0, 9, 0, Some(RotationReason::Slices)),
        (99, 100, 0, 0, 999, None),
        (20, 1, 0, 9, 1000, Some(RotationReason::Slices)),
        (19, 100, 0, 0, 1000, Some(RotationReason::Count)),
        (1, 99, 9_999, 0, 59_999, None),
        (1, 1, 10_000, 0, 1000, Some(RotationReason::Size)),
        (1, 1, 0, 0, 60_000, Some(RotationReason::Age)),
        (1, 1, 0, 1, 60_000, Some(RotationReason::Age)),
        (1, 1, 0, 2, 60_000, None),
        (1, 1, 0, 2, 1_800_000, Some(RotationReason::Expiration)),
        (1, 0, 0, 0, 1_800_000, None),
    ] {
        let held = holding(records, bytes);
        let decided = file_rotation(&file(), slices, &held, in_flight, &config, after(ms));
        assert_eq!(
            decided, expected,
            "{slices} slices, {records} records, {in_flight} in flight, {ms} ms"
        );
    }
}

#[test]
fn a_clock_set_back_rotates_nothing() {
    let config = CoordinatorConfig::default();
    let before = Timestamp::from_millis(0);
    assert_eq!(
        slice_rotation(&file(), &slice(), &holding(99, 9999), &config, before),
        None
    );
    assert_eq!(
        file_rotation(&file(), 1, &holding(999, 9), 0, &config, before),
        None
    );
}

#[test]
fn an_import_begins_when_the_last_slice_is_staged() {
    let mut f = file();
    let mut s = slice();
    assert!(!ready_for_import(&f, []));
    f.transition(FileState::Closing, after(1)).unwrap();
    for state in [
        SliceState::Closing,
        SliceState::Uploading,
        SliceState::Uploaded,
    ] {
        assert!(!ready_for_import(&f, [&s]));
        s.transition(state, after(2)).unwrap();
    }
    assert!(ready_for_import(&f, [&s]));
}

#[test]
fn only_old_imported_files_beyond_the_newest_are_removed() {
    let config = CoordinatorConfig {
        archived_file_retention_per_sink: 1,
        ..CoordinatorConfig::default()
    };
    let imported = |opened_ms: u64, done_ms: u64| {
        let mut f = file();
        f.key.opened_at = after(opened_ms);
        for state in [
            FileState::Closing,
            FileState::Importing,
            FileState::Imported,
        ] {
            f.transition(state, after(done_ms)).unwrap();
        }
        f
    };
    let hour = 3_600_000;
    let (old, recent, newest) = (imported(0, 10), imported(1, hour), imported(2, 20));
    let mut unfinished = file();
    unfinished.key.opened_at = after(0);
    let all = [&recent, &old, &unfinished, &newest];
    let gone = expired(&all, &config, after(10 + hour));
    assert_eq!(gone, [&old]);
}
