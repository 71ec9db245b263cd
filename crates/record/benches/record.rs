//! `cargo bench -p forebay-record`: CPU time per record of each step of a request.
//!
//! Measures the CPU time of the thread, so that other work on the machine does not count. Linux
//! only.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a bench"
)]

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use forebay_model::{
    BlockCompression, ColumnKind, DataType, Mapping, MappingColumn, PathColumn, Timestamp,
};
use forebay_record::body::split;
use forebay_record::jsonnet::with_engine;
use forebay_record::{
    BlockEncoder, BodyMode, CompiledMapping, CsvReader, CsvRecord, RecordContext, RequestHeaders,
    RequestInfo, RowLimits, TemplateError, TemplateProgram, block,
};

/// Has the resolution of the kernel's tick, so a measurement needs many rounds.
fn cpu_ns() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let mut numbers = stat.split(' ').filter_map(|n| n.parse().ok());
    numbers.next().unwrap_or(0)
}

fn bench(name: &str, unit: u32, mut work: impl FnMut()) {
    work();
    let mut best = f64::INFINITY;
    for _ in 0..3 {
        let (start, rounds) = (cpu_ns(), 200_000 / unit.max(1));
        for _ in 0..rounds.max(3) {
            work();
        }
        let each = (cpu_ns() - start) as f64 / f64::from(rounds.max(3)) / f64::from(unit);
        best = best.min(each / 1000.0);
    }
    println!("{name:44} {best:8.3} us a record");
}

fn body(i: usize) -> String {
    format!(
        r#"{{"id":{i},"ts":"2026-11-21T02:00:00Z","user":{{"name":"user {i}","email":"u{i}@example.com","tags":["a","b","c"]}},"event":"page_view","props":{{"url":"https://example.com/product/{i}","ref":null,"price":{}.25,"qty":{},"nested":{{"a":[1,2,3,4,5],"b":"some longer text with \"quotes\" and unicode \u00e9"}}}},"text":"{}"}}"#,
        i * 7,
        i % 9,
        "lorem ipsum dolor sit amet ".repeat(24)
    )
}

fn request() -> Arc<RequestInfo> {
    let mut headers = http::HeaderMap::new();
    for (name, value) in [
        ("host", "localhost:7000"),
        ("content-type", "application/json"),
        ("user-agent", "bench/1.0 (x86_64)"),
        ("content-length", "1024"),
        ("accept", "*/*"),
    ] {
        headers.insert(
            http::HeaderName::from_static(name),
            http::HeaderValue::from_static(value),
        );
    }
    Arc::new(RequestInfo {
        received: Timestamp::from_millis(1_795_285_029_043),
        client_ip: [127, 0, 0, 1].into(),
        headers: RequestHeaders::from(headers),
    })
}

fn path(path: &str) -> ColumnKind {
    ColumnKind::Path(PathColumn {
        path: path.to_owned(),
        default_value: Some("none".to_owned()),
        raw_string: true,
    })
}

fn compiled(kinds: Vec<ColumnKind>) -> CompiledMapping {
    let columns = kinds.into_iter().enumerate();
    let columns = columns.map(|(i, kind)| MappingColumn::new(format!("c{i}"), kind));
    let mapping = Mapping {
        columns: columns.collect(),
    };
    CompiledMapping::compile(&mapping, &RowLimits::default()).unwrap()
}

const NONE: &[Result<Vec<u8>, TemplateError>] = &[];

fn rows(bodies: &[Bytes]) {
    let basic = vec![ColumnKind::Uuid, ColumnKind::Datetime, ColumnKind::Ip];
    let with = |more: Vec<ColumnKind>| compiled([basic.clone(), more].concat());
    let paths = [
        "id",
        "user.name",
        "user.email",
        "event",
        "props.url",
        "props.price",
        "props.nested.a[2]",
        "props.nested.b",
        "missing.here",
        "text",
    ];
    let cases = [
        ("row: uuid, datetime, ip", with(vec![])),
        ("row: the same and the body", with(vec![ColumnKind::Body])),
        (
            "row: the same, body and headers",
            with(vec![ColumnKind::Body, ColumnKind::Headers]),
        ),
        (
            "row: the same and 5 paths",
            with(paths[..5].iter().map(|p| path(p)).collect()),
        ),
        (
            "row: the same and 10 paths",
            with(paths.iter().map(|p| path(p)).collect()),
        ),
    ];
    for (name, mapping) in cases {
        let mut out = Vec::with_capacity(1 << 20);
        let mut i = 0;
        bench(name, 1, || {
            i = (i + 1) % bodies.len();
            out.clear();
            let record = RecordContext::new(request(), bodies[i].clone());
            let mut random = || 0x1234_5678_u128 << (i % 64);
            mapping
                .render(&record, NONE, &mut random, &mut out)
                .unwrap();
            black_box(&out);
        });
    }
    bench("of which: request, headers, context", 1, || {
        black_box(RecordContext::new(request(), bodies[0].clone()));
    });
}

