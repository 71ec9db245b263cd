//! Writes the result of a template: compact JSON with sorted keys.
//!
//! Numbers have the fewest digits that restore the same float64, and no exponent, as when a
//! template adds them to a string.

use std::io::Write as _;

use rsjsonnet_lang::program::{Value, ValueKind};

use super::MAX_STACK;
use crate::error::TemplateError;
use crate::json::write_string;

/// Writes a fully evaluated value of at most `max` bytes.
pub(super) fn write(
    value: &Value<'_>,
    raw_string: bool,
    max: usize,
) -> Result<Vec<u8>, TemplateError> {
    let mut writer = ManifestWriter {
        out: Vec::new(),
        max,
    };
    if raw_string && value.is_string() {
        writer.out = value.to_string().unwrap_or_default().into_bytes();
        writer.check()?;
    } else {
        writer.value(value, 0)?;
    }
    Ok(writer.out)
}

struct ManifestWriter {
    out: Vec<u8>,
    max: usize,
}

impl ManifestWriter {
    fn check(&self) -> Result<(), TemplateError> {
        if self.out.len() > self.max {
            let message = format!("the template's result is larger than {} bytes", self.max);
            return Err(TemplateError::limit(message));
        }
        Ok(())
    }

    fn value(&mut self, value: &Value<'_>, depth: usize) -> Result<(), TemplateError> {
        if depth > MAX_STACK {
            let message = format!("the template's result is nested deeper than {MAX_STACK} levels");
            return Err(TemplateError::limit(message));
        }
        match value.kind() {
            ValueKind::Null => self.out.extend_from_slice(b"null"),
            ValueKind::Bool(true) => self.out.extend_from_slice(b"true"),
            ValueKind::Bool(false) => self.out.extend_from_slice(b"false"),
            ValueKind::Number(number) => self.number(number),
            ValueKind::String(text) => write_string(&text, &mut self.out),
            ValueKind::Array(items) => {
                self.out.push(b'[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        self.out.push(b',');
                    }
                    self.value(item, depth + 1)?;
                }
                self.out.push(b']');
            }
            ValueKind::Object(mut fields) => {
                fields.sort_unstable_by(|a, b| a.0.value().cmp(b.0.value()));
                self.out.push(b'{');
                for (i, (key, field)) in fields.iter().enumerate() {
                    if i > 0 {
                        self.out.push(b',');
                    }
                    write_string(key.value(), &mut self.out);
                    self.out.push(b':');
                    self.value(field, depth + 1)?;
                }
                self.out.push(b'}');
            }
            ValueKind::Function => {
                return Err(TemplateError::program(
                    "the template's result contains a function",
                ));
            }
        }
        self.check()
    }

    fn number(&mut self, number: f64) {
        // Writing into a vector can't fail.
        let done = write!(self.out, "{number}");
        debug_assert!(done.is_ok());
    }
}
