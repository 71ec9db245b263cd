//! Batches, gzip bodies, blocks and the CSV reader, against each other and against common crates.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod common;

use std::io::Read;

use bytes::Bytes;
use common::*;
use forebay_model::{BlockCompression, ColumnKind};
use forebay_record::body::{inflate, split};
use forebay_record::line;
use forebay_record::{
    BlockDecoder, BlockEncoder, BodyMode, CsvError, CsvReader, CsvRecord, InflateError,
    RecordContext, SplitError, block, csv,
};
use proptest::prelude::*;

const CODECS: [BlockCompression; 5] = [
    BlockCompression::None,
    BlockCompression::Gzip { level: 1 },
    BlockCompression::Gzip { level: 9 },
    BlockCompression::Zstd { level: 1 },
    BlockCompression::Zstd { level: 9 },
];

fn bodies(body: &str, mode: BodyMode) -> Vec<String> {
    let parts = split(&Bytes::copy_from_slice(body.as_bytes()), mode, 1000).unwrap();
    let text = |p: forebay_record::BodyPart| String::from_utf8(p.body.to_vec()).unwrap();
    parts.iter().map(text).collect()
}

#[test]
fn ndjson_has_one_record_per_line() {
    let body = "{\"a\":1}\n\r\n  \n[2]\r\n\n3";
    assert_eq!(bodies(body, BodyMode::Ndjson), ["{\"a\":1}", "[2]", "3"]);
    assert_eq!(bodies("", BodyMode::Ndjson), [""; 0]);
    assert_eq!(bodies("\n\n", BodyMode::Ndjson), [""; 0]);
    assert_eq!(bodies("\u{feff}1\n2", BodyMode::Ndjson), ["1", "2"]);
    assert_eq!(bodies("[1,2]", BodyMode::Single), ["[1,2]"]);
}

#[test]
fn an_invalid_line_fails_its_own_record_with_its_number() {
    let body = Bytes::from_static(b"{\"a\":1}\n\n{\"a\":}\n{\"a\":3}\n");
    let parts = split(&body, BodyMode::Ndjson, 10).unwrap();
    let request = request(&[("content-type", "application/x-ndjson")]);
    let results: Vec<_> = parts
        .iter()
        .map(|part| RecordContext::from_batch_part(request.clone(), part))
        .map(|record| cell(path("a", None, false), &record))
        .collect();
    assert_eq!(
        (&results[0], &results[2]),
        (&Ok("1".to_owned()), &Ok("3".to_owned()))
    );
    let error = results[1].as_ref().unwrap_err();
    assert_eq!(error.kind.status(), 400);
    let expected = "line 3 is not valid JSON: expected a value at character 6 (byte 5 of the line)";
    assert_eq!(error.message, expected);
}

