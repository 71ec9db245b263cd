use super::*;
use JsonScalar::{Boolean, Number, Text};

fn conversion(data_type: DataType) -> CellConversion {
    CellConversion {
        data_type,
        unit: None,
        is_key: false,
    }
}

fn cell(data_type: DataType, value: JsonScalar<'_>) -> Option<String> {
    let mut scratch = CellText::default();
    let cell = conversion(data_type).convert(value, &mut scratch);
    cell.ok().map(str::to_owned)
}

fn number_and_text<'a>(data_type: DataType, text: &'a str) -> Option<String> {
    let of = |value: JsonScalar<'a>| cell(data_type, value);
    assert_eq!(of(Number(text)), of(Text(text)), "{text}");
    of(Number(text))
}

#[test]
fn integers_are_64_bit_numbers_in_any_notation() {
    for (text, wanted) in [
        ("0", "0"),
        ("-0", "0"),
        ("-0.0", "0"),
        ("7", "7"),
        ("-7", "-7"),
        ("007", "7"),
        ("1.0", "1"),
        ("1e3", "1000"),
        ("15E-1", ""),
        ("1500e-2", "15"),
        ("999999999999999999", "999999999999999999"),
        ("9223372036854775807", "9223372036854775807"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("9.223372036854775807e18", "9223372036854775807"),
        ("9223372036854775808", ""),
        ("-9223372036854775809", ""),
        ("1e400", ""),
        ("1e-400", ""),
        ("4.2", ""),
        ("", ""),
        ("-", ""),
        ("+7", ""),
        (" 7", ""),
        ("7 ", ""),
        ("7.", ""),
        (".7", ""),
        ("1_000", ""),
        ("0x1F", ""),
        ("NaN", ""),
        ("Infinity", ""),
        ("٧", ""),
        ("true", ""),
    ] {
        let wanted = (!wanted.is_empty()).then(|| wanted.to_owned());
        assert_eq!(number_and_text(DataType::Integer, text), wanted, "{text}");
    }
    assert_eq!(cell(DataType::Integer, Boolean(true)), None);
}

#[test]
fn doubles_are_finite_and_have_the_fewest_digits() {
    for (text, wanted) in [
        ("0", "0"),
        ("-0", "0"),
        ("-0.0", "0"),
        ("-0e5", "0"),
        ("1", "1"),
        ("1.0", "1"),
        ("1.50", "1.5"),
        ("0.1", "0.1"),
        ("-12.5", "-12.5"),
        ("00.5", "0.5"),
        ("1e3", "1000"),
        ("123456789012345", "123456789012345"),
        ("1234567890123456", "1234567890123456"),
        ("12345678901234567890", "1.2345678901234567e19"),
        ("0.30000000000000004", "0.30000000000000004"),
        ("0.1000000000000000055511151231257827", "0.1"),
        ("9007199254740993", "9007199254740992"),
        ("1e16", "10000000000000000"),
        ("1e17", "1e17"),
        ("0.00000000000001", "0.00000000000001"),
        ("1e-15", "0.000000000000001"),
        ("1e-16", "1e-16"),
        ("1.7976931348623157e308", "1.7976931348623157e308"),
        ("-1.7976931348623157E308", "-1.7976931348623157e308"),
        ("2.2250738585072014e-308", "2.2250738585072014e-308"),
        ("5e-324", "5e-324"),
        ("1e-400", "0"),
        ("-1e-400", "0"),
        ("0.0012345678901234567", "0.0012345678901234567"),
        ("1e309", ""),
        ("-1e999999", ""),
        ("", ""),
        ("-", ""),
        ("+1", ""),
        ("1.", ""),
        (".5", ""),
        ("1e", ""),
        ("1.e5", ""),
        ("inf", ""),
        ("-inf", ""),
        ("Infinity", ""),
        ("nan", ""),
        ("NaN", ""),
        ("1,5", ""),
        ("0x1", ""),
        ("1 ", ""),
    ] {
        let wanted = (!wanted.is_empty()).then(|| wanted.to_owned());
        assert_eq!(number_and_text(DataType::Double, text), wanted, "{text}");
    }
    assert_eq!(cell(DataType::Double, Boolean(false)), None);
}

#[test]
fn booleans_are_two_words() {
    for (value, wanted) in [
        (Boolean(true), Some("true")),
        (Boolean(false), Some("false")),
        (Text("true"), Some("true")),
        (Text("false"), Some("false")),
        (Text("True"), None),
        (Text("1"), None),
        (Text("yes"), None),
        (Text(""), None),
        (Number("1"), None),
        (Number("0"), None),
    ] {
        assert_eq!(
            cell(DataType::Boolean, value).as_deref(),
            wanted,
            "{value:?}"
        );
    }
}

#[test]
fn timestamps_have_an_offset_or_a_unit() {
    let with = |unit, value| {
        let mut scratch = CellText::default();
        let conversion = CellConversion {
            unit,
            ..conversion(DataType::Timestamp)
        };
        let cell = conversion.convert(value, &mut scratch);
        cell.map(str::to_owned).map_err(|e| e.to_string())
    };
    for (unit, value, wanted) in [
        (
            None,
            Text("2026-01-02T03:04:05Z"),
            "2026-01-02T03:04:05.000Z",
        ),
        (
            None,
            Text("2026-01-02T05:04:05.1234567+02:00"),
            "2026-01-02T03:04:05.123456Z",
        ),
        (
            None,
            Text("0001-01-01T00:00:00Z"),
            "0001-01-01T00:00:00.000Z",
        ),
        (
            None,
            Text("9999-12-31T23:59:59.999999999Z"),
            "9999-12-31T23:59:59.999999Z",
        ),
        (None, Number("1704067200"), "2024-01-01T00:00:00.000Z"),
        (None, Number("1704067200000"), "2024-01-01T00:00:00.000Z"),
        (
            Some(EpochUnit::S),
            Number("1704067200.000001"),
            "2024-01-01T00:00:00.000001Z",
        ),
        (
            Some(EpochUnit::Ms),
            Text("1704067200000"),
            "2024-01-01T00:00:00.000Z",
        ),
        (
            Some(EpochUnit::Ms),
            Text("2024-01-01T00:00:00Z"),
            "2024-01-01T00:00:00.000Z",
        ),
        (
            Some(EpochUnit::Ns),
            Number("-1"),
            "1969-12-31T23:59:59.999999Z",
        ),
    ] {
        assert_eq!(with(unit, value).as_deref(), Ok(wanted), "{value:?}");
    }
    for (unit, value, said) in [
        (None, Text("2026-01-02T03:04:05"), "with its offset"),
        (None, Text("2026-01-02"), "with its offset"),
        (None, Text("1704067200"), "with its offset"),
        (None, Text(""), "with its offset"),
        (None, Text("0000-12-31T23:59:59Z"), "years 0001 to 9999"),
        (None, Number("157766400000"), "`unit`"),
        (None, Boolean(true), "with its offset"),
        (Some(EpochUnit::S), Number("1704067200000"), "in the unit s"),
    ] {
        let error = with(unit, value).unwrap_err();
        assert!(error.contains(said), "{value:?}: {error}");
    }
}

#[test]
fn keys_are_never_null_and_lose_no_digits() {
    let key = CellConversion {
        is_key: true,
        ..conversion(DataType::Timestamp)
    };
    let exact = Text("2026-01-02T03:04:05.123456Z");
    assert!(key.parse(exact).is_ok());
    let finer = key.parse(Text("2026-01-02T03:04:05.1234567Z"));
    assert_eq!(finer, Err(InvalidValue::KeyPrecision));
    assert_eq!(key.null(), Err(InvalidValue::NullKey));
    assert_eq!(key.constant(""), Err(InvalidValue::NullKey));
    assert_eq!(key.check_constant(""), Err(InvalidValue::NullKey));
}

#[test]
fn constants_are_converted_or_rejected() {
    let integer = conversion(DataType::Integer);
    assert_eq!(integer.constant("1e3").as_deref(), Ok("1000"));
    assert_eq!(integer.constant("").as_deref(), Ok(""));
    assert_eq!(integer.check_constant("none"), Err(InvalidValue::Integer));
    let json = conversion(DataType::Json);
    for (text, is_json) in [
        ("{}", true),
        ("\"a\"", true),
        ("null", true),
        ("a", false),
        ("", true),
    ] {
        assert_eq!(json.check_constant(text).is_ok(), is_json, "{text}");
    }
    assert_eq!(conversion(DataType::Text).check_constant("any"), Ok(()));
}

#[test]
fn canonical_texts_restore_their_values() {
    let times = [
        TimestampMicros::MIN,
        TimestampMicros::MAX,
        TimestampMicros::from_micros(-1).unwrap(),
    ];
    let doubles = [
        0.0,
        f64::MAX,
        f64::MIN,
        f64::MIN_POSITIVE,
        5e-324,
        -0.001_234_567_890_123_456_7,
        -1.234_567_890_123_456_7e-15,
        99_999_999_999_999_984.0,
    ];
    let integers = [0, 1, -1, i64::MAX, i64::MIN];
    let values = integers
        .map(TypedValue::Integer)
        .into_iter()
        .chain(doubles.map(TypedValue::Double))
        .chain([true, false].map(TypedValue::Boolean))
        .chain(times.map(TypedValue::Timestamp));
    for value in values {
        let text = value.to_text();
        let data_type = match value {
            TypedValue::Integer(_) => DataType::Integer,
            TypedValue::Double(_) => DataType::Double,
            TypedValue::Boolean(_) => DataType::Boolean,
            TypedValue::Timestamp(_) => DataType::Timestamp,
        };
        let restored = TypedValue::from_text(data_type, text.as_str());
        assert_eq!(restored, Some(value), "{}", text.as_str());
        // A canonical text is its own cell.
        let again = cell(data_type, Text(text.as_str()));
        assert_eq!(again.as_deref(), Some(text.as_str()));
    }
}

/// Texts that are plain are what the slow path writes.
#[test]
fn plain_texts_are_canonical() {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = |max: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % max
    };
    let alphabet = b"0123456789000999.-e";
    let (mut plain_integers, mut plain_decimals) = (0, 0);
    for _ in 0..100_000 {
        let len = 1 + next(20);
        let text: String = (0..len)
            .map(|_| char::from(alphabet[usize::try_from(next(19)).unwrap()]))
            .collect();
        if is_plain_integer(&text) {
            plain_integers += 1;
            let parsed = conversion(DataType::Integer).parse(Text(&text)).unwrap();
            assert_eq!(parsed.to_text().as_str(), text);
        }
        if is_plain_decimal(&text) {
            plain_decimals += 1;
            let parsed = conversion(DataType::Double).parse(Text(&text)).unwrap();
            assert_eq!(parsed.to_text().as_str(), text);
        }
    }
    assert!(plain_integers > 2_000 && plain_decimals > 2_000);
}
