//! UUIDs of version 7 (RFC 9562, section 5.7) as text: 48 bits of time, then randomness.

use std::sync::Arc;

use forebay_model::Timestamp;

/// Source of the random bits of UUIDs.
pub type RandomBits = Arc<dyn Fn() -> u128 + Send + Sync>;

pub const LEN: usize = 36;

/// The UUID of a time and 74 random bits.
pub(crate) fn v7(at: Timestamp, random: u128) -> [u8; LEN] {
    const VERSION: u128 = 0x7 << 76;
    const VARIANT: u128 = 0b10 << 62;
    const FREE: u128 = !(0xF << 76) & !(0b11 << 62) & ((1 << 80) - 1);
    let millis = u128::try_from(at.as_millis()).unwrap_or(0) & ((1 << 48) - 1);
    let bits = (millis << 80) | (random & FREE) | VERSION | VARIANT;
    let mut text = [b'-'; LEN];
    let mut at = 0;
    for byte in bits.to_be_bytes() {
        if let 8 | 13 | 18 | 23 = at {
            at += 1;
        }
        const HEX: &[u8; 16] = b"0123456789abcdef";
        text[at] = HEX[usize::from(byte >> 4)];
        text[at + 1] = HEX[usize::from(byte & 15)];
        at += 2;
    }
    text
}
