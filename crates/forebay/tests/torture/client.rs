//! Clients that post numbered records and record the responses.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use forebay_test_support::{HttpClient, SeededRandom};
use serde_json::json;

/// The check value of a record with this id.
pub(crate) fn check_of(id: &str) -> String {
    let sum = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
    });
    format!("{sum:016x}")
}

/// Attempts of one record.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fate {
    /// How often it was sent completely.
    pub(crate) sent: u8,
    /// How often it was acknowledged.
    pub(crate) acknowledged: u8,
}

/// Result of one client: attempts by record number.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    pub(crate) fates: Vec<Fate>,
    /// Requests whose response was not read.
    pub(crate) answers_lost: u64,
    /// Requests that were sent partially.
    pub(crate) half_sent: u64,
    /// Requests that were sent again.
    pub(crate) repeated: u64,
}

/// State shared by the clients.
pub(crate) struct Load<'a> {
    pub(crate) source: SocketAddr,
    pub(crate) path: &'a str,
    pub(crate) seed: u64,
    pub(crate) stop: &'a AtomicBool,
    /// Pause between two requests of a client.
    pub(crate) pause: Duration,
    /// Records acknowledged by all clients.
    pub(crate) acknowledged: &'a AtomicU64,
}

/// The records of one request.
struct Request {
    numbers: std::ops::Range<usize>,
    body: Vec<u8>,
    kind: &'static str,
}

impl Request {
    fn new(client: u64, first: usize, random: &mut SeededRandom) -> Self {
        let count = match random.below(4) {
            0 => 1 + random.below(40),
            _ => 1,
        };
        let numbers = first..first + usize::try_from(count).unwrap();
        let lines = numbers.clone().map(|n| {
            let id = format!("{client}-{n}");
            let pad = "x".repeat(usize::try_from(random.below(400)).unwrap());
            json!({"id": id, "nested": {"check": check_of(&id)}, "pad": pad}).to_string()
        });
        let body = lines.collect::<Vec<_>>().join("\n").into_bytes();
        let kind = if count == 1 {
            "application/json"
        } else {
            "application/x-ndjson"
        };
        Self {
            numbers,
            body,
            kind,
        }
    }

    /// Sends the first `length` bytes of the body and disconnects without reading a response.
    fn send_and_leave(&self, load: &Load<'_>, length: usize) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(load.source)?;
        write!(
            stream,
            "POST {} HTTP/1.1\r\nHost: x\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n",
            load.path,
            self.kind,
            self.body.len()
        )?;
        stream.write_all(&self.body[..length])?;
        stream.shutdown(Shutdown::Both)
    }
}

/// Posts until told to stop. A request without a response is sometimes repeated, as careful senders do:
/// each attempt may be stored once.
pub(crate) fn run(client: u64, load: &Load<'_>) -> Sent {
    let mut random = SeededRandom::new(load.seed ^ (client << 32));
    let mut http = HttpClient::new(load.source);
    let mut sent = Sent::default();
    let mut again: Option<Request> = None;
    while !load.stop.load(Ordering::Relaxed) {
        let is_repeated = again.is_some();
        let request = again
            .take()
            .unwrap_or_else(|| Request::new(client, sent.fates.len(), &mut random));
        if !is_repeated {
            sent.fates.resize(request.numbers.end, Fate::default());
        }
        sent.repeated += u64::from(is_repeated);
        std::thread::sleep(load.pause);
        if random.one_in(200) {
            let half = request.body.len() / 2;
            sent.half_sent += u64::from(request.send_and_leave(load, half).is_ok());
            continue;
        }
        let fates = &mut sent.fates[request.numbers.clone()];
        fates.iter_mut().for_each(|f| f.sent += 1);
        let is_acknowledged = if random.one_in(200) {
            // Sent completely or partially, it may be stored.
            drop(request.send_and_leave(load, request.body.len()));
            false
        } else {
            let headers = [("Content-Type", request.kind)];
            let answer = http.send("POST", load.path, &headers, &request.body);
            answer.is_ok_and(|a| a.status == 200)
        };
        if is_acknowledged {
            fates.iter_mut().for_each(|f| f.acknowledged += 1);
            let count = request.numbers.len() as u64;
            load.acknowledged.fetch_add(count, Ordering::Relaxed);
            continue;
        }
        sent.answers_lost += 1;
        if fates[0].sent < 5 && random.one_in(2) {
            again = Some(request);
        }
        // The server may be down: do not spin.
        std::thread::sleep(Duration::from_millis(10));
    }
    sent
}
