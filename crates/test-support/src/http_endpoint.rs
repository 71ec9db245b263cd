//! An HTTP/1.1 server on loopback whose responses are a function of the requests.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

/// A received request.
#[derive(Clone, Debug)]
pub struct HttpRequest {
    /// Method and path.
    pub line: String,
    /// By name in lower case; values of repeated headers are joined with " and ".
    pub headers: HashMap<String, String>,
    /// With replacement characters, if it is not UTF-8.
    pub body: String,
    /// The body as it was sent.
    pub bytes: Vec<u8>,
    pub at: Instant,
}

impl HttpRequest {
    /// Whether it has a header with this value in any case: `name: value`.
    pub fn has(&self, header: &str) -> bool {
        let (name, value) = header.split_once(": ").unwrap();
        let found = self.headers.get(name);
        found.is_some_and(|v| v.eq_ignore_ascii_case(value))
    }
}

type Responder = dyn Fn(&HttpRequest, usize) -> String + Send + Sync;

/// Serves until the test process ends.
#[derive(Debug)]
pub struct HttpEndpoint {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<HttpRequest>>>,
    written: Arc<AtomicUsize>,
}

/// End of a response's head after which the endpoint writes a body without end.
pub const ENDLESS: &str = "transfer-encoding: chunked\r\n\r\n";

/// A response with a body; `status` may be followed by headers.
pub fn http_response(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}")
}

impl HttpEndpoint {
    /// Responds with a function of the request and its number, from 1.
    pub fn start(response: impl Fn(&HttpRequest, usize) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = Self {
            address: listener.local_addr().unwrap(),
            requests: Arc::default(),
            written: Arc::default(),
        };
        let (requests, written) = (endpoint.requests.clone(), endpoint.written.clone());
        let response: Arc<Responder> = Arc::new(response);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (requests, written) = (requests.clone(), written.clone());
                let response = response.clone();
                // A client that disconnects early needs no response.
                std::thread::spawn(move || serve(stream?, &requests, &written, &*response));
            }
        });
        endpoint
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn requests(&self) -> Vec<HttpRequest> {
        self.requests.lock().clone()
    }

    /// Method and path of each request.
    pub fn lines(&self) -> Vec<String> {
        self.requests().into_iter().map(|r| r.line).collect()
    }

    pub fn bodies(&self) -> Vec<String> {
        self.requests().into_iter().map(|r| r.body).collect()
    }

    /// Forgets the requests so far.
    pub fn clear(&self) {
        self.requests.lock().clear();
    }

    /// Bytes written of bodies without end.
    pub fn written(&self) -> usize {
        self.written.load(Ordering::Relaxed)
    }
}

fn serve(
    mut stream: TcpStream,
    requests: &Mutex<Vec<HttpRequest>>,
    written: &AtomicUsize,
    response: &Responder,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(request) = read(&mut reader)? {
        let number = {
            let mut requests = requests.lock();
            requests.push(request.clone());
            requests.len()
        };
        let response = response(&request, number);
        stream.write_all(response.as_bytes())?;
        let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
        while response.ends_with(ENDLESS) {
            stream.write_all(chunk.as_bytes())?;
            written.fetch_add(chunk.len(), Ordering::Relaxed);
        }
    }
    Ok(())
}

fn read(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<HttpRequest>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let line = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    let mut headers: HashMap<String, String> = HashMap::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.trim_end().split_once(':') else {
            break;
        };
        let (name, value) = (name.to_ascii_lowercase(), value.trim());
        let joined = match headers.remove(&name) {
            Some(before) => format!("{before} and {value}"),
            None => value.to_owned(),
        };
        headers.insert(name, joined);
    }
    let length = headers.get("content-length").map_or("0", String::as_str);
    let mut body = vec![0; length.parse().unwrap()];
    reader.read_exact(&mut body)?;
    Ok(Some(HttpRequest {
        line,
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
        bytes: body,
        at: Instant::now(),
    }))
}
