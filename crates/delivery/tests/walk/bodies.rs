//! Declared properties of a body: compression, charsets, batch types, `batch`.

use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, ZlibEncoder};
use forebay_model::{ByteSize, ColumnKind};
use serde_json::json;

use crate::client::{Answer, Client, gzip, post};
use crate::world::{SinkDef, World, config, path, plain, stream};

fn both() -> Vec<SinkDef> {
    vec![
        SinkDef("k", vec![path("i")], plain()),
        SinkDef("b", vec![ColumnKind::Body], plain()),
    ]
}

async fn send(client: &mut Client, headers: &str, body: &[u8]) -> Answer {
    client.send(&post(&stream(), headers, body)).await
}

fn typed(content_type: &str) -> String {
    format!("Content-Type: {content_type}\r\n")
}

fn zlib(data: &[u8]) -> Vec<u8> {
    let mut out = ZlibEncoder::new(Vec::new(), Compression::best());
    out.write_all(data).unwrap();
    out.finish().unwrap()
}

fn raw_deflate(data: &[u8]) -> Vec<u8> {
    let mut out = DeflateEncoder::new(Vec::new(), Compression::best());
    out.write_all(data).unwrap();
    out.finish().unwrap()
}

/// A frame of RFC 8878 with one raw block.
fn zstd(data: &[u8]) -> Vec<u8> {
    let length = u8::try_from(data.len()).unwrap();
    let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0x20, length];
    let block = (u32::from(length) << 3) | 1;
    frame.extend_from_slice(&block.to_le_bytes()[..3]);
    frame.extend_from_slice(data);
    frame
}

#[tokio::test]
async fn bodies_in_each_coding_are_accepted() {
    let w = World::start(config(), both()).await;
    let mut client = w.client().await;
    let data = b"{\"i\":7}";
    let padded = [gzip(data), vec![0; 512]].concat();
    for (coding, body) in [
        ("gzip", gzip(data)),
        ("X-GZIP", gzip(data)),
        ("gzip", padded),
        ("deflate", zlib(data)),
        ("deflate", raw_deflate(data)),
        ("zstd", zstd(data)),
        ("identity", data.to_vec()),
        ("gzip, deflate", zlib(&gzip(data))),
        ("identity,zstd , gzip", gzip(&zstd(data))),
    ] {
        let headers = format!(
            "Content-Encoding: {coding}\r\n{}",
            typed("application/json")
        );
        let answer = send(&mut client, &headers, &body).await;
        assert_eq!((answer.status, answer.text()), (200, "OK"), "{coding}");
    }
    let two = format!(
        "Content-Encoding: gzip\r\nContent-Encoding: zstd\r\n{}",
        typed("application/json")
    );
    assert_eq!(
        send(&mut client, &two, &zstd(&gzip(data))).await.status,
        200
    );
    let rows = w.rows("k").await;
    assert_eq!(rows, vec!["\"7\""; 10]);
    for coding in ["br", "gzip, br", "compress", "*", "gzip;q=1", "gzip gzip"] {
        let headers = format!("Content-Encoding: {coding}\r\n");
        let answer = send(&mut client, &headers, b"x").await;
        assert_eq!(answer.status, 415, "{coding}");
        assert_eq!(
            answer.header("accept-encoding"),
            Some("gzip, deflate, zstd")
        );
        let said = answer.json();
        assert_eq!(said["error"], "stream.in.unsupportedContentEncoding");
        let text = said["message"].as_str().unwrap();
        assert!(text.ends_with("supported: gzip, deflate, zstd."), "{text}");
    }
    let behind = [gzip(data), b"\0\0{}".to_vec()].concat();
    let answer = send(&mut client, "Content-Encoding: gzip\r\n", &behind).await;
    assert_eq!(answer.status, 400);
    let at = behind.len() - 2;
    assert_eq!(
        answer.json()["message"],
        format!(
            "Malformed request: the body is not valid gzip: 2 unexpected bytes after its end at byte {at}."
        )
    );
    assert_eq!(w.limiter.held(), 0);
}