#[test]
fn arrays_are_split_only_when_asked() {
    let body = " [ {\"a\": [1, 2]} , \"x,]\" ,null, [ ] ] ";
    assert_eq!(
        bodies(body, BodyMode::JsonArray),
        ["{\"a\": [1, 2]}", "\"x,]\"", "null", "[ ]"]
    );
    assert_eq!(bodies("[]", BodyMode::JsonArray), [""; 0]);
    for (body, expected) in [
        (
            "{}",
            "the batch is not valid JSON: a batch must be an array of records at line 1, column 1 (byte 0)",
        ),
        (
            "[1,",
            "the batch is not valid JSON: unexpected end of the body at line 1, column 4 (byte 3)",
        ),
        ("", "the batch is not valid JSON: the body is empty"),
    ] {
        let error =
            split(&Bytes::from_static(body.as_bytes()), BodyMode::JsonArray, 9).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn text_after_the_last_accepted_record_is_not_scanned() {
    let body = Bytes::from_static(b"[1,2,3,broken");
    let error = split(&body, BodyMode::JsonArray, 2).unwrap_err();
    assert_eq!(error, SplitError::TooMany(2));
}

#[test]
fn batches_are_bounded() {
    for (body, mode) in [
        ("1\n2\n3\n", BodyMode::Ndjson),
        ("[1,2,3]", BodyMode::JsonArray),
    ] {
        let body = Bytes::from_static(body.as_bytes());
        assert_eq!(split(&body, mode, 3).unwrap().len(), 3);
        assert_eq!(split(&body, mode, 2).unwrap_err(), SplitError::TooMany(2));
    }
}

fn gzip(data: &[u8]) -> Vec<u8> {
    BlockEncoder::new(BlockCompression::Gzip { level: 6 })
        .unwrap()
        .encode(data)
        .unwrap()
}

#[test]
fn gzip_bodies_are_inflated_within_the_limit() {
    let data = b"some body".repeat(100);
    let packed = gzip(&data);
    assert_eq!(inflate(&packed, data.len()).unwrap(), data);
    assert_eq!(
        inflate(&packed, data.len() - 1).unwrap_err(),
        InflateError::TooLarge(899)
    );
    let double = [packed.clone(), packed.clone()].concat();
    assert_eq!(inflate(&double, 10_000).unwrap(), data.repeat(2));
    assert_eq!(inflate(&gzip(b""), 0).unwrap(), Bytes::new());
    for broken in [
        &b"no gzip at all"[..],
        b"",
        &packed[..packed.len() - 1],
        &[&packed[..], b"garbage"].concat(),
        &[&packed[..], b"\0x"].concat(),
        &[&packed[..packed.len() - 6], b"xxxxxx"].concat(),
    ] {
        assert!(
            matches!(inflate(broken, 10_000), Err(InflateError::Broken { .. })),
            "{broken:?}"
        );
    }
}

#[test]
fn a_gzip_bomb_takes_no_more_memory_than_the_limit() {
    // 1 GiB of zeroes in about a megabyte, made of repeated members.
    let bomb = gzip(&vec![0; 16 << 20]).repeat(64);
    assert_eq!(
        inflate(&bomb, 1 << 20).unwrap_err(),
        InflateError::TooLarge(1 << 20)
    );
}

#[test]
fn blocks_are_complete_and_concatenate_to_one_stream() {
    for codec in CODECS {
        let mut encoder = BlockEncoder::new(codec).unwrap();
        let (mut joined, mut all) = (Vec::new(), Vec::new());
        for round in 0..4u8 {
            let mut rows = Vec::new();
            for i in 0..50u8 {
                csv::write_row([&[round, i][..], b"text \"quoted\""], &mut rows);
            }
            let payload = encoder.encode(&rows).unwrap();
            assert_eq!(block::decode(&payload, codec, rows.len()).unwrap(), rows);
            assert!(block::decode(&payload, codec, rows.len() - 1).is_err());
            assert!(block::decode(&payload, codec, rows.len() + 1).is_err());
            all.extend(rows);
            joined.extend(payload);
        }
        let mut back = Vec::new();
        let mut decoder = BlockDecoder::new(&joined[..], codec, all.len() as u64).unwrap();
        decoder.read_to_end(&mut back).unwrap();
        assert_eq!(back, all, "{codec:?}");
        let mut tight = BlockDecoder::new(&joined[..], codec, all.len() as u64 - 1).unwrap();
        assert!(tight.read_to_end(&mut Vec::new()).is_err());
        if codec != BlockCompression::None {
            let cut = &joined[..joined.len() - 3];
            assert!(
                BlockDecoder::new(cut, codec, u64::MAX)
                    .unwrap()
                    .read_to_end(&mut Vec::new())
                    .is_err()
            );
            let garbage = [&joined[..], b"garbage"].concat();
            let mut decoder = BlockDecoder::new(&garbage[..], codec, u64::MAX).unwrap();
            assert!(decoder.read_to_end(&mut Vec::new()).is_err());
        }
    }
}

/// Returns one byte more in each read, then starts over.
struct Chunked<'a>(&'a [u8], usize);

impl Read for Chunked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.1 = self.1 % 7 + 1;
        let n = self.1.min(self.0.len()).min(buffer.len());
        buffer[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        Ok(n)
    }
}

fn read_all(text: &[u8]) -> Result<Vec<Vec<Vec<u8>>>, CsvError> {
    let mut reader = CsvReader::new(Chunked(text, 0));
    let (mut rows, mut record) = (Vec::new(), CsvRecord::default());
    while reader.read(&mut record)? {
        assert_eq!(record.len(), record.iter().count());
        rows.push(record.iter().map(<[u8]>::to_vec).collect());
    }
    Ok(rows)
}

#[test]
fn the_reader_accepts_only_this_format() {
    assert_eq!(read_all(b"").unwrap(), [[[0u8; 0]; 0]; 0]);
    assert_eq!(read_all(b"\"\"\n").unwrap(), [[b""]]);
    for (text, expected) in [
        (
            &b"a\n"[..],
            "a value that is not in double quotes at byte 0",
        ),
        (b"\n", "a value that is not in double quotes at byte 0"),
        (
            b"\"a\",b\n",
            "a value that is not in double quotes at byte 4",
        ),
        (
            b"\"a\",\n",
            "a value that is not in double quotes at byte 4",
        ),
        (b"\"a\"", "the end of the file within a row at byte 3"),
        (b"\"a\",", "the end of the file within a row at byte 4"),
        (b"\"a", "the end of the file within a value at byte 2"),
        (
            b"\"a\"\r\n",
            "neither ',' nor a line end after a value at byte 3",
        ),
        (
            b"\"a\"\n\"b\"x",
            "neither ',' nor a line end after a value at byte 7",
        ),
    ] {
        let error = read_all(text).unwrap_err().to_string();
        assert_eq!(error, format!("not CSV as Forebay writes it: {expected}"));
    }
    let mut reader = CsvReader::with_row_max(&b"\"ab\"\n\"abc\",\"d\"\n"[..], 3);
    let mut record = CsvRecord::default();
    assert!(reader.read(&mut record).unwrap());
    let error = reader.read(&mut record).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the row at byte 5 is larger than 3 bytes"
    );
}

