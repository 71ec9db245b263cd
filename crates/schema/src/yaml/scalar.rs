//! Plain scalars.

use serde_saphyr::Location;

/// A plain scalar that YAML reads as another type than string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainScalar {
    /// Characters of the scalar in the file.
    pub text: String,
    /// Line, from 1.
    pub line: u64,
    /// Column, from 1.
    pub column: u64,
}

/// The characters of a plain scalar; `None` for one with quotes or a tag, whose type is explicit.
pub(super) fn plain_at(source: &str, place: &Location) -> Option<String> {
    let span = place.span();
    let from = usize::try_from(span.byte_offset()?).ok()?;
    let to = from.checked_add(usize::try_from(span.byte_len()?).ok()?)?;
    let text = source.get(from..to)?.trim();
    let is_plain = !text.is_empty() && !text.starts_with(['"', '\'', '!', '&', '|', '>']);
    is_plain.then(|| text.to_owned())
}
