//! Any bytes are rows or an error; written rows are read back unchanged, by our reader and by the `csv`
//! library.
#![no_main]

use ::csv as csv_library;
use forebay_record::{CsvReader, CsvRecord, csv};
use libfuzzer_sys::fuzz_target;

fn read(text: &[u8]) -> Option<Vec<Vec<Vec<u8>>>> {
    let mut reader = CsvReader::new(text);
    let (mut rows, mut record) = (Vec::new(), CsvRecord::default());
    while reader.read(&mut record).ok()? {
        rows.push(record.iter().map(<[u8]>::to_vec).collect());
    }
    assert_eq!(reader.offset(), text.len() as u64);
    Some(rows)
}

/// Rows as the `csv` library reads them.
fn read_by_others(text: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let mut reader = csv_library::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(text);
    let rows = reader.byte_records().map(|row| row.expect("CSV"));
    rows.map(|row| row.iter().map(<[u8]>::to_vec).collect())
        .collect()
}

fuzz_target!(|data: &[u8]| {
    // Rows that were read are written and read again.
    if let Some(rows) = read(data) {
        let mut text = Vec::new();
        for row in &rows {
            csv::write_row(row.iter().map(Vec::as_slice), &mut text);
        }
        assert_eq!(text, data);
        assert_eq!(read_by_others(data), rows);
    }
    let rows: Vec<Vec<&[u8]>> = data
        .split(|b| *b == 1)
        .map(|row| row.split(|b| *b == 2).collect())
        .collect();
    let mut text = Vec::new();
    for row in &rows {
        csv::write_row(row.iter().copied(), &mut text);
    }
    assert_eq!(read(&text).expect("what was written"), rows);
    assert_eq!(read_by_others(&text), rows);
});
