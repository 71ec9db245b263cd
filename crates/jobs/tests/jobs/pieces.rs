//! Large files, read in segments by several readers: nothing is lost or duplicated, order and line numbers
//! are right, also after a kill.

use std::fmt::Write as _;

use forebay_jobs::JobOutcome;
use forebay_model::DeadLetterSelection;
use forebay_test_support::poll_until;
use serde_json::Value;

use crate::apis::PostApi;
use crate::files::into_table;
use crate::world::{World, dead};

/// With chunks of 4 KB, a segment has 64 KB.
const SMALL: &str = ", chunkSize: 4KB, readers: 5";

/// Lines of very different lengths, some longer than a segment; the id is the line number.
fn uneven(count: usize) -> String {
    let mut text = String::new();
    for line in 1..=count {
        let length = match line % 97 {
            0 => 150_000,
            n if n % 10 == 0 => 0,
            n => n * 13,
        };
        let pad = "x".repeat(length);
        writeln!(text, "{{\"id\":{line},\"name\":\"{pad}\"}}").unwrap();
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn each_line_is_read_once_at_any_length() {
    let world = World::new();
    let mut text = uneven(1500);
    // The last line has no line feed.
    text.pop();
    std::fs::write(world.path("a.jsonl"), &text).unwrap();
    let (end, summary) = world
        .run(&world.define(&into_table("a.jsonl", SMALL)))
        .await;
    assert_eq!(
        (end, summary.read, summary.written),
        (JobOutcome::Complete, 1500, 1500)
    );
    let bytes: usize = text
        .lines()
        .map(|l| l.split('"').nth(5).unwrap().len())
        .sum();
    let sql = "SELECT sum(length(name)) FROM products";
    assert_eq!(world.number(sql), i64::try_from(bytes).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_lines_have_their_numbers_and_long_ones_are_bad() {
    let world = World::new();
    let text = uneven(1500).replace("\"id\":777,", "\"id\":,");
    std::fs::write(world.path("a.jsonl"), text).unwrap();
    let extra = format!("{SMALL}, maxLineSize: 100KB");
    let definition = world.define(&into_table("a.jsonl", &extra));
    let (end, summary) = world.run(&definition).await;
    assert_eq!(
        (end, summary.read, summary.dead),
        (JobOutcome::Complete, 1500, 16)
    );
    let dead_letters = dead(&definition.state_dir()).await;
    let mut lines: Vec<usize> = dead_letters
        .iter()
        .map(|l| l.origin.rsplit(':').next().unwrap().parse().unwrap())
        .collect();
    lines.sort_unstable();
    let mut bad: Vec<usize> = (1..=15).map(|n| n * 97).collect();
    bad.push(777);
    bad.sort_unstable();
    assert_eq!(lines, bad);
    assert_eq!(world.number("SELECT count(*) FROM products"), 1500 - 16);
    // The lines are still bad and stay dead dead_letters; a replay has the same limit.
    let (end, summary) = world.replay(&definition, DeadLetterSelection::ALL).await;
    assert_eq!((end, summary.dead), (JobOutcome::Complete, 16));
    let again = dead(&definition.state_dir()).await;
    assert_eq!(again.len(), 16);
    assert!(again.iter().all(|l| l.stage == "parse"), "{again:?}");
    let strict = world.define(&into_table("a.jsonl", &format!("{extra}, maxErrors: 3")));
    let (end, _) = world.replay(&strict, DeadLetterSelection::ALL).await;
    let JobOutcome::Failed(forebay_jobs::JobFailure::TooManyErrors(text)) = end else {
        panic!("{end:?}")
    };
    assert!(text.contains("4 bad lines, allowed are 3"), "{text}");
    assert_eq!(dead(&definition.state_dir()).await.len(), 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_later_line_of_a_key_wins_across_segments_and_files() {
    let world = World::new();
    for (file, from) in [("a.jsonl", 0), ("b.jsonl", 20_000), ("c.jsonl", 40_000)] {
        let text: String = (from..from + 20_000)
            .map(|n| format!("{{\"id\":{},\"name\":\"{n}\"}}\n", n % 50))
            .collect();
        std::fs::write(world.path(file), text).unwrap();
    }
    let (end, _) = world
        .run(&world.define(&into_table("'*.jsonl'", SMALL)))
        .await;
    assert_eq!(end, JobOutcome::Complete);
    let sql = "SELECT count(*) FROM products WHERE CAST(name AS INTEGER) = 59950 + id";
    assert_eq!(world.number(sql), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_job_resumes_in_the_middle_of_a_segment() {
    let world = World::new();
    let text: String = (0..20_000)
        .map(|n| format!("{{\"id\":{n},\"name\":\"{}\"}}\n", "y".repeat(n % 40)))
        .collect();
    std::fs::write(world.path("a.jsonl"), &text).unwrap();
    let storage = PostApi::new(|v: Value| v.to_string());
    let definition = world.define(&format!(
        "source: {{ type: files, paths: [a.jsonl]{SMALL} }}\nqueue: 1\n\
         destination: {{ type: http, url: {}, workers: 20 }}\n",
        storage.serve().await
    ));
    for least in [70_000, 200_000, 500_000] {
        let job = world.start(&definition);
        let state = rusqlite::Connection::open(definition.state_dir().join("state.db")).unwrap();
        let done = || {
            let sql = "SELECT coalesce(sum(offset), 0) FROM files";
            state.query_row(sql, [], |r| r.get::<_, i64>(0)).unwrap()
        };
        poll_until("a checkpoint", || done() > least || job.is_over()).await;
        job.kill().await;
    }
    let (end, _) = world.run(&definition).await;
    assert_eq!(end, JobOutcome::Complete);
    let mut ids = storage.ids();
    ids.dedup();
    assert_eq!(ids, (0..20_000).collect::<Vec<_>>());
}
