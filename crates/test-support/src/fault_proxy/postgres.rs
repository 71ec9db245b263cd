//! Tracker of PostgreSQL messages: type, length and body; only the client's first message has no
//! type.

use super::conversation::{Conversation, Moment};

/// Prefix kept of a message's body: enough for `COMMIT`.
const HEAD: usize = 8;

/// Finds the ends of messages, for any packet boundaries.
#[derive(Debug)]
struct Messages {
    /// Type and length, as far as received.
    header: Vec<u8>,
    has_type: bool,
    /// Remaining bytes of the body.
    left: usize,
    head: Vec<u8>,
}

impl Messages {
    fn new(has_type: bool) -> Self {
        Self {
            header: Vec::new(),
            has_type,
            left: 0,
            head: Vec::new(),
        }
    }

    fn header_len(&self) -> usize {
        if self.has_type { 5 } else { 4 }
    }

    /// Calls `ended` with type, body prefix and end index in `bytes` of each message, until it
    /// returns how many bytes to forward.
    fn feed(
        &mut self,
        bytes: &[u8],
        mut ended: impl FnMut(u8, &[u8], usize) -> Option<usize>,
    ) -> usize {
        for (at, byte) in bytes.iter().enumerate() {
            if self.header.len() < self.header_len() {
                self.header.push(*byte);
                if self.header.len() == self.header_len() {
                    let length = self
                        .header
                        .last_chunk::<4>()
                        .map(|l| u32::from_be_bytes(*l));
                    // The length includes itself.
                    self.left = length.unwrap_or(4).saturating_sub(4) as usize;
                    self.head.clear();
                }
            } else {
                self.left -= 1;
                if self.head.len() < HEAD {
                    self.head.push(*byte);
                }
            }
            if self.header.len() == self.header_len() && self.left == 0 {
                let kind = if self.has_type {
                    self.header.first()
                } else {
                    None
                };
                let kind = kind.copied().unwrap_or_default();
                self.header.clear();
                self.has_type = true;
                if let Some(passed) = ended(kind, &self.head, at + 1) {
                    return passed;
                }
            }
        }
        bytes.len()
    }
}

/// State of one connection.
#[derive(Debug)]
pub(super) struct Postgres {
    client: Messages,
    server: Messages,
}

impl Default for Postgres {
    fn default() -> Self {
        Self {
            client: Messages::new(false),
            server: Messages::new(true),
        }
    }
}

impl Conversation for Postgres {
    fn client_sent(&mut self, bytes: &[u8], take: &dyn Fn(Moment) -> bool) -> usize {
        self.client.feed(bytes, |kind, body, end| match kind {
            // An incomplete message is never executed.
            b'd' if take(Moment::InCopy) => Some(end - 1),
            b'Q' if body.starts_with(b"COMMIT") && take(Moment::BeforeCommit) => Some(end - 1),
            _ => None,
        })
    }

    fn server_sent(&mut self, bytes: &[u8], take: &dyn Fn(Moment) -> bool) -> usize {
        self.server.feed(bytes, |kind, body, _| {
            (kind == b'C' && body.starts_with(b"COMMIT") && take(Moment::AfterCommit)).then_some(0)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[kind], &length[..], body].concat()
    }

    #[test]
    fn cut_points_are_found_for_any_packet_boundaries() {
        let startup = [&[0, 0, 0, 8][..], &[0, 3, 0, 0]].concat();
        let copy = message(b'd', b"rows with a COMMIT in them");
        let commit = message(b'Q', b"COMMIT\0");
        let all = [startup, copy.clone(), message(b'c', b""), commit].concat();
        for (moment, passed) in [
            (Moment::InCopy, 8 + copy.len() - 1),
            (Moment::BeforeCommit, all.len() - 1),
            (Moment::AfterCommit, all.len()),
        ] {
            for size in [1, 3, 7, all.len()] {
                let mut connection = Postgres::default();
                let mut through = 0;
                for part in all.chunks(size) {
                    let n = connection.client_sent(part, &|m| m == moment);
                    through += n;
                    if n < part.len() {
                        break;
                    }
                }
                assert_eq!(through, passed, "{moment:?} in parts of {size}");
            }
        }
        let mut connection = Postgres::default();
        let response = message(b'C', b"COMMIT\0");
        assert_eq!(
            connection.server_sent(&response, &|_| false),
            response.len()
        );
        assert_eq!(connection.server_sent(&response, &|_| true), 0);
    }
}
