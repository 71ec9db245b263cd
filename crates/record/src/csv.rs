//! Rows as CSV: every value in double quotes, a quote doubled, `,` between values, `\n` behind the
//! row. No header, no other escaping: line ends stay inside the quotes as they are.
//! [`crate::csv_read`] reads it back.

/// Appends `text` with its quotes doubled; the caller writes the quotes around it.
pub fn push_escaped(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(i) = memchr::memchr(b'"', rest) {
        out.extend_from_slice(&rest[..=i]);
        out.push(b'"');
        rest = &rest[i + 1..];
    }
    out.extend_from_slice(rest);
}

/// Appends one whole row.
pub fn write_row<'a>(cells: impl IntoIterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    for (i, cell) in cells.into_iter().enumerate() {
        out.extend_from_slice(if i == 0 { b"\"" } else { b",\"" });
        push_escaped(cell, out);
        out.push(b'"');
    }
    out.push(b'\n');
}
