//! Tracker of HTTP/1.1 requests that are sequential on a connection and have a content length.

use super::conversation::{Conversation, Moment};

/// State of one connection.
#[derive(Debug, Default)]
pub(super) struct Http {
    /// The request's head, as far as received.
    head: Vec<u8>,
    method: Vec<u8>,
    /// Whether the request deletes objects: S3 has one for a single object and one for several.
    deletes: bool,
    length: usize,
    /// Remaining bytes of the body.
    left: usize,
}

impl Http {
    fn begin(&mut self) {
        let text = String::from_utf8_lossy(&self.head).to_ascii_lowercase();
        let length = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"));
        self.length = length.and_then(|n| n.trim().parse().ok()).unwrap_or(0);
        self.left = self.length;
        let mut words = self.head.split(|b| *b == b' ');
        self.method = words.next().unwrap_or_default().to_vec();
        let target = words.next().unwrap_or_default();
        self.deletes = self.method == b"DELETE"
            || (self.method == b"POST" && target.windows(7).any(|w| w == b"?delete"));
        self.head.clear();
    }
}

impl Conversation for Http {
    fn client_sent(&mut self, bytes: &[u8], take: &dyn Fn(Moment) -> bool) -> usize {
        for (at, byte) in bytes.iter().enumerate() {
            if self.left > 0 {
                self.left -= 1;
                let is_half = self.left == self.length / 2;
                if is_half && self.method == b"PUT" && take(Moment::InPut) {
                    return at;
                }
                continue;
            }
            self.head.push(*byte);
            if self.head.ends_with(b"\r\n\r\n") {
                self.begin();
            }
        }
        bytes.len()
    }

    fn server_sent(&mut self, bytes: &[u8], take: &dyn Fn(Moment) -> bool) -> usize {
        if bytes.is_empty() || self.left > 0 {
            return bytes.len();
        }
        match self.method.as_slice() {
            b"PUT" if take(Moment::AfterPut) => 0,
            _ if self.deletes && take(Moment::AfterDelete) => 0,
            b"GET" if take(Moment::InGet) => bytes.len() / 2,
            _ => bytes.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_put_is_cut_in_its_body_or_after_it() {
        let head = b"PUT /bucket/a HTTP/1.1\r\nContent-Length: 10\r\n\r\n";
        let all = [&head[..], b"0123456789"].concat();
        for size in [1, 9, all.len()] {
            let mut connection = Http::default();
            let mut through = 0;
            for part in all.chunks(size) {
                let n = connection.client_sent(part, &|m| m == Moment::InPut);
                through += n;
                if n < part.len() {
                    break;
                }
            }
            assert_eq!(through, head.len() + 4, "in parts of {size}");
        }
        let mut connection = Http::default();
        assert_eq!(connection.client_sent(&all, &|_| false), all.len());
        assert_eq!(
            connection.server_sent(b"HTTP/1.1 200", &|m| m == Moment::AfterPut),
            0
        );
        assert_eq!(
            connection.server_sent(b"HTTP/1.1 200", &|m| m == Moment::InGet),
            12
        );
    }

    #[test]
    fn requests_of_a_connection_are_told_apart() {
        let mut connection = Http::default();
        let requests = b"PUT /a HTTP/1.1\r\ncontent-length: 2\r\n\r\nxxGET /a HTTP/1.1\r\n\r\n";
        connection.client_sent(requests, &|_| false);
        assert_eq!(
            connection.server_sent(b"1234", &|m| m == Moment::AfterPut),
            4
        );
        assert_eq!(connection.server_sent(b"1234", &|m| m == Moment::InGet), 2);
    }
}
