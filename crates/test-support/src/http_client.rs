//! Minimal HTTP/1.1 client: keep-alive, one request at a time, a deadline on everything. Its errors are
//! those of a client of a killed server.

use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than any response takes, shorter than the timeout of a test.
const TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub struct HttpResponse {
    pub status: u16,
    pub body: Vec<u8>,
}

impl HttpResponse {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or(serde_json::Value::Null)
    }
}

#[derive(Debug)]
pub struct HttpClient {
    address: SocketAddr,
    connection: Option<BufReader<TcpStream>>,
}

impl HttpClient {
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            connection: None,
        }
    }

    /// Sends a request and reads the response. After an error the next call reconnects.
    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<HttpResponse, Error> {
        let mut connection = match self.connection.take() {
            Some(open) => open,
            None => self.connect()?,
        };
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n",
            self.address,
            body.len()
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        connection.get_mut().write_all(head.as_bytes())?;
        connection.get_mut().write_all(body)?;
        let (response, keep) = read_response(&mut connection)?;
        if keep {
            self.connection = Some(connection);
        }
        Ok(response)
    }

    fn connect(&self) -> Result<BufReader<TcpStream>, Error> {
        let stream = TcpStream::connect_timeout(&self.address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(BufReader::new(stream))
    }
}

fn read_response(from: &mut BufReader<TcpStream>) -> Result<(HttpResponse, bool), Error> {
    let invalid = |what: &str| Error::new(ErrorKind::InvalidData, what.to_owned());
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Err(Error::new(
            ErrorKind::UnexpectedEof,
            "closed before the answer",
        ));
    }
    let status = line
        .split(' ')
        .nth(1)
        .and_then(|s| s.parse().ok())
        .ok_or_else(|| invalid(&line))?;
    let (mut length, mut chunked, mut keep) = (0, false, true);
    loop {
        let mut header = String::new();
        if from.read_line(&mut header)? == 0 {
            return Err(Error::new(
                ErrorKind::UnexpectedEof,
                "closed within the headers",
            ));
        }
        let header = header.trim_end().to_ascii_lowercase();
        let Some((name, value)) = header.split_once(':') else {
            break;
        };
        match (name, value.trim()) {
            ("content-length", n) => length = n.parse().map_err(|_| invalid(&header))?,
            ("transfer-encoding", "chunked") => chunked = true,
            ("connection", "close") => keep = false,
            _ => {}
        }
    }
    let mut body = Vec::new();
    if chunked {
        loop {
            let mut size = String::new();
            from.read_line(&mut size)?;
            let size = usize::from_str_radix(size.trim(), 16).map_err(|_| invalid(&size))?;
            let mut chunk = vec![0; size + 2];
            from.read_exact(&mut chunk)?;
            if size == 0 {
                break;
            }
            body.extend_from_slice(&chunk[..size]);
        }
    } else {
        body.resize(length, 0);
        from.read_exact(&mut body)?;
    }
    Ok((HttpResponse { status, body }, keep))
}