fn cells() -> impl Strategy<Value = Vec<Vec<Vec<u8>>>> {
    let byte = prop_oneof![
        Just(b'"'),
        Just(b','),
        Just(b'\n'),
        Just(b'\r'),
        any::<u8>()
    ];
    let cell = proptest::collection::vec(byte, 0..20);
    proptest::collection::vec(proptest::collection::vec(cell, 1..5), 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn csv_round_trips_through_our_reader_and_the_csv_crate(rows in cells()) {
        let mut text = Vec::new();
        for row in &rows {
            csv::write_row(row.iter().map(Vec::as_slice), &mut text);
        }
        prop_assert_eq!(&read_all(&text).unwrap(), &rows);
        let mut reader = ::csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .terminator(::csv::Terminator::Any(b'\n'))
            .from_reader(&text[..]);
        let back: Vec<Vec<Vec<u8>>> = reader
            .byte_records()
            .map(|r| r.unwrap().iter().map(<[u8]>::to_vec).collect())
            .collect();
        prop_assert_eq!(&back, &rows);
    }

    #[test]
    fn a_rendered_body_round_trips(body: Vec<u8>) {
        let mapping = compiled([ColumnKind::Body, ColumnKind::Ip]);
        let mut row = Vec::new();
        mapping.render(&record("", body.clone()), NO_TEMPLATES, &mut || 0, &mut row).unwrap();
        prop_assert_eq!(read_all(&row).unwrap(), vec![vec![body, b"1.2.3.4".to_vec()]]);
    }

    #[test]
    fn blocks_round_trip(data in proptest::collection::vec(any::<u8>(), 0..3000), codec in 0..CODECS.len()) {
        let codec = CODECS[codec];
        let packed = BlockEncoder::new(codec).unwrap().encode(&data).unwrap();
        prop_assert_eq!(block::decode(&packed, codec, data.len()).unwrap(), data);
    }

    #[test]
    fn garbage_is_never_decoded_past_the_limit(data: Vec<u8>, codec in 0..CODECS.len()) {
        let mut out = Vec::new();
        let decoder = BlockDecoder::new(&data[..], CODECS[codec], 50);
        if decoder.and_then(|mut d| d.read_to_end(&mut out)).is_ok() {
            prop_assert!(out.len() <= 50);
        }
        if let Ok(body) = inflate(&data, 50) {
            prop_assert!(body.len() <= 50);
        }
    }

    #[test]
    fn elements_are_those_of_the_whole_document(value in "[\\[\\]{}1,\" :a]{0,24}") {
        let body = Bytes::from(format!("[{value}]"));
        let whole = forebay_record::json::JsonDocument::parse(body.clone());
        let parts = split(&body, BodyMode::JsonArray, 100);
        prop_assert_eq!(whole.is_ok(), parts.is_ok());
        if let (Ok(whole), Ok(parts)) = (whole, parts) {
            let expected: Vec<_> = whole.members(whole.root()).map(|m| whole.slice(m)).collect();
            let found: Vec<_> = parts.iter().map(|p| p.body).collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn lines_cover_the_batch(lines in proptest::collection::vec("[ -~\r]{0,12}", 0..10)) {
        let body = lines.join("\n");
        let parts = split(&Bytes::from(body), BodyMode::Ndjson, 100).unwrap();
        let expected: Vec<_> = lines
            .iter()
            .enumerate()
            .map(|(i, l)| (Some(i + 1), l.strip_suffix('\r').unwrap_or(l)))
            .filter(|(_, l)| !l.trim_matches([' ', '\t', '\r']).is_empty())
            .flat_map(|(i, l)| match line::values(l.as_bytes()) {
                Ok(values) if values.len() > 1 => {
                    let values = values.into_iter();
                    values.map(|v| (i, l.get(v).unwrap())).collect()
                }
                _ => vec![(i, l)],
            })
            .collect();
        let parts: Vec<_> = parts.iter().collect();
        let found: Vec<_> = parts
            .iter()
            .map(|p| (p.line, std::str::from_utf8(&p.body).unwrap()))
            .collect();
        prop_assert_eq!(&found, &expected);
        // However the lines are split, no text is lost.
        let solid = |texts: &mut dyn Iterator<Item = &str>| -> String {
            texts.flat_map(str::chars).filter(|c| !" \r".contains(*c)).collect()
        };
        let kept = solid(&mut found.iter().map(|(_, text)| *text));
        prop_assert_eq!(kept, solid(&mut lines.iter().map(String::as_str)));
    }
}
