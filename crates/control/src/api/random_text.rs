//! Random texts from the generator that the binary passes in.

use std::fmt;

use forebay_model::limits;
use parking_lot::Mutex;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Random generator. It makes the secrets of sources: the binary passes a cryptographic one, tests
/// a seeded one.
pub type RandomSource = Box<dyn FnMut() -> u64 + Send>;

pub(crate) struct RandomText(Mutex<RandomSource>);

impl fmt::Debug for RandomText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Random")
    }
}

impl RandomText {
    pub(crate) fn new(source: RandomSource) -> Self {
        Self(Mutex::new(source))
    }

    /// Uniformly distributed characters of `[0-9A-Za-z]`.
    pub(crate) fn text(&self, chars: usize) -> String {
        let mut next = self.0.lock();
        let mut text = String::with_capacity(chars);
        while text.len() < chars {
            let word = (*next)();
            for byte in word.to_le_bytes() {
                // 248 is the largest multiple of 62 in a byte: higher bytes would favor some
                // characters.
                if byte < 248 && text.len() < chars {
                    text.push(char::from(ALPHABET[usize::from(byte % 62)]));
                }
            }
        }
        text
    }

    pub(crate) fn secret(&self) -> String {
        self.text(limits::SECRET_CHARS)
    }

    pub(crate) fn request_id(&self) -> String {
        self.text(15)
    }

    /// Last part of a task id.
    pub(crate) fn task_suffix(&self) -> String {
        self.text(5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_their_length_and_use_all_characters() {
        let mut n = 0u64;
        let random = RandomText::new(Box::new(move || {
            n = n.wrapping_add(0x9E37_79B9_7F4A_7C15);
            (n ^ (n >> 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9)
        }));
        assert_eq!(random.secret().len(), 48);
        assert_ne!(random.secret(), random.secret());
        let long = random.text(10_000);
        assert!(ALPHABET.iter().all(|c| long.contains(char::from(*c))));
    }
}
