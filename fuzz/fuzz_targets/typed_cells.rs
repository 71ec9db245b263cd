//! A type (first byte), a unit (second byte) and a value: an accepted cell is the canonical text of its
//! value, whether the value is sent as a number or as a string.
#![no_main]

use forebay_model::{CellConversion, CellText, DataType, EpochUnit, JsonScalar, TypedValue};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [kind, unit, text @ ..] = data else {
        return;
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let conversion = CellConversion {
        data_type: DataType::ALL[usize::from(*kind) % DataType::ALL.len()],
        unit: EpochUnit::ALL.get(usize::from(*unit) % 5).copied(),
        is_key: kind & 0x80 != 0,
    };
    let is_number = serde_json::from_str::<serde_json::Number>(text).is_ok();
    let values = [
        Some(JsonScalar::Text(text)),
        is_number.then_some(JsonScalar::Number(text)),
    ];
    for value in values.into_iter().flatten() {
        let mut scratch = CellText::default();
        let Ok(cell) = conversion.convert(value, &mut scratch) else {
            continue;
        };
        assert!(!cell.is_empty() && !cell.contains(['"', ',', '\n']));
        let parsed = TypedValue::from_text(conversion.data_type, cell).expect("a canonical cell");
        assert_eq!(parsed.to_text().as_str(), cell);
        let slow = conversion.parse(value).expect("the value was accepted");
        assert_eq!(slow, parsed);
    }
    if conversion.check_constant(text).is_ok() && conversion.data_type != DataType::Json {
        let _ = conversion.constant(text);
    }
});
