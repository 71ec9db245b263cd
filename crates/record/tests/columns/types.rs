//! Typed columns: which values become which cells.

use forebay_model::{ColumnKind, DataType, EpochUnit, Mapping, MappingColumn, TypedValue};
use forebay_record::{CompiledMapping, RecordContext, RecordError, RecordErrorKind, RowLimits};
use proptest::prelude::*;

use crate::common::*;

fn typed(data_type: DataType, kind: ColumnKind) -> MappingColumn {
    MappingColumn {
        data_type,
        ..column("c", kind)
    }
}

fn cell_of(column: MappingColumn, record: &RecordContext) -> Result<String, RecordError> {
    let mapping = Mapping {
        columns: vec![column],
    };
    assert_eq!(mapping.violations(), []);
    let mapping = CompiledMapping::compile(&mapping, &RowLimits::default()).unwrap();
    let results = evaluated(&mapping, record);
    let mut cells = mapping.render_cells(record, &results, &mut || 7)?;
    Ok(String::from_utf8(cells.remove(0)).unwrap())
}

fn value(data_type: DataType, value: &str) -> Result<String, RecordError> {
    let record = json(&format!("{{\"a\": {value} }}"));
    cell_of(typed(data_type, path("a", None, true)), &record)
}

#[test]
fn values_become_canonical_cells_or_are_rejected() {
    use DataType::{Boolean, Double, Integer, Json, Timestamp};
    for (data_type, sent, cell) in [
        (Integer, "7", "7"),
        (Integer, "\"-7\"", "-7"),
        (Integer, "1e3", "1000"),
        (Integer, "\"\\u0037\"", "7"),
        (Integer, "null", ""),
        (Double, "1.50", "1.5"),
        (Double, "\"1e-400\"", "0"),
        (Boolean, "true", "true"),
        (Boolean, "\"false\"", "false"),
        (
            Timestamp,
            "\"2026-01-02T03:04:05+01:00\"",
            "2026-01-02T02:04:05.000Z",
        ),
        (Timestamp, "1704067200", "2024-01-01T00:00:00.000Z"),
        (Json, "null", ""),
        (Json, "\"\"", "\"\""),
        (Json, "1.50", "1.50"),
        (Json, "{ \"b\" : 1 , \"a\" : [ ] }", "{\"b\":1,\"a\":[]}"),
    ] {
        assert_eq!(
            value(data_type, sent).as_deref(),
            Ok(cell),
            "{data_type} {sent}"
        );
    }
    for (data_type, sent, said) in [
        (
            Integer,
            "\"abc\"",
            "the column is an integer, the record has \"abc\"; allowed is a whole number from -9223372036854775808",
        ),
        (Integer, "7.5", "the record has 7.5"),
        (Integer, "true", "the record has true"),
        (Integer, "[7]", "the record has [7]"),
        (Integer, "\"\"", "the record has \"\""),
        (
            Double,
            "1e999",
            "the column is a double, the record has 1e999",
        ),
        (Double, "\"NaN\"", "the record has \"NaN\""),
        (
            Boolean,
            "1",
            "the column is a boolean, the record has 1; allowed is true or false",
        ),
        (Boolean, "{\"a\":1}", "the record has {\"a\":1}"),
        (
            Timestamp,
            "\"2026-01-02\"",
            "the column is a timestamp, the record has \"2026-01-02\"; allowed is a time with its offset",
        ),
    ] {
        let error = value(data_type, sent).unwrap_err();
        assert_eq!(error.kind, RecordErrorKind::InvalidType, "{error}");
        assert_eq!((error.kind.status(), error.column.as_str()), (422, "c"));
        assert!(error.message.contains(said), "{error}");
    }
    let long = format!("\"{}\"", "x".repeat(10_000));
    assert!(value(Integer, &long).unwrap_err().message.len() < 500);
}