/// Rows of ten cells, as text and of a type.
fn types() {
    for (data_type, value) in [
        (DataType::Integer, "-1234567"),
        (DataType::Double, "1234.5678"),
        (DataType::Double, "0.1234567890123456"),
        (DataType::Boolean, "true"),
        (DataType::Timestamp, "\"2026-11-21T02:00:00.123456+01:00\""),
        (DataType::Timestamp, "1795285029043"),
        (DataType::Json, "{\"a\":[1,2,3]}"),
    ] {
        let fields: Vec<String> = (0..10).map(|i| format!("\"n{i}\":{value}")).collect();
        let body = Bytes::from(format!("{{{}}}", fields.join(",")));
        for data_type in [DataType::Text, data_type] {
            let column = |i| MappingColumn {
                data_type,
                ..MappingColumn::new(format!("c{i}"), path(&format!("n{i}")))
            };
            let mut mapping = Mapping {
                columns: (0..10).map(column).collect(),
            };
            for column in &mut mapping.columns {
                if let ColumnKind::Path(path) = &mut column.kind {
                    path.default_value = None;
                }
            }
            let mapping = CompiledMapping::compile(&mapping, &RowLimits::default()).unwrap();
            let mut out = Vec::with_capacity(1 << 10);
            bench(&format!("10 cells {value} as {data_type}"), 1, || {
                out.clear();
                let record = RecordContext::new(request(), body.clone());
                mapping.render(&record, NONE, &mut || 0, &mut out).unwrap();
                black_box(&out);
            });
        }
    }
}

fn batches(bodies: &[Bytes]) {
    let count = 200u32;
    let batch: Vec<_> = bodies.iter().map(|b| b.to_vec()).collect();
    let lines = Bytes::from(batch.join(&b'\n'));
    let array = Bytes::from([b"[", &batch.join(&b',')[..], b"]"].concat());
    bench("split: NDJSON of 1 KB records", count, || {
        black_box(split(&lines, BodyMode::Ndjson, 1000).unwrap());
    });
    bench("split: JSON array of 1 KB records", count, || {
        black_box(split(&array, BodyMode::JsonArray, 1000).unwrap());
    });
    let mapping = compiled(vec![
        ColumnKind::Uuid,
        path("id"),
        path("event"),
        path("user.name"),
    ]);
    let (request, mut out) = (request(), Vec::new());
    bench("NDJSON: split, uuid and 3 paths", count, || {
        out.clear();
        for part in split(&lines, BodyMode::Ndjson, 1000).unwrap().iter() {
            let record = RecordContext::from_batch_part(Arc::clone(&request), part);
            mapping.render(&record, NONE, &mut || 5, &mut out).unwrap();
        }
        black_box(&out);
    });
}

fn blocks(bodies: &[Bytes]) {
    let mapping = compiled(vec![
        ColumnKind::Uuid,
        ColumnKind::Datetime,
        ColumnKind::Body,
    ]);
    let request = request();
    let mut rows = Vec::new();
    for body in bodies {
        let record = RecordContext::new(Arc::clone(&request), body.clone());
        mapping.render(&record, NONE, &mut || 5, &mut rows).unwrap();
    }
    let count = u32::try_from(bodies.len()).unwrap();
    for codec in [
        BlockCompression::None,
        BlockCompression::Gzip { level: 1 },
        BlockCompression::Gzip { level: 3 },
        BlockCompression::Zstd { level: 1 },
    ] {
        let mut encoder = BlockEncoder::new(codec).unwrap();
        let mut payload = Vec::new();
        bench(
            &format!("seal a block of {count}: {codec:?}"),
            count,
            || payload = encoder.encode(&rows).unwrap(),
        );
        bench("  and read it back, with its cells", count, || {
            let text = block::decode(&payload, codec, rows.len()).unwrap();
            let mut reader = CsvReader::new(&text[..]);
            let mut record = CsvRecord::default();
            while reader.read(&mut record).unwrap() {
                black_box(&record);
            }
        });
    }
}

fn templates(bodies: &[Bytes]) {
    for source in [
        "Ip()",
        "Body('user.name') + '-' + Body('id')",
        "{id: Body('id'), name: std.asciiUpper(Body('user.name')), big: if Body('props.price', 0) > 10 then 'y' else 'n'}",
    ] {
        with_engine(|engine| {
            let template = TemplateProgram::new(source, true);
            let program = engine.compile(template.source(), true).unwrap();
            let (request, mut i) = (request(), 0);
            bench(&format!("template {source:.34}"), 1, || {
                i = (i + 1) % bodies.len();
                let record = RecordContext::new(Arc::clone(&request), bodies[i].clone());
                black_box(engine.evaluate(&program, &record).unwrap());
            });
        });
    }
}

fn main() {
    let bodies: Vec<Bytes> = (0..200).map(|i| Bytes::from(body(i))).collect();
    println!("bodies of {} bytes", bodies[100].len());
    rows(&bodies);
    types();
    batches(&bodies);
    blocks(&bodies);
    templates(&bodies);
}
