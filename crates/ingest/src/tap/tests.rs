use forebay_model::Timestamp;
use forebay_record::RequestHeaders;

use super::*;

fn record(body: &str) -> RecordContext {
    let request = RequestInfo {
        received: Timestamp::from_millis(0),
        client_ip: [192, 0, 2, 1].into(),
        headers: RequestHeaders::default(),
    };
    RecordContext::new(Arc::new(request), Bytes::from(body.to_owned()))
}

fn selection(every: u64, per_second: u64) -> TapSelection {
    TapSelection {
        source: "1/2/s".parse().unwrap(),
        sink: None,
        stage: TapStage::Received,
        every,
        per_second,
    }
}

fn received(taps: &RecordTaps, source: &str, body: &str) {
    taps.received(&source.parse().unwrap(), || Some(record(body)));
}

async fn sample(reader: &mut TapReader) -> RecordSample {
    loop {
        match reader.next().await.unwrap() {
            TapEvent::Sample(sample) => return *sample,
            TapEvent::Idle => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_gets_the_records_of_its_source() {
    let taps = RecordTaps::new();
    assert!(!taps.is_open());
    let mut reader = taps.open(selection(1, 1000), 1).unwrap();
    assert!(taps.is_open());
    received(&taps, "1/2/other", "x");
    received(&taps, "1/2/s", "a");
    assert_eq!(sample(&mut reader).await.body, "a");
    assert_eq!(
        taps.open(selection(1, 1), 1).unwrap_err(),
        TapOpenError::TooMany(1)
    );
    drop(reader);
    assert!(!taps.is_open());
}

#[tokio::test(start_paused = true)]
async fn every_nth_record_is_sampled() {
    let taps = RecordTaps::new();
    let mut reader = taps.open(selection(3, 1000), 1).unwrap();
    for n in 0..7 {
        received(&taps, "1/2/s", &n.to_string());
    }
    for expected in ["0", "3", "6"] {
        assert_eq!(sample(&mut reader).await.body, expected);
    }
    assert_eq!(reader.lost(), 0);
}

#[tokio::test(start_paused = true)]
async fn samples_above_the_rate_are_lost_and_counted() {
    let taps = RecordTaps::new();
    let mut reader = taps.open(selection(1, 200), 1).unwrap();
    for _ in 0..25 {
        received(&taps, "1/2/s", "a");
    }
    // 200 per second are 10 per refill.
    assert_eq!(reader.lost(), 15);
    for _ in 0..10 {
        sample(&mut reader).await;
    }
    tokio::time::advance(Duration::from_secs(60)).await;
    while !matches!(reader.next().await, Some(TapEvent::Idle)) {}
    for _ in 0..25 {
        received(&taps, "1/2/s", "a");
    }
    assert_eq!(reader.lost(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_does_not_read_holds_a_bounded_queue() {
    let taps = RecordTaps::new();
    let mut reader = taps.open(selection(1, u64::MAX / 1000), 1).unwrap();
    let body = "x".repeat(2 * SAMPLE_BYTES_MAX);
    for _ in 0..1000 {
        received(&taps, "1/2/s", &body);
    }
    let held = reader.queue.bytes.load(Relaxed);
    assert!(held <= QUEUE_BYTES && held > QUEUE_BYTES / 2, "{held}");
    let first = sample(&mut reader).await;
    assert_eq!(
        (first.body.len(), first.body_bytes),
        (SAMPLE_BYTES_MAX, body.len())
    );
    let mut read = 1;
    while let Some(TapEvent::Sample(_)) = reader.next().await {
        read += 1;
    }
    assert_eq!(read + reader.lost(), 1000);
    assert_eq!(reader.queue.bytes.load(Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn closing_ends_all_readers() {
    let taps = RecordTaps::new();
    let mut reader = taps.open(selection(1, 1), 1).unwrap();
    taps.close();
    assert!(reader.next().await.is_none());
    assert_eq!(
        taps.open(selection(1, 1), 1).unwrap_err(),
        TapOpenError::Stopping
    );
}
