//! Random texts, from the source that the binary passes in.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use forebay_model::limits;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Where random numbers come from. Secrets of sources are made from it: the binary passes a
/// cryptographic generator, tests a seeded one.
pub type RandomSource = Box<dyn FnMut() -> u64 + Send>;

/// Shared by all requests.
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

    /// So many characters of `[0-9A-Za-z]`, each as likely as the others.
    pub(crate) fn text(&self, chars: usize) -> String {
        let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::with_capacity(chars);
        while text.len() < chars {
            let word = (*next)();
            for byte in word.to_le_bytes() {
                // 248 is the largest multiple of 62 in a byte: above it some would be likelier.
                if byte < 248 && text.len() < chars {
                    text.push(char::from(ALPHABET[usize::from(byte % 62)]));
                }
            }
        }
        text
    }

    /// Secret of a source.
    pub(crate) fn secret(&self) -> String {
        self.text(limits::SECRET_CHARS)
    }

    /// Id of a request.
    pub(crate) fn request_id(&self) -> String {
        self.text(15)
    }

    /// Last part of a task's id.
    pub(crate) fn task_suffix(&self) -> String {
        self.text(5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_their_length_and_every_character_comes_up() {
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
