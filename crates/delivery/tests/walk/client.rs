//! A client that sends exactly the given bytes.

use std::collections::HashMap;
use std::net::SocketAddr;

use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        assert_eq!(self.headers["content-type"], "application/json");
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

pub(crate) struct Client<S = TcpStream> {
    stream: S,
    read: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }
}

/// Builds a `POST` with these headers (each with its line end).
pub(crate) fn post(path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut request =
        format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n{headers}\r\n")
            .into_bytes();
    request.extend_from_slice(body);
    request
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) fn over(stream: S) -> Self {
        Self {
            stream,
            read: Vec::new(),
        }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    pub(crate) async fn send(&mut self, request: &[u8]) -> Answer {
        self.write(request).await;
        self.answer().await.expect("an answer")
    }

    /// Posts a JSON record.
    pub(crate) async fn post(&mut self, path: &str, body: &str) -> Answer {
        let request = post(path, "Content-Type: application/json\r\n", body.as_bytes());
        self.send(&request).await
    }

    /// The next response, or `None` when the server has closed the connection.
    pub(crate) async fn answer(&mut self) -> Option<Answer> {
        let head = loop {
            if let Some(at) = self.read.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if self.fill().await == 0 {
                assert!(self.read.is_empty(), "cut off: {:?}", self.read);
                return None;
            }
        };
        let text = String::from_utf8(self.read.drain(..head).collect()).unwrap();
        let mut lines = text.lines();
        let status: u16 = lines.next()?.split(' ').nth(1)?.parse().unwrap();
        let headers: HashMap<_, _> = lines
            .filter_map(|l| l.split_once(": "))
            .map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned()))
            .collect();
        if status == 100 {
            return Some(Answer {
                status,
                headers,
                body: Vec::new(),
            });
        }
        let length = headers
            .get("content-length")
            .map_or(0, |l| l.parse().unwrap());
        while self.read.len() < length {
            assert_ne!(self.fill().await, 0, "the body is cut off");
        }
        let body = self.read.drain(..length).collect();
        Some(Answer {
            status,
            headers,
            body,
        })
    }

    /// Whether the server closes the connection without another response.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.read.is_empty() && self.fill().await == 0
    }

    /// Everything up to the end of the connection.
    pub(crate) async fn read_all(&mut self) -> Vec<u8> {
        while self.fill().await > 0 {}
        std::mem::take(&mut self.read)
    }

    async fn fill(&mut self) -> usize {
        // A reset is an end too.
        self.stream.read_buf(&mut self.read).await.unwrap_or(0)
    }
}

pub(crate) fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    std::io::Write::write_all(&mut encoder, body).unwrap();
    encoder.finish().unwrap()
}