#[tokio::test]
async fn no_coding_bypasses_the_body_limit() {
    let mut config = config();
    config.max_inflated_body_size = ByteSize::kb(200);
    let w = World::start(config, both()).await;
    let mut client = w.client().await;
    let zeros = vec![0; 4 << 20];
    for (coding, bomb) in [
        ("gzip", gzip(&zeros)),
        ("deflate", zlib(&zeros)),
        ("deflate", raw_deflate(&zeros)),
        ("gzip, gzip", gzip(&gzip(&zeros))),
    ] {
        let headers = format!("Content-Encoding: {coding}\r\n");
        let answer = send(&mut client, &headers, &bomb).await;
        assert_eq!(answer.status, 413, "{coding}");
        assert_eq!(answer.json()["error"], "stream.in.bodyTooLarge");
    }
    let wide = typed("text/plain; charset=iso-8859-1");
    assert_eq!(send(&mut client, &wide, &[0xE9; 120_000]).await.status, 413);
    assert_eq!(w.limiter.held(), 0);
    assert_eq!(w.rows("b").await.len(), 0);
}

#[tokio::test]
async fn charsets_are_honoured_in_values_and_bodies_alike() {
    let w = World::start(config(), both()).await;
    let mut client = w.client().await;
    let utf16: Vec<u8> = "\u{feff}{\"i\":\"é€\"}"
        .encode_utf16()
        .flat_map(u16::to_be_bytes)
        .collect();
    let lines = "{\"i\":1}\n{\"i\":2}".encode_utf16();
    let lines: Vec<u8> = lines.flat_map(u16::to_le_bytes).collect();
    let large = [&b"{\"pad\":\""[..], &[0xE9; 70_000], b"\",\"i\":\"\xE9\"}"].concat();
    let wanted = ["Jörg", "Jörg", "ア", "é€", "é", "Jörg", "1", "2"];
    for (content_type, body) in [
        (
            "application/json; charset=windows-1252",
            &b"{\"i\":\"J\xF6rg\"}"[..],
        ),
        ("text/plain;charset=\"ISO-8859-1\"", b"{\"i\":\"J\xF6rg\"}"),
        (
            "application/x-www-form-urlencoded; charset=Shift_JIS",
            b"i=%83A",
        ),
        ("application/json; charset=utf-16", &utf16),
        ("application/json; charset=latin1", &large),
        (
            "application/x-www-form-urlencoded; charset=windows-1252",
            b"i=J%F6rg&x=%FC",
        ),
        ("application/x-ndjson; charset=utf-16le", &lines),
    ] {
        let answer = send(&mut client, &typed(content_type), body).await;
        assert_eq!(answer.status, 200, "{content_type} {}", answer.text());
    }
    let quoted = wanted.map(|v| format!("\"{v}\""));
    assert_eq!(w.rows("k").await, quoted);
    let bodies = w.rows("b").await;
    assert_eq!(bodies[0], r#""{""i"":""Jörg""}""#);
    assert_eq!(bodies[3], r#""{""i"":""é€""}""#);
    assert_eq!(bodies[5], "\"i=J%C3%B6rg&x=%C3%BC\"");
    let packed = format!(
        "Content-Encoding: gzip\r\n{}",
        typed("application/json; charset=cp1252")
    );
    let answer = send(&mut client, &packed, &gzip(b"{\"i\":\"\x80\"}")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(w.rows("k").await.last().unwrap(), "\"€\"");
    assert_eq!(w.limiter.held(), 0);
}

#[tokio::test]
async fn text_that_can_not_be_decoded_is_rejected() {
    let w = World::start(config(), both()).await;
    let mut client = w.client().await;
    for charset in ["utf-7", "klingon", "x-user-defined", "utf-32"] {
        let answer = send(
            &mut client,
            &typed(&format!("application/json; charset={charset}")),
            b"{\"i\":1}",
        )
        .await;
        assert_eq!(
            (answer.status, &answer.json()["error"]),
            (415, &json!("stream.in.unsupportedCharset"))
        );
        let text = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(
            text.starts_with(&format!("Unsupported charset \"{charset}\"")),
            "{text}"
        );
    }
    let answer = send(
        &mut client,
        &typed("application/json; charset=euc-jp"),
        b"{\"i\":\"\xFF\"}",
    )
    .await;
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.json()["message"],
        "Malformed request: the body is not valid EUC-JP at byte 6."
    );
    assert_eq!(w.limiter.held(), 0);
}

#[tokio::test]
async fn json_is_parsed_under_the_types_that_senders_use() {
    let w = World::start(config(), both()).await;
    let mut client = w.client().await;
    for headers in [
        String::new(),
        typed("application/x-www-form-urlencoded"),
        typed("text/plain; charset=UTF-8"),
        typed("text/json"),
        typed("application/x-json"),
        typed("application/vnd.some_thing+json"),
        typed("application/octet-stream"),
    ] {
        let answer = send(&mut client, &headers, b"{\"i\":1}").await;
        assert_eq!((answer.status, answer.text()), (200, "OK"), "{headers}");
    }
    assert_eq!(w.rows("k").await, vec!["\"1\""; 7]);
    let form = typed("application/x-www-form-urlencoded");
    let answer = send(&mut client, &form, b"{\"i\":1,}").await;
    assert_eq!(answer.status, 422);
    let message = answer.json()["sources"][0]["sinks"][1]["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        message.contains(
            "was read as application/x-www-form-urlencoded; it looks like JSON, but is not: "
        ) && message.ends_with("JSON is sent with Content-Type: application/json."),
        "{message}"
    );
    let answer = client.post(&stream(), "[{\"i\":1}]").await;
    assert!(
        answer
            .text()
            .contains("with ?batch each of its elements is one"),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn a_type_or_a_parameter_declares_a_batch() {
    let w = World::start(config(), vec![SinkDef("k", vec![path("i")], plain())]).await;
    let mut client = w.client().await;
    let (lines, array) = (
        &b"{\"i\":1}\n{\"i\":2}\n"[..],
        &b"[{\"i\":1},{\"i\":2}]"[..],
    );
    for (content_type, query, body) in [
        ("application/x-jsonl", "", lines),
        ("text/x-ndjson", "", lines),
        ("application/jsonlines", "", lines),
        (
            "application/vnd.elasticsearch+x-ndjson;compatible-with=7",
            "",
            lines,
        ),
        ("application/x-ndjson", "", b"{\"i\":1}{\"i\":2}"),
        (
            "application/json-seq",
            "",
            b"\x1e{\"i\":1}\n\x1e{\"i\":\n2}\n",
        ),
        (
            "application/cloudevents-batch+json; charset=UTF-8",
            "",
            array,
        ),
        ("application/json", "?batch", array),
        ("application/json", "?batch=1", array),
        ("application/json", "?x=y&Batch=TRUE", array),
        ("text/plain", "?batch=true", array),
        ("application/x-ndjson", "?batch=true", lines),
    ] {
        let request = post(&format!("{}{query}", stream()), &typed(content_type), body);
        let answer = client.send(&request).await;
        assert_eq!(
            answer.status,
            200,
            "{content_type} {query} {}",
            answer.text()
        );
        assert_eq!(answer.json()["accepted"], 2, "{content_type} {query}");
    }
    assert_eq!(w.rows("k").await.len(), 24);
    for (content_type, query, body) in [
        ("application/json", "?batch=false", &b"{\"i\":3}"[..]),
        ("application/x-ndjson", "?batch=0", b"{\"i\":3}"),
        ("application/cloudevents+json", "", b"{\"i\":3}"),
    ] {
        let request = post(&format!("{}{query}", stream()), &typed(content_type), body);
        assert_eq!(
            client.send(&request).await.text(),
            "OK",
            "{content_type} {query}"
        );
    }
    let answer = client.post(&format!("{}?batch=yes", stream()), "[]").await;
    assert_eq!(
        (answer.status, &answer.json()["error"]),
        (400, &json!("stream.in.badRequest"))
    );
    assert_eq!(
        answer.json()["message"],
        "Invalid query parameter \"batch\": the value is \"yes\", allowed are true, 1 or no value (each element of an array is a record), false or 0 (the body is one record)."
    );
    assert_eq!(w.rows("k").await.len(), 27);
}

#[tokio::test]
async fn rejected_values_of_a_line_are_named_by_line_and_byte() {
    let w = World::start(config(), vec![SinkDef("k", vec![path("i")], plain())]).await;
    let mut client = w.client().await;
    let body = b"{\"i\":1}{\"j\":1} {\"i\":2}\n{\"i\":3}{broken\n";
    let answer = send(&mut client, &typed("application/x-ndjson"), body).await;
    assert_eq!(answer.status, 422);
    let refused = &answer.json()["rejected"];
    assert_eq!(
        refused,
        &json!([
            {"index": 1, "line": 1, "byte": 7, "sinkId": "k", "column": "c0", "statusCode": 422,
             "error": "stream.in.pathNotFound", "message": "Column \"c0\": path \"i\" not found in the body."},
            {"index": 3, "line": 2, "statusCode": 400, "error": "stream.in.badRequest",
             "message": "line 2 is not valid JSON: expected a key in double quotes at character 9 (byte 8 of the line)."},
        ])
    );
    assert_eq!(w.rows("k").await, ["\"1\"", "\"2\""]);
}
