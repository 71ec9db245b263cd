//! A batch request as in the source: mode by content type, decoded, split into records, each of them
//! parsed and mapped to a row, which an independent CSV reader reads back.
//!
//! The first byte of the input selects the headers; the rest is the body.
#![no_main]

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use forebay_model::{MappingColumn, ColumnKind, Mapping, PathColumn, Timestamp};
use forebay_record::body::split;
use forebay_record::charset::Charset;
use forebay_record::coding::ContentCodings;
use forebay_record::headers::RequestHeaders;
use forebay_record::{
    BodyEncoding, BodyFormat, BodyMode, CompiledMapping, ContentType, RowLimits, RecordContext,
    RequestInfo, TemplateError,
};
use libfuzzer_sys::fuzz_target;

const RECORDS_MAX: usize = 100;
const TYPES: [&str; 8] = [
    "application/x-ndjson",
    "application/json",
    "application/x-www-form-urlencoded; charset=utf-8",
    "text/plain",
    "application/json-seq",
    "application/x-www-form-urlencoded; charset=shift_jis",
    "application/json; charset=utf-16",
    "text/x-ndjson; charset=windows-1252",
];
const CODINGS: [&str; 4] = ["identity", "gzip", "deflate", "zstd, gzip"];
/// Maximum bytes of a decoded body.
const LIMIT: usize = 1 << 16;

static MAPPING: LazyLock<CompiledMapping> = LazyLock::new(|| {
    let path = |path: &str, raw_string, default: Option<&str>| {
        ColumnKind::Path(PathColumn {
            path: path.to_owned(),
            default_value: default.map(str::to_owned),
            raw_string,
        })
    };
    let kinds = [
        ColumnKind::Body,
        path("id", false, None),
        path("a.b[0]", true, Some("none")),
        path("", false, Some("")),
    ];
    let columns = kinds.into_iter().enumerate().map(|(i, kind)| MappingColumn::new(format!("c{i}"), kind));
    let mapping = Mapping {
        columns: columns.collect(),
    };
    CompiledMapping::compile_checked(&mapping, &RowLimits::default())
});

/// The record's row: one row for any CSV reader, with the cells it was made of.
fn check_row(record: &RecordContext) {
    let none: &[Result<Vec<u8>, TemplateError>] = &[];
    let mut text = b"before\n".to_vec();
    let rendered = MAPPING.render(record, none, &mut || 0, &mut text);
    let Some(row) = text.strip_prefix(b"before\n") else {
        panic!("the previous content has changed");
    };
    let Ok(()) = rendered else {
        assert!(row.is_empty(), "a rejected record leaves nothing");
        return;
    };
    let cells = MAPPING.render_cells(record, none, &mut || 0);
    let cells = cells.expect("a row has cells");
    assert_eq!(cells[0], record.body()[..]);
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .from_reader(row);
    let mut rows = reader.byte_records();
    let read = rows.next().expect("a row").expect("CSV");
    assert!(rows.next().is_none(), "one row per record");
    assert!(read.iter().eq(cells.iter().map(Vec::as_slice)));
}

fuzz_target!(|data: &[u8]| {
    let Some((flags, sent)) = data.split_first() else {
        return;
    };
    let said = ContentType::from_header(Some(TYPES[usize::from(flags & 7)].as_bytes()));
    let said = said.expect("a known charset");
    let mode = match said.batch {
        Some(mode) => mode,
        None if flags & 8 != 0 => BodyMode::JsonArray,
        None => BodyMode::Single,
    };
    let mut codings = ContentCodings::default();
    let list = CODINGS[usize::from(flags >> 4 & 3)];
    codings.add(list).expect("known codings");
    let encoding = BodyEncoding {
        codings,
        charset: said.charset,
        is_form: said.format == BodyFormat::Form && mode == BodyMode::Single,
    };
    let sent = Bytes::copy_from_slice(sent);
    let body = match encoding.decode(&sent, LIMIT) {
        Ok(body) => body,
        Err(_) => return,
    };
    assert!(body.len() <= LIMIT || encoding.is_plain(&sent));
    let is_other = said.charset != Charset::Utf8 && said.charset != Charset::Bytes;
    assert!(!is_other || std::str::from_utf8(&body).is_ok(), "it is UTF-8");
    let format = said.format;
    let info = Arc::new(RequestInfo {
        received: Timestamp::from_millis(0),
        client_ip: [127, 0, 0, 1].into(),
        headers: RequestHeaders::default(),
    });
    if mode == BodyMode::Single {
        return check_row(&RecordContext::with_format(info, body, format));
    }
    let Ok(parts) = split(&body, mode, RECORDS_MAX) else {
        return;
    };
    assert!(parts.len() <= RECORDS_MAX);
    let inside = body.as_ptr_range();
    for part in parts.iter() {
        let range = part.body.as_ptr_range();
        assert!(part.body.is_empty() || (inside.start <= range.start && range.end <= inside.end));
        let record = RecordContext::from_batch_part(Arc::clone(&info), part);
        // An array was parsed to find its elements.
        assert!(mode != BodyMode::JsonArray || record.document().is_ok());
        if record.document().is_ok() {
            check_row(&record);
        }
    }
});
