//! Typed columns: every value of the table below is stored and read back unchanged.

use forebay_model::{
    CellConversion, CellText, ColumnKind, DataType, JsonScalar, Mapping, PathColumn,
    TimestampMicros, TypedValue,
};

use super::bench::{
    Bench, assert_terminal, cells, import, import_summary, load, mapping, rows, some,
};
use crate::keyed::CellValue;

pub(super) async fn run(bench: &dyn Bench) {
    values_are_stored_unchanged(bench).await;
    any_value_is_restored(bench).await;
    typed_keys_identify_rows(bench).await;
    typed_columns_are_added(bench).await;
    existing_columns_fit_or_are_rejected(bench).await;
    null_needs_a_nullable_column(bench).await;
    types_never_change(bench).await;
    damaged_cells_are_rejected(bench).await;
}

/// A mapping of one key and columns `c0`, `c1`, … of these types.
fn typed(types: &[DataType]) -> Mapping {
    let names: Vec<String> = (0..types.len()).map(|i| format!("c{i}")).collect();
    let names = std::iter::once("id*").chain(names.iter().map(String::as_str));
    let mut mapping = mapping(&names.collect::<Vec<_>>());
    for (column, data_type) in mapping.columns.iter_mut().skip(1).zip(types) {
        column.data_type = *data_type;
        column.kind = ColumnKind::Path(PathColumn::default());
    }
    mapping
}

fn integer(n: i64) -> CellValue {
    CellValue::Integer(n)
}

fn time(text: &str) -> CellValue {
    CellValue::Timestamp(text.parse().unwrap())
}

fn json(text: &str) -> CellValue {
    CellValue::Json(text.to_owned())
}

