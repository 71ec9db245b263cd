//! NDJSON batches of 1,000 records compared with the codecs alone: the same records split, parsed,
//! mapped to rows and compressed on the same cores, without network, log, staging or table.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::anyhow;
use bytes::Bytes;
use forebay_model::{ByteSize, BlockCompression, Timestamp};
use forebay_record::body::{self, BodyMode};
use forebay_record::{CompiledMapping, BlockEncoder, RequestHeaders, RowLimits, RecordContext, RequestInfo};

use crate::Common;
use crate::forebay::Forebay;
use crate::http::{Case, Measured, body, columns, print_header};
use crate::load;

const RECORDS: usize = 1_000;
const CONNECTIONS: usize = 8;
/// Bytes of rows per compressed block: the default of a sink.
const BLOCK: usize = 256 << 10;

pub async fn run(common: &Common) -> anyhow::Result<()> {
    let batch: Vec<u8> = (0..RECORDS)
        .flat_map(|n| [body(n), b"\n".to_vec()].concat())
        .collect();
    println!(
        "{RECORDS} records of {} bytes a request, columns uuid, datetime and 10 paths",
        batch.len() / RECORDS
    );
    print_header();
    let path = |n: usize| serde_json::json!({"type": "path", "name": format!("p{n}"), "path": format!("field{n}.value")});
    let columns = columns((0..10).map(path).collect());
    let limit = codecs(common, &batch)?;
    println!(
        "{:<22} {:>6} {:>10.0} {:>8} {:>8} {:>8.1}",
        "codecs alone", "", limit.rate, "", "", limit.cpu
    );
    let forebay = Forebay::start(common, 1, &[]).await?;
    let path = forebay.define(1, 0, &columns, &common.settings()?).await?;
    let case = Case {
        name: "batches",
        server: &forebay.server,
        address: forebay.source,
        requests: vec![load::request(&path, "application/x-ndjson", &batch)],
        connections: CONNECTIONS,
        records: RECORDS as u64,
    };
    case.measure(common, Some(limit)).await?;
    Ok(())
}

/// The mapping of this benchmark in the form of the record crate.
fn mapping() -> forebay_model::Mapping {
    use forebay_model::{MappingColumn, ColumnKind, Mapping, PathColumn};
    let column = |name: &str, kind| MappingColumn::new(name, kind);
    let path = |n: usize| {
        let path = PathColumn {
            path: format!("field{n}.value"),
            default_value: None,
            raw_string: false,
        };
        column(&format!("p{n}"), ColumnKind::Path(path))
    };
    let fixed = [
        column("id", ColumnKind::Uuid),
        column("at", ColumnKind::Datetime),
    ];
    Mapping {
        columns: fixed.into_iter().chain((0..10).map(path)).collect(),
    }
}

fn codecs(common: &Common, batch: &[u8]) -> anyhow::Result<Measured> {
    let threads = std::thread::available_parallelism()?.get();
    let records = AtomicU64::new(0);
    let batch = Bytes::copy_from_slice(batch);
    let limits = RowLimits {
        row_size: ByteSize::mb(1),
    };
    let mapping = CompiledMapping::compile(&mapping(), &limits);
    let mapping = mapping.map_err(|e| anyhow!("{e:?}"))?;
    let begun = Instant::now();
    let cpu = crate::process::own_cpu_seconds();
    std::thread::scope(|scope| {
        let work = || -> anyhow::Result<()> {
            let mut encoder = BlockEncoder::new(BlockCompression::Gzip { level: 1 })?;
            let mut rows = Vec::new();
            while begun.elapsed() < common.duration() {
                one(&batch, &mapping, &mut encoder, &mut rows)?;
                records.fetch_add(RECORDS as u64, Ordering::Relaxed);
            }
            Ok(())
        };
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        all.into_iter()
            .try_for_each(|t| t.join().map_err(|_| anyhow!("a codec panicked"))?)
    })?;
    let count = records.into_inner() as f64;
    Ok(Measured {
        rate: count / begun.elapsed().as_secs_f64(),
        cpu: (crate::process::own_cpu_seconds() - cpu) * 1e6 / count,
        p50: 0.0,
        p99: 0.0,
        peak_mb: 0.0,
    })
}

fn one(
    batch: &Bytes,
    mapping: &CompiledMapping,
    encoder: &mut BlockEncoder,
    rows: &mut Vec<u8>,
) -> anyhow::Result<()> {
    let info = Arc::new(RequestInfo {
        received: Timestamp::from_millis(1_700_000_000_000),
        client_ip: IpAddr::from([127, 0, 0, 1]),
        headers: RequestHeaders::default(),
    });
    let parts = body::split(batch, BodyMode::Ndjson, RECORDS).map_err(|e| anyhow!("{e}"))?;
    let templates: [Result<Vec<u8>, forebay_record::TemplateError>; 0] = [];
    for part in parts.iter() {
        let record = RecordContext::from_batch_part(Arc::clone(&info), part);
        mapping
            .render(&record, &templates, &mut || 7, rows)
            .map_err(|e| anyhow!("{e}"))?;
        if rows.len() >= BLOCK {
            std::hint::black_box(encoder.encode(rows)?);
            rows.clear();
        }
    }
    Ok(())
}
