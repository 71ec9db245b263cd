//! HTTP itself: keep-alive, pipelining, HTTP/2, TLS, malformed requests, stopping.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay_ingest::source::http::{BindError, TlsConfig};
use forebay_model::ColumnKind;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;

use crate::client::{Client, post};
use crate::world::{SinkDef, World, config, path, plain, stream};

#[tokio::test]
async fn a_connection_is_kept_and_requests_may_be_pipelined() {
    let w = World::bodies(config()).await;
    let mut client = w.client().await;
    let two = [post(&stream(), "", b"1"), post(&stream(), "", b"2")].concat();
    assert_eq!(client.send(&two).await.status, 200);
    assert_eq!(client.answer().await.unwrap().status, 200);
    let close = post(&stream(), "Connection: close\r\n", b"3");
    assert_eq!(client.send(&close).await.status, 200);
    assert!(client.is_closed().await);
    let mut old = w.client().await;
    let request = format!("POST {} HTTP/1.0\r\nContent-Length: 1\r\n\r\n4", stream());
    assert_eq!(old.send(request.as_bytes()).await.status, 200);
    assert!(old.is_closed().await);
    assert_eq!(w.rows("k").await, ["\"1\"", "\"2\"", "\"3\"", "\"4\""]);
}

#[tokio::test]
async fn bodies_may_arrive_in_any_pieces() {
    let w = World::bodies(config()).await;
    let mut client = w.client().await;
    for byte in post(&stream(), "", b"{\"a\":1}") {
        client.write(&[byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.answer().await.unwrap().status, 200);
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n",
        stream()
    );
    client.write(head.as_bytes()).await;
    for part in ["3\r\nabc\r\n", "2;x=y\r\nde\r\n", "0\r\nTrailer: t\r\n\r\n"] {
        client.write(part.as_bytes()).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.answer().await.unwrap().status, 200);
    let asked = format!(
        "POST {} HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n",
        stream()
    );
    assert_eq!(client.send(asked.as_bytes()).await.status, 100);
    assert_eq!(client.send(b"f").await.status, 200);
    assert_eq!(w.rows("k").await, [r#""{""a"":1}""#, "\"abcde\"", "\"f\""]);
}

#[tokio::test]
async fn malformed_requests_are_rejected_and_affect_no_others() {
    let w = World::bodies(config()).await;
    for bytes in [
        "GARBAGE\r\n\r\n".to_owned(),
        "POST / HTTP/9.9\r\n\r\n".to_owned(),
        format!("POST {} HTTP/1.1\r\nBad Header: 1\r\n\r\n", stream()),
        format!(
            "POST {} HTTP/1.1\r\nHost: t\r\nContent-Length: x\r\n\r\n",
            stream()
        ),
        format!(
            "POST {} HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            stream()
        ),
        "\u{0}\u{1}\u{2}\r\n\r\n".to_owned(),
    ] {
        let mut client = w.client().await;
        client.write(bytes.as_bytes()).await;
        let status = client.answer().await.map(|a| a.status);
        assert_eq!(status, Some(400), "{bytes:?}");
        assert!(client.is_closed().await, "{bytes:?}");
    }
    // Clients that disconnect in the middle.
    for bytes in [
        "P",
        "POST /stream",
        "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n12",
    ] {
        w.client().await.write(bytes.as_bytes()).await;
    }
    assert_eq!(w.post("{}").await.status, 200);
    assert_eq!(w.rows("k").await.len(), 1);
}

type Sender = hyper::client::conn::http2::SendRequest<Full<Bytes>>;

async fn http2<S>(stream: S) -> Sender
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let io = TokioIo::new(stream);
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

async fn request(sender: &mut Sender, body: String) -> (u16, Bytes) {
    let request = http::Request::post(format!("http://test.example{}", stream()))
        .header("content-type", "application/json")
        .body(Full::from(body))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    (
        status,
        response.into_body().collect().await.unwrap().to_bytes(),
    )
}

#[tokio::test]
async fn http2_requests_are_concurrent() {
    let sinks = vec![SinkDef("k", vec![path("n"), ColumnKind::Headers], plain())];
    let w = World::start(config(), sinks).await;
    let sender = http2(TcpStream::connect(w.source.address()).await.unwrap()).await;
    let requests: Vec<_> = (0..100)
        .map(|n| {
            let mut sender = sender.clone();
            tokio::spawn(async move { request(&mut sender, format!("{{\"n\":{n}}}")).await })
        })
        .collect();
    for answer in requests {
        assert_eq!(answer.await.unwrap(), (200, Bytes::from_static(b"OK")));
    }
    let rows = w.rows("k").await;
    assert_eq!(rows.len(), 100);
    assert!(
        rows[0].contains("\"\"Host\"\":\"\"test.example\"\""),
        "{}",
        rows[0]
    );
}

#[tokio::test]
async fn cookies_in_several_fields_become_one_header() {
    let w = World::start(
        config(),
        vec![SinkDef("k", vec![ColumnKind::Headers], plain())],
    )
    .await;
    let mut sender = http2(TcpStream::connect(w.source.address()).await.unwrap()).await;
    let request = http::Request::post(format!("http://test.example{}", stream()))
        .header("cookie", "session=abc")
        .header("x-a", "1")
        .header("cookie", "theme=dark")
        .header("x-a", "2")
        .body(Full::from("{}"))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let row = w.rows("k").await.remove(0);
    assert!(
        row.contains(r#"""Cookie"":""session=abc; theme=dark"""#),
        "{row}"
    );
    assert!(row.contains(r#"""X-A"":""1, 2"""#), "{row}");
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

fn tls() -> TlsConfig {
    TlsConfig {
        cert_file: fixture("localhost.cert.pem"),
        key_file: fixture("localhost.key.pem"),
    }
}

async fn tls_stream(w: &World, alpn: &str) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(fixture("localhost.cert.pem")).unwrap();
    roots.add(certificate).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TcpStream::connect(w.source.address()).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let stream = connector.connect(name, stream).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(alpn.as_bytes()));
    stream
}

#[tokio::test]
async fn tls_supports_both_http_versions() {
    let mut config = config();
    config.tls = Some(tls());
    let w = World::bodies(config).await;
    let mut client = Client::over(tls_stream(&w, "http/1.1").await);
    assert_eq!(client.post(&stream(), "{}").await.status, 200);
    let mut sender = http2(tls_stream(&w, "h2").await).await;
    assert_eq!(request(&mut sender, "{}".to_owned()).await.0, 200);
    assert_eq!(w.rows("k").await.len(), 2);
    let mut plain = w.client().await;
    plain.write(&post(&stream(), "", b"{}")).await;
    assert!(!plain.read_all().await.starts_with(b"HTTP"));
}

#[tokio::test]
async fn bind_errors_name_their_cause() {
    let w = World::bodies(config()).await;
    let again = |change: &dyn Fn(&mut forebay_ingest::source::http::HttpSourceConfig)| {
        let mut config = config();
        change(&mut config);
        let deps = forebay_ingest::source::http::HttpSourceDeps {
            dispatcher: Arc::clone(&w.dispatcher),
            memory_limiter: Arc::clone(&w.limiter),
            clock: Arc::new(forebay_model::ManualClock::default()),
        };
        async {
            forebay_ingest::source::http::HttpSourceServer::bind(config, deps)
                .await
                .unwrap_err()
        }
    };
    let address = w.source.address();
    let error = again(&|c| c.listen = address).await;
    assert!(matches!(error, BindError::Listen { .. }));
    assert!(
        error
            .to_string()
            .starts_with(&format!("can't listen on {address}: "))
    );
    let error = again(&|c| {
        c.tls = Some(TlsConfig {
            cert_file: "/nowhere".into(),
            ..tls()
        })
    })
    .await;
    assert!(
        error.to_string().starts_with("certificate file /nowhere: "),
        "{error}"
    );
    let swapped = TlsConfig {
        cert_file: tls().key_file,
        key_file: tls().cert_file,
    };
    let error = again(&|c| c.tls = Some(swapped.clone())).await;
    assert!(
        error.to_string().contains("it holds no certificate"),
        "{error}"
    );
}

#[tokio::test]
async fn stopping_lets_requests_finish_and_closes_what_is_idle() {
    let w = World::bodies(config()).await;
    let address = w.source.address();
    let (mut idle, mut busy) = (w.client().await, w.client().await);
    assert_eq!(idle.post(&stream(), "{}").await.status, 200);
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\n{{",
        stream()
    );
    busy.write(head.as_bytes()).await;
    while w.limiter.held() == 0 {
        tokio::task::yield_now().await;
    }
    let (volume, sinks) = (w.volume.clone(), w.sinks.clone());
    let stopping = tokio::spawn(w.source.stop(Duration::from_secs(60)));
    assert!(idle.is_closed().await);
    assert_eq!(busy.send(b"}").await.status, 200, "it was in progress");
    assert!(stopping.await.unwrap(), "all have finished");
    assert!(busy.is_closed().await);
    assert!(TcpStream::connect(address).await.is_err());
    w.shared.drained().await;
    assert_eq!(
        volume.rows(&crate::world::slice(&sinks[0], 0)).await.len(),
        2
    );
}

#[tokio::test(start_paused = true)]
async fn stopping_does_not_wait_longer_than_its_grace() {
    let w = World::timed(config()).await;
    let mut stuck = w.client().await;
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\n{{",
        stream()
    );
    stuck.write(head.as_bytes()).await;
    while w.limiter.held() == 0 {
        tokio::task::yield_now().await;
    }
    let started = tokio::time::Instant::now();
    assert!(!w.source.stop(Duration::from_secs(3)).await);
    assert_eq!(started.elapsed().as_secs(), 3);
    assert!(stuck.is_closed().await);
    assert_eq!(w.limiter.held(), 0);
}