/// Values as clients send them, by type, with what a table has.
fn values() -> Vec<(DataType, JsonScalar<'static>, CellValue)> {
    use DataType::{Boolean, Double, Integer, Timestamp};
    use JsonScalar::{Boolean as Bool, Number, Text};
    let mut values = vec![
        (Boolean, Bool(true), CellValue::Boolean(true)),
        (Boolean, Bool(false), CellValue::Boolean(false)),
        (Boolean, Text("true"), CellValue::Boolean(true)),
        (Timestamp, Number("0"), time("1970-01-01T00:00:00Z")),
    ];
    for (text, n) in [
        ("0", 0),
        ("-0", 0),
        ("7", 7),
        ("-10000", -10_000),
        ("20000000", 20_000_000),
        ("1e3", 1000),
        ("7.0", 7),
        ("9007199254740993", 9_007_199_254_740_993),
        ("9223372036854775807", i64::MAX),
        ("-9223372036854775808", i64::MIN),
    ] {
        values.push((Integer, Number(text), integer(n)));
        values.push((Integer, Text(text), integer(n)));
    }
    for (text, n) in [
        ("0", 0.0),
        ("-0", 0.0),
        ("1", 1.0),
        ("0.1", 0.1),
        ("0.30000000000000004", 0.300_000_000_000_000_04),
        ("-1.5e-7", -1.5e-7),
        ("12345678901234567890", 12_345_678_901_234_567_890.0),
        ("1.7976931348623157e308", f64::MAX),
        ("5e-324", 5e-324),
        ("2.2250738585072014e-308", f64::MIN_POSITIVE),
    ] {
        values.push((Double, Number(text), CellValue::Double(n)));
        values.push((Double, Text(text), CellValue::Double(n)));
    }
    for (text, stored) in [
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000Z"),
        (
            "2026-01-02T05:04:05.1234569+02:00",
            "2026-01-02T03:04:05.123456Z",
        ),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("1969-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.999999Z"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
    ] {
        values.push((Timestamp, Text(text), time(stored)));
    }
    values
}

/// Texts of JSON, which are stored as they are.
const JSON: [&str; 12] = [
    "{}",
    "[]",
    "\"\"",
    "\"text\"",
    "true",
    "1.50",
    "-0",
    "1e400",
    "{\"b\":1,\"a\":2,\"b\":3}",
    "\"\\u0000\\ud800\"",
    "[12345678901234567890123,{\"ěšč\":\"🦀\"}]",
    "{\"\":null}",
];

async fn values_are_stored_unchanged(bench: &dyn Bench) {
    for data_type in DataType::ALL.into_iter().filter(|t| !t.is_text()) {
        let (table, mapping) = (bench.fresh_table(), typed(&[data_type]));
        let conversion = mapping.columns[1].conversion();
        let (mut sent, mut wanted) = (Vec::new(), Vec::new());
        for (_, value, stored) in values().into_iter().filter(|(t, ..)| *t == data_type) {
            let mut scratch = CellText::default();
            let cell = conversion.convert(value, &mut scratch).unwrap();
            sent.push(cell.to_owned());
            wanted.push(stored);
        }
        if data_type == DataType::Json {
            sent.extend(JSON.map(str::to_owned));
            wanted.extend(JSON.map(json));
        }
        // Null, which is an empty cell.
        sent.push(String::new());
        wanted.push(CellValue::Null);
        let numbered = sent.iter().enumerate();
        let all: Vec<Vec<String>> = numbered
            .map(|(i, cell)| vec![format!("{i:04}"), cell.clone()])
            .collect();
        let count = u64::try_from(all.len()).unwrap();
        let loaded = load(bench, &import(&table, 1, &mapping), rows(&all)).await;
        assert_eq!(loaded, Ok(import_summary(count)), "{data_type}");
        let stored = bench.values(&table, "c0", "id", data_type).await;
        assert_eq!(stored, wanted, "{data_type}: {sent:?}");
    }
}

/// Value, cell, table and value again are the same, for values of any magnitude.
async fn any_value_is_restored(bench: &dyn Bench) {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let types = [
        DataType::Integer,
        DataType::Double,
        DataType::Boolean,
        DataType::Timestamp,
    ];
    for key in ["id", "id*"] {
        let mut mapping = typed(&types);
        mapping.columns[0].primary_key = key.ends_with('*');
        let (mut all, mut wanted) = (Vec::new(), vec![Vec::new(); types.len()]);
        for i in 0..2000 {
            let bits = next();
            let magnitude = next() % 64;
            let whole = bits.cast_signed() >> magnitude;
            let micros = whole.rem_euclid(TimestampMicros::MAX.as_micros());
            let double = Some(f64::from_bits(bits)).filter(|n| n.is_finite());
            let values = [
                TypedValue::Integer(whole),
                TypedValue::Double(double.unwrap_or_default()),
                TypedValue::Boolean(bits % 2 == 0),
                TypedValue::Timestamp(TimestampMicros::from_micros(micros).unwrap()),
            ];
            let mut row = vec![format!("{i:04}")];
            for (value, of_type) in values.into_iter().zip(&mut wanted) {
                row.push(value.to_text().as_str().to_owned());
                of_type.push(match value {
                    TypedValue::Integer(n) => CellValue::Integer(n),
                    TypedValue::Double(n) => CellValue::Double(n),
                    TypedValue::Boolean(b) => CellValue::Boolean(b),
                    TypedValue::Timestamp(t) => CellValue::Timestamp(t),
                });
            }
            all.push(row);
        }
        let table = bench.fresh_table();
        let loaded = load(bench, &import(&table, 1, &mapping), rows(&all)).await;
        assert_eq!(loaded, Ok(import_summary(2000)));
        for (i, (data_type, wanted)) in types.into_iter().zip(wanted).enumerate() {
            let stored = bench
                .values(&table, &format!("c{i}"), "id", data_type)
                .await;
            assert_eq!(stored, wanted, "{data_type}");
        }
    }
}

async fn typed_keys_identify_rows(bench: &dyn Bench) {
    let keys = |conversion: CellConversion, values: [JsonScalar<'_>; 4]| {
        values.map(|value| {
            let mut scratch = CellText::default();
            conversion.convert(value, &mut scratch).unwrap().to_owned()
        })
    };
    use JsonScalar::{Boolean, Number, Text};
    // The second one is the first in another form.
    for (data_type, values, remaining) in [
        (
            DataType::Integer,
            [Number("1"), Text("1.0"), Number("-1"), Number("10")],
            3,
        ),
        (
            DataType::Boolean,
            [Boolean(true), Text("true"), Boolean(false), Boolean(true)],
            2,
        ),
        (
            DataType::Timestamp,
            [
                Text("2026-01-01T00:00:00Z"),
                Text("2026-01-01T01:00:00.000+01:00"),
                Text("2026-01-01T00:00:00.000001Z"),
                Number("1704067200"),
            ],
            3,
        ),
    ] {
        let table = bench.fresh_table();
        let mut mapping = mapping(&["k*", "v"]);
        mapping.columns[0].data_type = data_type;
        mapping.columns[0].kind = ColumnKind::Path(PathColumn::default());
        let keys = keys(mapping.columns[0].conversion(), values);
        let numbered = keys.iter().zip(["first", "second", "third", "fourth"]);
        let all: Vec<Vec<&str>> = numbered.map(|(k, v)| vec![k.as_str(), v]).collect();
        for number in 1..=2 {
            let loaded = load(bench, &import(&table, number, &mapping), rows(&all)).await;
            assert_eq!(loaded, Ok(import_summary(4)), "{data_type}");
        }
        let stored = cells(bench, &table, "v", "v").await;
        assert_eq!(stored.len(), remaining, "{data_type}: {stored:?}");
        assert!(!stored.contains(&Some("first".to_owned())), "{data_type}");
    }
}

async fn typed_columns_are_added(bench: &dyn Bench) {
    let table = bench.fresh_table();
    let narrow = import(&table, 1, &mapping(&["id*"]));
    load(bench, &narrow, rows(&[vec!["1"]])).await.unwrap();
    let types: Vec<DataType> = DataType::ALL.into();
    let wide = typed(&types);
    let row = vec![
        "2",
        "t",
        "7",
        "1.5",
        "true",
        "2026-01-01T00:00:00.000Z",
        "{}",
    ];
    let second = import(&table, 2, &wide);
    load(bench, &second, rows(&[row])).await.unwrap();
    let wanted = [
        CellValue::Text("t".to_owned()),
        integer(7),
        CellValue::Double(1.5),
        CellValue::Boolean(true),
        time("2026-01-01T00:00:00Z"),
        json("{}"),
    ];
    for ((i, data_type), wanted) in types.into_iter().enumerate().zip(wanted) {
        let stored = bench
            .values(&table, &format!("c{i}"), "id", data_type)
            .await;
        assert_eq!(stored, [CellValue::Null, wanted], "{data_type}");
    }
    let fits = bench.table().inspect(&table, &wide).await.unwrap();
    assert!(fits.exists && fits.findings.is_empty(), "{fits:?}");
}

async fn create(bench: &dyn Bench, columns: &str) -> forebay_model::TableId {
    let table = bench.fresh_table();
    bench.execute(&bench.before_create(&table)).await;
    let name = bench.sql_name(&table);
    let sql = format!("CREATE TABLE {name} (\"id\" text NOT NULL PRIMARY KEY, {columns})");
    bench.execute(&sql).await;
    table
}

async fn existing_columns_fit_or_are_rejected(bench: &dyn Bench) {
    use DataType::{Boolean, Double, Integer, Json, Text, Timestamp};
    let sample = |data_type| match data_type {
        Text => "any",
        Integer => "-9223372036854775808",
        Double => "0.30000000000000004",
        Boolean => "false",
        Timestamp => "2026-01-01T00:00:00.000001Z",
        Json => "{\"b\":1.50,\"a\":[]}",
    };
    for (declared, accepted) in [
        ("text", &DataType::ALL[..]),
        ("varchar", &DataType::ALL),
        ("bigint", &[Integer]),
        ("numeric", &[Integer]),
        ("double precision", &[Double]),
        ("boolean", &[Boolean]),
        ("date", &[]),
    ] {
        for data_type in DataType::ALL {
            let table = create(bench, &format!("\"c0\" {declared}")).await;
            let mapping = typed(&[data_type]);
            let inspected = bench.table().inspect(&table, &mapping).await.unwrap();
            let sent = sample(data_type);
            let loaded = load(
                bench,
                &import(&table, 1, &mapping),
                rows(&[vec!["1", sent], vec!["2", ""]]),
            )
            .await;
            if !accepted.contains(&data_type) {
                let words = ["\"c0\" has type", "never changes", data_type.name()];
                assert_terminal(loaded, &words);
                assert_eq!(inspected.findings.len(), 1, "{declared} {data_type}");
                continue;
            }
            assert_eq!(loaded, Ok(import_summary(2)), "{declared} {data_type}");
            assert_eq!(inspected.findings, [], "{declared} {data_type}");
            let null = (data_type == Text).then(String::new);
            if declared == "text" || declared == "varchar" {
                let stored = cells(bench, &table, "c0", "id").await;
                assert_eq!(stored, [Some(sent.to_owned()), null], "{data_type}");
            } else if declared == "numeric" {
                let sql = format!(
                    "SELECT CAST(\"c0\" AS text) FROM {} WHERE \"id\" = '1'",
                    bench.sql_name(&table)
                );
                assert_eq!(bench.column(&sql).await, some(&[sent]));
            }
        }
    }
}

async fn null_needs_a_nullable_column(bench: &dyn Bench) {
    let table = create(bench, "\"c0\" bigint DEFAULT 0 NOT NULL").await;
    let mut mapping = typed(&[DataType::Integer]);
    let result = bench.table().prepare(&table, &mapping).await;
    assert_terminal(result, &["\"c0\" is NOT NULL", "null"]);
    let value = "7".to_owned();
    mapping.columns[1].kind = ColumnKind::Static { value };
    bench.table().prepare(&table, &mapping).await.unwrap();
}

async fn types_never_change(bench: &dyn Bench) {
    for first in DataType::ALL.into_iter().filter(|t| !t.is_text()) {
        let (table, mapping) = (bench.fresh_table(), typed(&[first]));
        bench.table().prepare(&table, &mapping).await.unwrap();
        for second in DataType::ALL.into_iter().filter(|t| *t != first) {
            let changed = typed(&[second]);
            let result = bench.table().prepare(&table, &changed).await;
            assert_terminal(result, &[&table.to_string(), "\"c0\"", second.name()]);
            let found = bench.table().inspect(&table, &changed).await.unwrap();
            assert_eq!(found.findings.len(), 1, "{first} {second}");
            assert_eq!(found.findings[0].column, Some(1));
        }
    }
}

async fn damaged_cells_are_rejected(bench: &dyn Bench) {
    for (data_type, damaged) in [
        (DataType::Integer, "abc"),
        (DataType::Integer, "1.0"),
        (DataType::Integer, "9223372036854775808"),
        (DataType::Double, "inf"),
        (DataType::Boolean, "1"),
        (DataType::Timestamp, "2026-01-01"),
    ] {
        let (table, mapping) = (bench.fresh_table(), typed(&[data_type]));
        let first = import(&table, 1, &mapping);
        let loaded = load(bench, &first, rows(&[vec!["1", ""], vec!["2", damaged]])).await;
        assert_terminal(loaded, &["\"c0\"", damaged, data_type.name()]);
        assert_eq!(cells(bench, &table, "id", "id").await, []);
        assert_eq!(bench.table().imported(&first.id).await, Ok(None));
    }
}
