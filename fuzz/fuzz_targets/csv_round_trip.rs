//! Any bytes are rows or an error; rows that were written come back.
#![no_main]

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

fuzz_target!(|data: &[u8]| {
    // What is read is what would be written.
    if let Some(rows) = read(data) {
        let mut text = Vec::new();
        for row in &rows {
            csv::write_row(row.iter().map(Vec::as_slice), &mut text);
        }
        assert_eq!(text, data);
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
});