#[test]
fn all_sources_have_types() {
    let record = json("{\"n\": \"12\", \"at\": 5, \"o\": { \"x\": 1 }}");
    let constant = |value: &str| ColumnKind::Static {
        value: value.to_owned(),
    };
    for (column, cell) in [
        (typed(DataType::Integer, template("Body('n')", true)), "12"),
        (typed(DataType::Double, template("1 / 2", false)), "0.5"),
        (typed(DataType::Boolean, template("1 == 1", true)), "true"),
        (typed(DataType::Integer, template("null", true)), ""),
        (typed(DataType::Json, template("'x'", true)), "\"x\""),
        (
            typed(DataType::Json, template("{ b: 1, a: [] }", true)),
            "{\"a\":[],\"b\":1}",
        ),
        (typed(DataType::Integer, constant("1e3")), "1000"),
        (typed(DataType::Integer, constant("")), ""),
        (typed(DataType::Json, constant("{ \"a\": 1 }")), "{\"a\":1}"),
        (typed(DataType::Json, constant("null")), ""),
        (
            typed(DataType::Timestamp, ColumnKind::Datetime),
            "2026-11-21T17:57:09.043Z",
        ),
        (
            typed(DataType::Json, ColumnKind::Headers),
            "{\"Content-Type\":\"application/json\"}",
        ),
        (
            typed(DataType::Json, ColumnKind::Body),
            "{\"n\":\"12\",\"at\":5,\"o\":{\"x\":1}}",
        ),
        (typed(DataType::Integer, path("no", Some("07"), true)), "7"),
        (typed(DataType::Integer, path("no", Some(""), false)), ""),
        (
            typed(DataType::Json, path("no", Some("[ 1 ]"), true)),
            "[1]",
        ),
        (typed(DataType::Json, path("$.o.*", None, true)), "[1]"),
        (typed(DataType::Json, path("$.no.*", None, true)), "[]"),
    ] {
        assert_eq!(
            cell_of(column.clone(), &record).as_deref(),
            Ok(cell),
            "{column:?}"
        );
    }
    let with_unit = MappingColumn {
        unit: Some(EpochUnit::Us),
        ..typed(DataType::Timestamp, path("at", None, true))
    };
    assert_eq!(
        cell_of(with_unit, &record).as_deref(),
        Ok("1970-01-01T00:00:00.000005Z")
    );
    let form = form_record("a=1&a=2&b=");
    let all = cell_of(typed(DataType::Json, ColumnKind::Body), &form);
    assert_eq!(all.as_deref(), Ok("{\"a\":\"2\",\"b\":\"\"}"));
    let number = cell_of(typed(DataType::Integer, path("a", None, true)), &form);
    assert_eq!(number.as_deref(), Ok("2"));
    let text = crate::common::record("text/plain", "no JSON");
    let error = cell_of(typed(DataType::Json, ColumnKind::Body), &text).unwrap_err();
    assert_eq!(error.kind, RecordErrorKind::UnsupportedMediaType);
}

fn form_record(body: &str) -> RecordContext {
    record("application/x-www-form-urlencoded", body.to_owned())
}

#[test]
fn errors_name_the_origin_of_the_value() {
    let column = typed(DataType::Integer, template("'x' + Body('n')", true));
    let error = cell_of(column, &json("{\"n\": 1}")).unwrap_err();
    assert!(error.message.contains("the template has \"x1\""), "{error}");
    let key = MappingColumn {
        primary_key: true,
        ..typed(DataType::Integer, path("n", None, true))
    };
    let error = cell_of(key, &json("{\"n\": null}")).unwrap_err();
    let said =
        "the record has null; allowed is a value, since the column is part of the primary key";
    assert!(error.message.contains(said), "{error}");
}

#[test]
fn lists_need_a_type_that_holds_them() {
    for data_type in DataType::ALL {
        let mapping = Mapping {
            columns: vec![typed(data_type, path("$.a[*]", None, true))],
        };
        let compiled = CompiledMapping::compile(&mapping, &RowLimits::default());
        let holds = matches!(data_type, DataType::Text | DataType::Json);
        assert_eq!(compiled.is_ok(), holds, "{data_type}");
    }
}

/// Stored mappings are compiled without a check.
#[test]
fn invalid_stored_constants_fail_their_records() {
    let mapping = Mapping {
        columns: vec![typed(DataType::Integer, path("a", Some("x"), true))],
    };
    let mapping = CompiledMapping::compile_checked(&mapping, &RowLimits::default());
    let cells = mapping.render_cells(&json("{}"), NO_TEMPLATES, &mut || 0);
    assert!(
        cells
            .unwrap_err()
            .message
            .contains("\"x\" is not of the column's type")
    );
}

fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>()
            .prop_filter("JSON has no others", |n| n.is_finite())
            .prop_map(|n| format!("{n:e}")),
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?",
        "\"-?[0-9]{1,20}(\\.[0-9]{1,4})?\"",
        "\"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9](\\.[0-9]{1,9})?(Z|[+-][01][0-9]:[0-5][0-9])\"",
        "\"[ -!#-\\[\\]-~ěš]{0,12}\"",
        Just("true".to_owned()),
        Just("false".to_owned()),
        Just("null".to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, ..ProptestConfig::default() })]

    /// A cell is the canonical text of its value: its value has the same text, and it is its own cell.
    #[test]
    fn cells_are_canonical(sent in scalar()) {
        for data_type in DataType::ALL.into_iter().filter(|t| !t.is_text()) {
            let Ok(cell) = value(data_type, &sent) else { continue };
            if cell.is_empty() {
                prop_assert_eq!(sent.as_str(), "null");
                continue;
            }
            if data_type == DataType::Json {
                prop_assert_eq!(&cell, &sent);
                continue;
            }
            let parsed = TypedValue::from_text(data_type, &cell).unwrap();
            let text = parsed.to_text();
            prop_assert_eq!(text.as_str(), cell.as_str());
            let again = value(data_type, &format!("\"{cell}\""));
            prop_assert_eq!(again.as_deref(), Ok(cell.as_str()));
        }
    }

    /// Numbers agree with the standard library.
    #[test]
    fn numbers_keep_their_value(n in any::<i64>(), bits in any::<u64>()) {
        let cell = value(DataType::Integer, &n.to_string()).unwrap();
        prop_assert_eq!(cell.parse::<i64>(), Ok(n));
        let number = f64::from_bits(bits);
        if number.is_finite() {
            let cell = value(DataType::Double, &format!("{number:e}")).unwrap();
            prop_assert_eq!(cell.parse::<f64>(), Ok(number));
        }
    }
}
