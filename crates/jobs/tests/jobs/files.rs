//! The files source: complete, compressed, damaged and growing files, and restarts.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use forebay_connect::keyed::CellValue;
use forebay_jobs::{JobFailure, JobOutcome};
use forebay_test_support::poll_until;
use serde_json::{Value as Json, json};

use crate::apis::PostApi;
use crate::world::{World, dead};

/// Lines of products with ids from `from` to `to`.
pub(crate) fn lines(from: i64, to: i64) -> String {
    (from..to)
        .map(|id| format!("{{\"id\":{id},\"name\":\"product {id}\"}}\n"))
        .collect()
}

pub(crate) fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn into_table(paths: &str, extra: &str) -> String {
    format!(
        "source: {{ type: files, paths: [{paths}]{extra} }}\n\
         destination:\n  type: table\n  store: {{ type: sqlite, path: rows.db }}\n  table: products\n\
         \x20 columns: [{{ name: id, type: integer, key: true }}, {{ name: name }}]\n"
    )
}

fn name(row: Option<forebay_connect::keyed::KeyedRow>) -> Option<String> {
    match row?.0.remove(1) {
        CellValue::Text(name) => Some(name),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn plain_and_compressed_files_are_loaded() {
    let world = World::new();
    std::fs::create_dir(world.path("data")).unwrap();
    std::fs::write(world.path("data/products-1.jsonl"), lines(0, 1000)).unwrap();
    std::fs::write(
        world.path("data/products-2.jsonl.gz"),
        // Two members, as appending to a compressed file creates.
        [
            gzip(lines(1000, 2000).as_bytes()),
            gzip(lines(2000, 2500).as_bytes()),
        ]
        .concat(),
    )
    .unwrap();
    let packed = zstd::encode_all(lines(2500, 4000).as_bytes(), 1).unwrap();
    std::fs::write(world.path("data/products-3.jsonl.zst"), packed).unwrap();
    // The last line has no line feed, and replaces an earlier row; empty lines are ignored.
    let last = "\r\n\n{\"id\":7,\"name\":\"new\"}\r\n{\"id\":8,\"name\":\"newer\"}";
    std::fs::write(world.path("data/products-4.jsonl"), last).unwrap();
    std::fs::write(world.path("data/readme.txt"), "not a record").unwrap();
    for paths in ["data/products-*", "data", "'**/*.jsonl*'"] {
        let definition = world.define(&into_table(paths, ", chunkSize: 4KB"));
        let (end, summary) = world.run(&definition).await;
        assert_eq!(
            (end, summary.read, summary.dead),
            (JobOutcome::Complete, 4002, 0),
            "{paths}"
        );
        assert_eq!(summary.written + summary.superseded, 4002);
        assert_eq!(world.number("SELECT count(*) FROM products"), 4000);
        assert_eq!(name(world.row(7).await).unwrap(), "new");
        assert_eq!(name(world.row(8).await).unwrap(), "newer");
        assert_eq!(name(world.row(3999).await).unwrap(), "product 3999");
    }
}

#[tokio::test]
async fn bad_lines_are_dead_letters_with_file_and_line() {
    let world = World::new();
    let mut text = lines(0, 500);
    text.push_str("{\"id\": 500, \"name\"\n{\"name\":\"no id\"}\n\n{\"id\":\"x\"}\n");
    text.push_str(&lines(501, 1000));
    text.push_str(&format!(
        "{{\"id\":1000,\"name\":\"{}\"}}\n",
        "x".repeat(200_000)
    ));
    text.push_str(&lines(1001, 1100));
    std::fs::write(world.path("a.jsonl.gz"), gzip(text.as_bytes())).unwrap();
    let extra = ", maxLineSize: 10KB, chunkSize: 4KB";
    let definition = world.define(&into_table("a.jsonl.gz", extra));
    for _ in 0..2 {
        let (end, summary) = world.run(&definition).await;
        assert_eq!((end, summary.dead), (JobOutcome::Complete, 4));
        assert_eq!(world.number("SELECT count(*) FROM products"), 1098);
        let dead_letters = dead(&definition.state_dir()).await;
        assert_eq!(dead_letters.len(), 4, "a second run finds the same lines");
        let found: Vec<(&str, &str)> = dead_letters
            .iter()
            .map(|l| (l.origin.rsplit(':').next().unwrap(), l.error.as_str()))
            .collect();
        for (dead_letter, (line, error)) in found.iter().zip([
            ("501", "not JSON"),
            ("502", "no value at `id`"),
            ("504", "is \"x\""),
            ("1004", "(maxLineSize)"),
        ]) {
            assert_eq!(dead_letter.0, line, "{found:?}");
            assert!(dead_letter.1.contains(error), "{found:?}");
        }
        assert!(dead_letters[0].origin.ends_with("a.jsonl.gz:501"));
        assert!(dead_letters[0].body.starts_with(b"{\"id\": 500"));
    }
}

#[tokio::test]
async fn too_many_bad_lines_end_the_job() {
    let world = World::new();
    std::fs::write(
        world.path("a.jsonl"),
        format!("{}nonsense\nmore\n", lines(0, 10)),
    )
    .unwrap();
    let definition = world.define(&into_table("a.jsonl", ", max_errors: 1"));
    let (end, _) = world.run(&definition).await;
    let JobOutcome::Failed(JobFailure::TooManyErrors(text)) = end else {
        panic!("{end:?}")
    };
    assert!(
        text.contains("2 bad lines, allowed are 1") && text.contains("a.jsonl:12"),
        "{text}"
    );
}

#[tokio::test]
async fn a_truncated_compressed_file_is_read_up_to_its_end() {
    let world = World::new();
    let whole = gzip(lines(0, 50_000).as_bytes());
    std::fs::write(world.path("a.jsonl.gz"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(world.path("b.jsonl"), lines(90_000, 90_010)).unwrap();
    let packed = zstd::encode_all(lines(60_000, 70_000).as_bytes(), 1).unwrap();
    std::fs::write(world.path("c.jsonl.zst"), &packed[..packed.len() - 100]).unwrap();
    // The checksum of the uncompressed data is wrong.
    let mut damaged = gzip(lines(80_000, 81_000).as_bytes());
    let checksum = damaged.len() - 5;
    damaged[checksum] ^= 0xff;
    std::fs::write(world.path("d.jsonl.gz"), damaged).unwrap();
    let definition = world.define(&into_table("'*.jsonl*'", ""));
    let (end, summary) = world.run(&definition).await;
    assert_eq!(end, JobOutcome::Complete);
    let rows = world.number("SELECT count(*) FROM products WHERE id < 50000");
    assert!((10_000..50_000).contains(&rows), "{rows}");
    assert_eq!(
        world.number("SELECT max(id) FROM products WHERE id < 50000"),
        rows - 1
    );
    assert_eq!(
        world.number("SELECT count(*) FROM products WHERE id >= 90000"),
        10
    );
    let dead_letters = dead(&definition.state_dir()).await;
    assert_eq!(
        (dead_letters.len() as u64, summary.dead),
        (3, 3),
        "{dead_letters:?}"
    );
    assert!(
        dead_letters[0].error.contains("is truncated"),
        "{dead_letters:?}"
    );
    assert!(
        dead_letters[0]
            .origin
            .ends_with(&format!("a.jsonl.gz:{}", rows + 1)),
        "{dead_letters:?} {rows}"
    );
    assert!(
        dead_letters[2].error.contains("damaged"),
        "{dead_letters:?}"
    );
}

#[tokio::test]
async fn compressed_files_may_be_empty_padded_or_followed_by_other_data() {
    let world = World::new();
    let write = |name: &str, bytes: &[u8]| std::fs::write(world.path(name), bytes).unwrap();
    let zstd = |text: &str| zstd::encode_all(text.as_bytes(), 1).unwrap();
    write("a.jsonl.gz", b"");
    write("b.jsonl.zst", b"");
    write("c.jsonl.gz", &gzip(b""));
    write(
        "d.jsonl.gz",
        &[gzip(lines(0, 10).as_bytes()), vec![0; 512]].concat(),
    );
    write(
        "e.jsonl.zst",
        &[zstd(&lines(10, 20)), vec![0; 512]].concat(),
    );
    write("f.jsonl", b"");
    let definition = world.define(&into_table("'*.jsonl*'", ""));
    let (end, summary) = world.run(&definition).await;
    assert_eq!(
        (end, summary.read, summary.dead),
        (JobOutcome::Complete, 20, 0)
    );
    // The last line has no line feed, and is complete.
    let text = lines(20, 30);
    let with_extra = [gzip(text.trim_end().as_bytes()), b"more\n".to_vec()].concat();
    write("g.jsonl.gz", &with_extra);
    write(
        "h.jsonl.zst",
        &[zstd(&lines(30, 40)), b"more\n".to_vec()].concat(),
    );
    let (end, summary) = world.run(&definition).await;
    assert_eq!((end, summary.dead), (JobOutcome::Complete, 2));
    assert_eq!(world.number("SELECT count(*) FROM products"), 40);
    let dead_letters = dead(&definition.state_dir()).await;
    for dead_letter in &dead_letters {
        let message = "the compressed file is complete, but followed by other data, which is ignored: \"more\\n\"";
        assert_eq!(dead_letter.error, message);
    }
    assert!(
        dead_letters[0].origin.ends_with("g.jsonl.gz:11"),
        "{dead_letters:?}"
    );
}

#[tokio::test]
async fn a_killed_job_resumes_in_its_files() {
    let world = World::new();
    let rows = 12_000;
    std::fs::write(world.path("a.jsonl"), lines(0, rows / 2)).unwrap();
    std::fs::write(
        world.path("b.jsonl.gz"),
        gzip(lines(rows / 2, rows).as_bytes()),
    )
    .unwrap();
    let storage = PostApi::new(|v: Json| v.to_string());
    let definition = world.define(&format!(
        "source: {{ type: files, paths: ['*.jsonl*'], chunkSize: 4KB }}\nqueue: 1\n\
         destination: {{ type: http, url: {} }}\n",
        storage.serve().await
    ));
    for least in [10_000, 100_000, 220_000] {
        let job = world.start(&definition);
        let state = rusqlite::Connection::open(definition.state_dir().join("state.db")).unwrap();
        let done = || {
            let sql = "SELECT coalesce(sum(offset), 0) FROM files";
            state.query_row(sql, [], |r| r.get::<_, i64>(0)).unwrap()
        };
        poll_until("a checkpoint", || {
            assert!(
                !job.is_over(),
                "the job ended before {least} bytes were done"
            );
            done() > least
        })
        .await;
        job.kill().await;
    }
    let (end, summary) = world.run(&definition).await;
    assert_eq!(end, JobOutcome::Complete);
    assert!(summary.read < 6000, "the last run resumed: {summary:?}");
    let mut ids = storage.ids();
    // Three kills, each with some unacknowledged chunks of 4 KB.
    assert!(ids.len() < 12_000 + 3 * 1500, "{}", ids.len());
    ids.dedup();
    assert_eq!(ids, (0..rows).collect::<Vec<_>>());
    // The job reached its end, so the next run reads all again.
    let (_, summary) = world.run(&definition).await;
    assert_eq!(summary.read, 12_000);
}

#[tokio::test]
async fn a_stopped_job_resumes_in_a_file_that_has_grown() {
    let world = World::new();
    let file = world.path("a.jsonl");
    std::fs::write(&file, lines(0, 3000)).unwrap();
    let storage = PostApi::new(|v: Json| v.to_string());
    let definition = world.define(&format!(
        "source: {{ type: files, paths: [a.jsonl], chunkSize: 4KB }}\nqueue: 1\n\
         destination: {{ type: http, url: {} }}\n",
        storage.serve().await
    ));
    let job = world.start(&definition);
    poll_until("some records", || storage.count() > 700).await;
    job.stop.cancel();
    assert_eq!(job.end().await.0, JobOutcome::Stopped);
    let before = storage.count();
    assert!(before < 3000, "{before}");
    let mut grown = std::fs::OpenOptions::new()
        .append(true)
        .open(&file)
        .unwrap();
    grown.write_all(lines(3000, 3200).as_bytes()).unwrap();
    let (end, summary) = world.run(&definition).await;
    assert_eq!(end, JobOutcome::Complete);
    assert!(summary.read < 2600, "the run resumed: {summary:?}");
    let mut ids = storage.ids();
    ids.dedup();
    assert_eq!(ids, (0..3200).collect::<Vec<_>>());
    // Records that were sent twice had the same key.
    assert_eq!(storage.keys.lock().unwrap().len(), 3200);
}

#[tokio::test]
async fn another_file_of_the_same_name_is_read_from_its_start() {
    let world = World::new();
    let text = |n: i64| lines(n, n + 1000);
    std::fs::write(world.path("a.jsonl"), format!("{}oops\n", text(0))).unwrap();
    let definition = world.define(&into_table("a.jsonl", ", maxErrors: 0, chunkSize: 4KB"));
    let (end, _) = world.run(&definition).await;
    assert!(matches!(end, JobOutcome::Failed(_)), "{end:?}");
    std::fs::write(world.path("a.jsonl"), text(5000)).unwrap();
    let (end, summary) = world.run(&definition).await;
    assert_eq!((end, summary.read), (JobOutcome::Complete, 1000));
}

#[tokio::test]
async fn missing_files_are_reported() {
    let world = World::new();
    for (paths, message) in [
        ("'no/*.jsonl'", "no file matches"),
        ("'[a'", "not a pattern"),
    ] {
        let definition = world.define(&into_table(paths, ""));
        let (end, _) = world.run(&definition).await;
        let JobOutcome::Failed(JobFailure::Source(text)) = end else {
            panic!("{end:?}")
        };
        assert!(text.contains(message), "{text}");
    }
}

#[tokio::test]
async fn lines_pass_a_processing_api() {
    let world = World::new();
    std::fs::write(world.path("a.jsonl"), lines(0, 200)).unwrap();
    let work = PostApi::new(|mut v: Json| {
        v["name"] = json!("processed");
        v.to_string()
    });
    let definition = world.define(&format!(
        "{}processing: {{ url: {} }}\n",
        into_table("a.jsonl", ""),
        work.serve().await
    ));
    let (end, summary) = world.run(&definition).await;
    assert_eq!(
        (end, summary.processed, summary.written),
        (JobOutcome::Complete, 200, 200)
    );
    assert_eq!(
        world.number("SELECT count(*) FROM products WHERE name = 'processed'"),
        200
    );
}

#[tokio::test]
async fn concatenated_values_are_separate_records() {
    let together = "{\"id\":1,\"name\":\"a\"}{\"id\":2,\"name\":\"}{\"}  {\"id\":3}\n\
                    {\"id\":4}\n{\"id\":5}{\"id\":\"x\"}{\"id\":6}\n{\"id\":7}{\"id\":8\n";
    for name in ["a.jsonl", "a.jsonl.gz"] {
        let world = World::new();
        let bytes = match name {
            "a.jsonl" => together.as_bytes().to_vec(),
            _ => gzip(together.as_bytes()),
        };
        std::fs::write(world.path(name), bytes).unwrap();
        let definition = world.define(&into_table("a.jsonl*", ""));
        let (end, summary) = world.run(&definition).await;
        assert_eq!(
            (end, summary.read, summary.dead),
            (JobOutcome::Complete, 8, 2)
        );
        assert_eq!(
            world.number("SELECT sum(id) FROM products"),
            1 + 2 + 3 + 4 + 5 + 6
        );
        let dead_letters = dead(&definition.state_dir()).await;
        let origins: Vec<&str> = dead_letters
            .iter()
            .map(|l| l.origin.rsplit(':').next().unwrap())
            .collect();
        assert_eq!(origins, ["3.2", "4"]);
        assert_eq!(&dead_letters[0].body[..], b"{\"id\":\"x\"}");
        assert_eq!(&dead_letters[1].body[..], b"{\"id\":7}{\"id\":8");
    }
    // Posted one by one, each with its own key.
    let storage = PostApi::new(|_| String::new());
    let world = World::new();
    let url = storage.serve().await;
    let definition = world.define(&format!(
        "source: {{ type: files, paths: [a.jsonl] }}\ndestination: {{ type: http, url: '{url}' }}\n"
    ));
    std::fs::write(world.path("a.jsonl"), "{\"id\":1}{\"id\":2}\n{\"id\":3}").unwrap();
    assert_eq!(world.run(&definition).await.0, JobOutcome::Complete);
    assert_eq!(storage.ids(), [1, 2, 3]);
    assert_eq!(storage.keys.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn a_line_that_is_too_long_reports_the_lost_bytes() {
    let long = format!("{{\"id\":1,\"name\":\"{}\"}}", "x".repeat(700_000));
    for (name, ending) in [
        ("a.jsonl", "\n"),
        ("b.jsonl", ""),
        ("c.jsonl.gz", "\n"),
        ("d.jsonl", "\r\n"),
    ] {
        let world = World::new();
        let text = format!("{{\"id\":7}}\n{long}{ending}");
        let text = match ending {
            "" => text,
            _ => format!("{text}{{\"id\":8}}{ending}"),
        };
        let bytes = match name.ends_with(".gz") {
            true => gzip(text.as_bytes()),
            false => text.into_bytes(),
        };
        std::fs::write(world.path(name), bytes).unwrap();
        let definition = world.define(&into_table(name, ", maxLineSize: 1KB, chunkSize: 4KB"));
        let (end, summary) = world.run(&definition).await;
        assert_eq!((end, summary.dead), (JobOutcome::Complete, 1), "{name}");
        let rows = if ending.is_empty() { 1 } else { 2 };
        assert_eq!(
            world.number("SELECT count(*) FROM products"),
            rows,
            "{name}"
        );
        let dead_letters = dead(&definition.state_dir()).await;
        assert!(
            dead_letters[0].origin.ends_with(&format!("{name}:2")),
            "{}",
            dead_letters[0].origin
        );
        let length = long.len() + usize::from(ending == "\r\n");
        let error = format!(
            "the line has {length} bytes, allowed are 1024 (maxLineSize): the first 1024 are kept, {} are lost",
            length - 1024
        );
        assert_eq!(dead_letters[0].error, error, "{name}");
        assert_eq!(dead_letters[0].body, long.as_bytes()[..1024]);
    }
}
