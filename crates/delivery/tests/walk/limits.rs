//! Each limit at its edge and one past it.

use std::time::Duration;

use forebay_model::{ByteSize, HumanDuration};

use crate::client::{Client, gzip, post};
use crate::world::{World, config, stream};

fn chunked(path: &str, chunks: &[&[u8]]) -> Vec<u8> {
    let mut request =
        format!("POST {path} HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n")
            .into_bytes();
    for chunk in chunks {
        request.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        request.extend_from_slice(chunk);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"0\r\n\r\n");
    request
}

#[tokio::test]
async fn bodies() {
    let mut config = config();
    config.max_request_body_size = ByteSize(1000);
    let w = World::bodies(config).await;
    let mut client = w.client().await;
    assert_eq!(
        client
            .send(&post(&stream(), "", &[b'x'; 1000]))
            .await
            .status,
        200
    );
    assert_eq!(
        client
            .send(&chunked(&stream(), &[&[b'x'; 999], b"x"]))
            .await
            .status,
        200
    );
    let answer = client.send(&post(&stream(), "", &[b'x'; 1001])).await;
    assert_eq!(answer.status, 413);
    assert_eq!(answer.json()["error"], "stream.in.bodyTooLarge");
    assert_eq!(
        answer.json()["message"],
        "Request body size is over the maximum \"1000B\"."
    );
    assert!(client.is_closed().await);
    let mut client = w.client().await;
    let answer = client
        .send(&chunked(&stream(), &[&[b'x'; 999], b"xx"]))
        .await;
    assert_eq!(answer.status, 413);
    // A client that sends `Expect` need not send its body.
    let mut client = w.client().await;
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: t\r\nContent-Length: 99999999\r\nExpect: 100-continue\r\n\r\n",
        stream()
    );
    assert_eq!(client.send(head.as_bytes()).await.status, 413);
    assert_eq!(w.rows("k").await.len(), 2);
    assert_eq!(w.limiter.held(), 0);
}

#[tokio::test]
async fn gzip_bodies() {
    let mut config = config();
    config.max_inflated_body_size = ByteSize(5000);
    let w = World::bodies(config).await;
    let mut client = w.client().await;
    let header = "Content-Encoding: gzip\r\n";
    let answer = client
        .send(&post(&stream(), header, &gzip(&[b'x'; 5000])))
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(w.rows("k").await, [format!("\"{}\"", "x".repeat(5000))]);
    let answer = client
        .send(&post(&stream(), header, &gzip(&[b'x'; 5001])))
        .await;
    assert_eq!(answer.status, 413);
    assert!(
        answer.json()["message"]
            .as_str()
            .unwrap()
            .contains("after decompression")
    );
    // A thousand times its size: rejected without being held.
    let bomb = gzip(&vec![0; 500 << 20]);
    assert!(bomb.len() < 600 << 10);
    assert_eq!(
        client.send(&post(&stream(), header, &bomb)).await.status,
        413
    );
    for broken in [&b"not gzip"[..], &gzip(b"abc")[..10]] {
        assert_eq!(
            client.send(&post(&stream(), header, broken)).await.status,
            400
        );
    }
    let answer = client
        .send(&post(&stream(), "Content-Encoding: br\r\n", b"x"))
        .await;
    assert_eq!(answer.status, 415);
    assert_eq!(
        answer.json()["message"],
        "Unsupported content encoding \"br\", supported: gzip, deflate, zstd."
    );
    let answer = client
        .send(&post(&stream(), "Content-Encoding: identity\r\n", b"x"))
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(w.rows("k").await.len(), 2);
    assert_eq!(w.limiter.held(), 0);
}

#[tokio::test]
async fn headers() {
    let mut config = config();
    config.max_header_size = ByteSize(2000);
    let w = World::bodies(config).await;
    let mut client = w.client().await;
    let bare = post(&stream(), "X-Pad: \r\n", b"").len();
    let request = |size: usize| {
        let pad = "x".repeat(size - bare);
        post(&stream(), &format!("X-Pad: {pad}\r\n"), b"")
    };
    assert_eq!(request(2000).len(), 2000);
    assert_eq!(client.send(&request(2000)).await.status, 200);
    let answer = client.send(&request(2001)).await;
    assert_eq!(answer.status, 431);
    assert_eq!(answer.json()["error"], "stream.in.headerTooLarge");
    // A far too large header is rejected before it is complete.
    let mut client = w.client().await;
    client
        .write(format!("POST / HTTP/1.1\r\nX: {}", "x".repeat(70 << 10)).as_bytes())
        .await;
    assert_eq!(client.answer().await.unwrap().status, 431);
}

