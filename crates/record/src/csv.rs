//! CSV rows: every value in double quotes, quotes doubled, `,` between values, `\n` after the row.
//! No header and no other escaping: line ends stay inside the quotes. [`crate::csv_reader`] reads
//! it back.

/// Bytes escaped or unescaped per resize of the output.
const PIECE: usize = 512;

/// Position of the first quote in eight bytes, or 8. Most cells are JSON, whose quotes are too
/// close together for a search with a set-up cost, such as memchr.
#[inline]
fn first_quote(word: [u8; 8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let other = u64::from_le_bytes(word) ^ (ONES * b'"' as u64);
    // The lowest set bit marks the lowest zero byte; higher bits may be wrong.
    let zero = other.wrapping_sub(ONES) & !other & (ONES << 7);
    zero.trailing_zeros() as usize / 8
}

#[inline]
fn word(text: &[u8], at: usize) -> Option<[u8; 8]> {
    text.get(at..at + 8)?.try_into().ok()
}

/// Appends `text` with doubled quotes; the caller writes the enclosing quotes.
pub(crate) fn push_escaped(text: &[u8], out: &mut Vec<u8>) {
    for piece in text.chunks(PIECE) {
        let start = out.len();
        out.resize(start + 2 * piece.len() + 8, 0);
        let to = &mut out[start..];
        let (mut from, mut len) = (0, 0);
        while let Some(word) = word(piece, from) {
            to[len..len + 8].copy_from_slice(&word);
            let plain = first_quote(word);
            from += plain;
            len += plain;
            if plain < 8 {
                to[len..len + 2].copy_from_slice(b"\"\"");
                from += 1;
                len += 2;
            }
        }
        for &byte in &piece[from..] {
            to[len] = byte;
            len += 1;
            if byte == b'"' {
                to[len] = byte;
                len += 1;
            }
        }
        out.truncate(start + len);
    }
}

/// Appends the unescaped text up to a quote that is not followed by another one within `text`.
/// Returns the number of bytes read.
pub(crate) fn push_unescaped(text: &[u8], out: &mut Vec<u8>) -> usize {
    let mut from = 0;
    while from < text.len() {
        let piece_end = text.len().min(from + PIECE);
        let start = out.len();
        out.resize(start + PIECE + 8, 0);
        let to = &mut out[start..];
        let mut len = 0;
        let mut ended = false;
        while from < piece_end {
            let plain = match word(text, from) {
                Some(word) => {
                    to[len..len + 8].copy_from_slice(&word);
                    first_quote(word)
                }
                None if text[from] == b'"' => 0,
                None => {
                    to[len] = text[from];
                    1
                }
            };
            let is_quote = text.get(from + plain) == Some(&b'"') && plain < 8;
            from += plain;
            len += plain;
            if is_quote {
                if text.get(from + 1) != Some(&b'"') {
                    ended = true;
                    break;
                }
                to[len] = b'"';
                len += 1;
                from += 2;
            }
        }
        out.truncate(start + len);
        if ended {
            break;
        }
    }
    from
}

pub fn write_row<'a>(cells: impl IntoIterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    for (i, cell) in cells.into_iter().enumerate() {
        out.extend_from_slice(if i == 0 { b"\"" } else { b",\"" });
        push_escaped(cell, out);
        out.push(b'"');
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts with quotes at every distance from each other and from the end.
    fn texts() -> impl Iterator<Item = Vec<u8>> {
        let mut n = 1_u64;
        (0..2_000_usize).map(move |i| {
            let mut next = || {
                n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                n >> 33
            };
            let (len, dense) = (next() % (3 + i as u64), 1 + next() % 12);
            let byte = |r: u64| match r % dense {
                0 => b'"',
                // Neighbours of a quote's code, and bytes with the highest bit.
                1 => b'!' + u8::try_from(r % 3).unwrap_or_default(),
                _ => u8::try_from(r >> 8 & 0xff).unwrap_or_default(),
            };
            (0..len).map(|_| byte(next())).collect()
        })
    }

    #[test]
    fn escaping_doubles_quotes_and_nothing_else() {
        for text in texts() {
            let mut out = b"before".to_vec();
            push_escaped(&text, &mut out);
            let doubled = |b: &u8| vec![*b; if *b == b'"' { 2 } else { 1 }];
            let expected: Vec<u8> = text.iter().flat_map(doubled).collect();
            assert_eq!(&out[6..], &expected);
        }
    }

    #[test]
    fn unescaping_ends_at_the_first_single_quote() {
        for text in texts() {
            let mut escaped = Vec::new();
            push_escaped(&text, &mut escaped);
            for behind in [&b""[..], b"\"", b"\",\"x", b"\"\n"] {
                let whole = [&escaped[..], behind].concat();
                let mut out = Vec::new();
                let read = push_unescaped(&whole, &mut out);
                assert_eq!((read, &out), (escaped.len(), &text));
            }
        }
    }
}
