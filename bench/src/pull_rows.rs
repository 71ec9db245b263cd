//! Rows of the job benchmark as files of JSON lines, and a bare parser of them.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Deserialize;
use serde_json::{Value, json};

/// 2026-01-01T00:00:00Z.
const BEGIN_SECONDS: i64 = 1_767_225_600;

/// A row in the form of drivers: converted before the measurement.
pub struct Product {
    pub id: i64,
    pub name: String,
    pub price: f64,
    pub in_stock: bool,
    pub added_millis: i64,
    pub added: String,
    pub description: String,
}

impl Product {
    /// Row number `n` with the key `id`.
    pub fn new(n: i64, id: i64) -> Self {
        let seconds = n.rem_euclid(28 * 86_400);
        let (day, second) = (1 + seconds / 86_400, seconds % 86_400);
        let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
        Self {
            id,
            name: format!("product {n}"),
            price: (n % 100_000) as f64 / 100.0,
            in_stock: n % 3 != 0,
            added_millis: (BEGIN_SECONDS + seconds) * 1000,
            added: format!("2026-01-{day:02}T{h:02}:{m:02}:{s:02}.000Z"),
            description: format!(
                "Row {n} of a file that was made for measuring; {:x} is what makes its text differ from others.",
                (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ),
        }
    }

    fn line(&self) -> String {
        let Self {
            id,
            name,
            price,
            in_stock,
            added,
            description,
            ..
        } = self;
        format!(
            "{{\"id\":{id},\"name\":\"{name}\",\"price\":{price},\"inStock\":{in_stock},\"added\":\"{added}\",\"description\":\"{description}\"}}\n"
        )
    }
}

/// The columns of the job's table.
pub fn columns() -> Value {
    json!([
        {"name": "id", "type": "integer", "key": true},
        {"name": "name"},
        {"name": "price", "type": "double"},
        {"name": "in_stock", "type": "boolean", "path": "inStock"},
        {"name": "added", "type": "timestamp"},
        {"name": "description"},
    ])
}

/// Writes that many rows to files of about the same size.
pub fn write_files(directory: &Path, rows: i64, files: i64) -> anyhow::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(directory)?;
    let mut paths = Vec::new();
    for file in 0..files {
        let path = directory.join(format!("products-{file}.jsonl"));
        let mut out = BufWriter::with_capacity(1 << 20, File::create(&path)?);
        for n in rows * file / files..rows * (file + 1) / files {
            out.write_all(Product::new(n, n).line().as_bytes())?;
        }
        out.flush()?;
        paths.push(path);
    }
    Ok(paths)
}

/// Writes one file of about that size whose keys repeat: the table stays small. Returns its rows.
pub fn write_large(path: &Path, bytes: u64, keys: i64) -> anyhow::Result<i64> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let (mut written, mut n) = (0, 0);
    while written < bytes {
        let line = Product::new(n, n % keys).line();
        out.write_all(line.as_bytes())?;
        written += line.len() as u64;
        n += 1;
    }
    out.flush()?;
    Ok(n)
}

/// The fields of a row.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parsed<'a> {
    id: i64,
    #[serde(borrow)]
    name: &'a str,
    price: f64,
    in_stock: bool,
    #[serde(borrow)]
    added: &'a str,
    #[serde(borrow)]
    description: &'a str,
}

/// Rows per second of `serde_json` over the files, one thread per core.
pub fn parse(files: &[PathBuf]) -> anyhow::Result<f64> {
    let threads = std::thread::available_parallelism()?.get();
    let begin = Instant::now();
    let rows = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|t| {
                scope.spawn(move || {
                    files
                        .iter()
                        .skip(t)
                        .step_by(threads)
                        .map(|f| parse_file(f))
                        .sum::<anyhow::Result<usize>>()
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|w| w.join().expect("the parser does not panic"))
            .sum::<anyhow::Result<usize>>()
    })?;
    Ok(rows as f64 / begin.elapsed().as_secs_f64())
}

fn parse_file(path: &Path) -> anyhow::Result<usize> {
    let mut reader = BufReader::with_capacity(1 << 18, File::open(path)?);
    let (mut line, mut rows) = (Vec::new(), 0);
    while reader.read_until(b'\n', &mut line)? > 0 {
        let row: Parsed<'_> = serde_json::from_slice(&line)?;
        // Prevents the optimizer from removing the parsing.
        std::hint::black_box((
            row.id,
            row.name,
            row.price,
            row.in_stock,
            row.added,
            row.description,
        ));
        line.clear();
        rows += 1;
    }
    Ok(rows)
}