#[tokio::test]
async fn connections() {
    let mut config = config();
    config.max_connections = 2;
    let w = World::bodies(config).await;
    let (mut a, mut b) = (w.client().await, w.client().await);
    assert_eq!(a.post(&stream(), "{}").await.status, 200);
    assert_eq!(b.post(&stream(), "{}").await.status, 200);
    let mut c = w.client().await;
    let answer = c.answer().await.unwrap();
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("1"))
    );
    assert!(c.is_closed().await);
    drop(a);
    // The connection is released as soon as the server has noticed its end.
    loop {
        let mut d = w.client().await;
        d.write(&post(&stream(), "", b"{}")).await;
        match d.answer().await.map(|a| a.status) {
            Some(200) => break,
            Some(503) | None => tokio::task::yield_now().await,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(b.post(&stream(), "{}").await.status, 200);
}

#[tokio::test]
async fn bytes_in_flight() {
    let mut config = config();
    config.max_bytes_in_flight = ByteSize(1000);
    let w = World::bodies(config).await;
    // Half a body reserves memory for the whole of it.
    let mut slow = w.client().await;
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: t\r\nContent-Length: 600\r\n\r\nx",
        stream()
    );
    slow.write(head.as_bytes()).await;
    while w.limiter.held() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(w.limiter.held(), 600);
    let mut client = w.client().await;
    let answer = client.send(&post(&stream(), "", &[b'x'; 401])).await;
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (429, Some("1"))
    );
    assert_eq!(answer.json()["error"], "stream.in.tooManyRequests");
    let mut client = w.client().await;
    assert_eq!(
        client.send(&post(&stream(), "", &[b'x'; 400])).await.status,
        200
    );
    let answer = client
        .send(&chunked(&stream(), &[&[b'x'; 300], &[b'x'; 101]]))
        .await;
    assert_eq!(answer.status, 429);
    drop(slow);
    while w.limiter.held() > 0 {
        tokio::task::yield_now().await;
    }
    let mut client = w.client().await;
    assert_eq!(
        client.send(&post(&stream(), "", &[b'x'; 401])).await.status,
        200
    );
    assert_eq!(w.rows("k").await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn slow_bodies() {
    let mut config = config();
    config.request_timeout = HumanDuration::secs(5);
    let w = World::timed(config).await;
    let mut client = w.client().await;
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\n12345",
        stream()
    );
    let started = tokio::time::Instant::now();
    let answer = client.send(head.as_bytes()).await;
    assert_eq!(answer.status, 408);
    assert_eq!(answer.json()["error"], "stream.in.requestTimeout");
    assert_eq!(started.elapsed().as_secs(), 5);
    assert!(client.is_closed().await);
    assert_eq!(w.limiter.held(), 0);
    assert!(w.rows("k").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn slow_headers_and_idle_connections() {
    let mut config = config();
    config.header_read_timeout = HumanDuration::secs(5);
    config.idle_timeout = HumanDuration::secs(20);
    let w = World::timed(config).await;
    let lasts = async |client: &mut Client| {
        let started = tokio::time::Instant::now();
        assert!(client.is_closed().await);
        started.elapsed()
    };
    let near = |time: Duration, secs: u64| {
        let secs = Duration::from_secs(secs);
        assert!(
            (secs..secs + Duration::from_secs(2)).contains(&time),
            "{time:?}"
        );
    };
    let mut slow = w.client().await;
    slow.write(b"POST / HT").await;
    near(lasts(&mut slow).await, 5);
    let mut idle = w.client().await;
    near(lasts(&mut idle).await, 20);
    let mut kept = w.client().await;
    assert_eq!(kept.post(&stream(), "{}").await.status, 200);
    near(lasts(&mut kept).await, 20);
}
