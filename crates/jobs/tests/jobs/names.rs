//! Selection of local files: names of any bytes, links, hidden files, brackets, unreadable folders; and how
//! unreadable ones are reported.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use forebay_jobs::{JobFailure, JobOutcome};
use proptest::prelude::*;
use serde_json::Value as Json;

use crate::apis::PostApi;
use crate::files::{into_table, lines};
use crate::world::{World, dead};

fn write(path: &Path, id: i64) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, lines(id, id + 1)).unwrap();
}

fn bytes(name: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(name))
}

/// Runs a job on `paths`; returns the ids of the rows and the outcome.
async fn read(world: &World, paths: &str) -> (Vec<i64>, JobOutcome) {
    drop(std::fs::remove_file(world.path("rows.db")));
    let definition = world.define(&into_table(paths, ""));
    let (end, summary) = world.run(&definition).await;
    drop(std::fs::remove_dir_all(definition.state_dir()));
    let Ok(connection) = rusqlite::Connection::open(world.path("rows.db")) else {
        return (Vec::new(), end);
    };
    let Ok(mut select) = connection.prepare("SELECT id FROM products ORDER BY id") else {
        return (Vec::new(), end);
    };
    let ids = select.query_map([], |r| r.get(0)).unwrap();
    let ids: Vec<i64> = ids.map(Result::unwrap).collect();
    assert_eq!(summary.read, ids.len() as u64, "each line once: {paths}");
    (ids, end)
}

async fn reads(world: &World, paths: &str, ids: &[i64]) {
    let (found, end) = read(world, paths).await;
    assert_eq!((&found[..], end), (ids, JobOutcome::Complete), "{paths}");
}

/// Reads `paths`: these ids are read nevertheless, and the failure has these texts.
async fn reads_and_names(world: &World, paths: &str, ids: &[i64], messages: &[&str]) {
    let (found, end) = read(world, paths).await;
    let JobOutcome::Failed(JobFailure::Source(text)) = end else {
        panic!("{end:?}")
    };
    assert_eq!(found, ids, "{text}");
    for message in messages {
        assert!(text.contains(message), "{text}");
    }
}

#[tokio::test]
async fn names_are_bytes_and_similar_names_are_different_files() {
    let world = World::new();
    let folder = world.path("in");
    write(&folder.join("plain.jsonl"), 1);
    write(&folder.join(bytes(b"caf\xe9.jsonl")), 2);
    write(&folder.join(bytes(b"caf\xe8.jsonl")), 3);
    write(&folder.join("caf\u{fffd}.jsonl"), 4);
    write(&folder.join("a\nb.jsonl"), 5);
    write(&folder.join("a\\nb.jsonl"), 6);
    write(&folder.join(bytes(b"sub\xff/x.jsonl")), 7);
    reads(&world, "in", &[1, 2, 3, 4, 5, 6]).await;
    reads(&world, "'in/*.jsonl'", &[1, 2, 3, 4, 5, 6]).await;
    reads(&world, "'in/caf?.jsonl'", &[2, 3, 4]).await;
    reads(&world, "'in/**/*'", &[1, 2, 3, 4, 5, 6, 7]).await;
    reads(&world, "'in/sub*/x.jsonl'", &[7]).await;
    // Each dead dead_letter has the name of its file, and each record its own key.
    std::fs::write(folder.join(bytes(b"caf\xe9.jsonl")), "oops\n").unwrap();
    std::fs::write(folder.join(bytes(b"caf\xe8.jsonl")), "oops\n").unwrap();
    let storage = PostApi::new(|v: Json| v.to_string());
    let definition = world.define(&format!(
        "source: {{ type: files, paths: ['in/**/*'] }}\ndestination: {{ type: http, url: {} }}\n",
        storage.serve().await
    ));
    let (end, summary) = world.run(&definition).await;
    assert_eq!(
        (end, summary.read, summary.dead),
        (JobOutcome::Complete, 7, 2)
    );
    assert_eq!(storage.keys.lock().unwrap().len(), 5);
    let dead_letters = dead(&definition.state_dir()).await;
    let origins: Vec<&str> = dead_letters.iter().map(|l| l.origin.as_str()).collect();
    assert!(origins[0].ends_with("in/caf\\xE8.jsonl:1"), "{origins:?}");
    assert!(origins[1].ends_with("in/caf\\xE9.jsonl:1"), "{origins:?}");
}

#[tokio::test]
async fn a_definition_finds_its_files_in_any_folder() {
    for name in [
        &b"exp [1]"[..],
        b"caf\xe9",
        b"a*b?c",
        b"x{1,2}",
        b"[",
        b" #%~",
    ] {
        let world = World::new();
        let folder = world.path("").join(bytes(name));
        write(&folder.join("x.jsonl"), 1);
        write(&folder.join("deep/y.jsonl"), 2);
        let file = folder.join("job.yaml");
        let rows = world.path("rows.db");
        let yaml = into_table("x.jsonl, '**/y*'", "").replace("rows.db", rows.to_str().unwrap());
        std::fs::write(&file, yaml).unwrap();
        let definition =
            forebay_jobs::definition::JobDefinition::read(&file, &|_| Ok(None)).unwrap();
        let (end, summary) = world.run(&definition).await;
        assert_eq!(
            (end, summary.written),
            (JobOutcome::Complete, 2),
            "{name:?}"
        );
    }
}

#[tokio::test]
async fn an_existing_name_with_brackets_is_literal() {
    let world = World::new();
    write(&world.path("r[1].jsonl"), 1);
    write(&world.path("r1.jsonl"), 2);
    write(&world.path("exp [1]/x.jsonl"), 3);
    write(&world.path("a[b]/c/y.jsonl"), 4);
    write(&world.path("s*.jsonl"), 5);
    write(&world.path("sx.jsonl"), 6);
    reads(&world, "'r[1].jsonl'", &[1]).await;
    reads(&world, "'r[12].jsonl'", &[2]).await;
    reads(&world, "'r[[]1].jsonl'", &[1]).await;
    reads(&world, "'exp [1]'", &[3]).await;
    reads(&world, "'exp [1]/*.jsonl'", &[3]).await;
    reads(&world, "'a[b]/**/*.jsonl'", &[4]).await;
    reads(&world, "'s*.jsonl'", &[5, 6]).await;
    reads(&world, "'s[*].jsonl'", &[5]).await;
    write(&world.path("f?[/x.jsonl"), 7);
    reads(&world, "'f[?][[]'", &[7]).await;
}

#[tokio::test]
async fn hidden_files_are_read_only_when_named() {
    let world = World::new();
    write(&world.path("in/x.jsonl"), 1);
    write(&world.path("in/.y.jsonl"), 2);
    write(&world.path("in/.trash/z.jsonl"), 3);
    std::fs::write(world.path("in/._x.jsonl"), b"\0\x05\x16\x07oops").unwrap();
    reads(&world, "in", &[1]).await;
    reads(&world, "'in/*'", &[1]).await;
    reads(&world, "'in/**/*.jsonl'", &[1]).await;
    let (_, end) = read(&world, "'in/?y.jsonl'").await;
    assert!(matches!(end, JobOutcome::Failed(JobFailure::Source(t)) if t.contains("hidden")));
    reads(&world, "'in/.y*'", &[2]).await;
    reads(&world, "in/.y.jsonl", &[2]).await;
    reads(&world, "'in/.trash/*'", &[3]).await;
    reads(&world, "in/.trash", &[3]).await;
}

#[tokio::test]
async fn each_file_is_read_once_despite_links_and_patterns() {
    let world = World::new();
    write(&world.path("in/sub/a.jsonl"), 1);
    symlink("..", world.path("in/sub/loop")).unwrap();
    symlink("../..", world.path("in/sub/other")).unwrap();
    symlink("loop", world.path("in/sub/third")).unwrap();
    reads(&world, "'in/**/*.jsonl'", &[1]).await;
    // A link to a file, a hard link, and a folder outside that two links lead to.
    write(&world.path("outside/b.jsonl"), 2);
    symlink("sub/a.jsonl", world.path("in/0.jsonl")).unwrap();
    std::fs::hard_link(world.path("in/sub/a.jsonl"), world.path("in/1.jsonl")).unwrap();
    symlink("../outside", world.path("in/x")).unwrap();
    symlink("../outside", world.path("in/y")).unwrap();
    reads(&world, "'in/**/*.jsonl'", &[1, 2]).await;
    reads(&world, "'in/*/*.jsonl', in, 'in/**'", &[1, 2]).await;
    reads(
        &world,
        "in/0.jsonl, in/1.jsonl, in/sub/loop/sub/a.jsonl",
        &[1],
    )
    .await;
    reads(&world, "in/y/b.jsonl", &[2]).await;
    // The file is known by its own name, and a hard link by the first one.
    std::fs::write(world.path("in/sub/a.jsonl"), "oops\n").unwrap();
    let definition = world.define(&into_table("'in/**/*.jsonl'", ""));
    let (end, _) = world.run(&definition).await;
    assert_eq!(end, JobOutcome::Complete);
    let dead_letters = dead(&definition.state_dir()).await;
    assert_eq!(dead_letters.len(), 1);
    assert!(
        dead_letters[0].origin.ends_with("in/1.jsonl:1"),
        "{dead_letters:?}"
    );
}

#[tokio::test]
async fn unreadable_files_are_reported_and_the_others_are_read() {
    let world = World::new();
    write(&world.path("in/a.jsonl"), 1);
    write(&world.path("in/z.jsonl"), 2);
    symlink("nowhere", world.path("in/gone.jsonl")).unwrap();
    let message = ["in/gone.jsonl is a dangling link", "a part"];
    reads_and_names(&world, "in", &[1, 2], &message).await;
    reads_and_names(&world, "'in/**/*'", &[1, 2], &message).await;
    std::fs::remove_file(world.path("in/gone.jsonl")).unwrap();
    symlink("round", world.path("in/round")).unwrap();
    reads_and_names(&world, "'in/**/*'", &[1, 2], &["in/round can't be read"]).await;
    reads(&world, "in", &[1, 2]).await;
    std::fs::remove_file(world.path("in/round")).unwrap();
    // A UTF-16 file has no valid line; large enough for several readers.
    let wide = |text: &str| -> Vec<u8> {
        let units = std::iter::once(0xfeff).chain(text.encode_utf16());
        units.flat_map(u16::to_le_bytes).collect()
    };
    for text in ["{\"id\":3}\n".to_owned(), lines(3, 200_000)] {
        std::fs::write(world.path("in/m.jsonl"), wide(&text)).unwrap();
        let message = ["in/m.jsonl is UTF-16, but has to be UTF-8"];
        reads_and_names(&world, "in", &[1, 2], &message).await;
    }
    // Once repaired, only this file is left to read.
    let definition = world.define(&into_table("in", ""));
    let (end, _) = world.run(&definition).await;
    assert!(
        matches!(end, JobOutcome::Failed(JobFailure::Source(_))),
        "{end:?}"
    );
    std::fs::write(world.path("in/m.jsonl"), "\u{feff}{\"id\":3}\r\n\r\n").unwrap();
    let (end, summary) = world.run(&definition).await;
    assert_eq!(
        (end, summary.read, summary.dead),
        (JobOutcome::Complete, 1, 0)
    );
}

#[tokio::test]
async fn byte_order_marks_are_removed() {
    let world = World::new();
    let text = "\u{feff}{\"id\":1}\r\n\n \t\n\u{feff}\n{\"id\":2}\n\u{feff}{\"id\":3}";
    std::fs::write(world.path("a.jsonl"), text).unwrap();
    let bodies = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let app = {
        let bodies = std::sync::Arc::clone(&bodies);
        axum::Router::new().route(
            "/",
            axum::routing::post(async move |body: bytes::Bytes| {
                bodies.lock().unwrap().push(body);
            }),
        )
    };
    let address = crate::apis::listen(app).await;
    let definition = world.define(&format!(
        "source: {{ type: files, paths: [a.jsonl] }}\n\
         destination: {{ type: http, url: 'http://{address}/', workers: 1 }}\n"
    ));
    let (end, summary) = world.run(&definition).await;
    assert_eq!((end, summary.read), (JobOutcome::Complete, 3));
    let bodies = bodies.lock().unwrap();
    assert_eq!(*bodies, [&b"{\"id\":1}"[..], b"{\"id\":2}", b"{\"id\":3}"]);
}

#[derive(Clone, Debug)]
enum Entry {
    Folder,
    File,
    Link(usize),
    Hard(usize),
}

/// A tree: each entry is in the folder of an earlier one (or in the root), with a random name.
fn tree() -> impl Strategy<Value = Vec<(usize, Vec<u8>, Entry)>> {
    let name = proptest::collection::vec(
        any::<u8>().prop_filter("no name", |b| *b != 0 && *b != b'/'),
        1..6,
    );
    let entry = prop_oneof![
        2 => Just(Entry::Folder),
        3 => Just(Entry::File),
        2 => any::<usize>().prop_map(Entry::Link),
        1 => any::<usize>().prop_map(Entry::Hard),
    ];
    proptest::collection::vec((any::<usize>(), name, entry), 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Every file that is not hidden is read once, or the job reports the files that it could not read.
    #[test]
    fn every_file_of_any_tree_is_read_once(entries in tree()) {
        let world = World::new();
        let root = world.path("in");
        std::fs::create_dir(&root).unwrap();
        let mut folders = vec![root.clone()];
        let mut paths = vec![root];
        let mut wanted = HashMap::new();
        let mut next_id = 0;
        for (at, mut name, entry) in entries {
            let folder = folders[at % folders.len()].clone();
            if matches!(entry, Entry::File | Entry::Hard(_)) {
                name.extend_from_slice(b".jsonl");
            }
            if name.starts_with(b".") {
                name.insert(0, b'd');
            }
            let path = folder.join(bytes(&name));
            if path.symlink_metadata().is_ok() {
                continue;
            }
            match entry {
                Entry::Folder => {
                    std::fs::create_dir(&path).unwrap();
                    folders.push(path.clone());
                }
                Entry::File => {
                    next_id += 1;
                    std::fs::write(&path, lines(next_id, next_id + 1)).unwrap();
                    wanted.insert(next_id, path.clone());
                }
                Entry::Link(to) => symlink(&paths[to % paths.len()], &path).unwrap(),
                Entry::Hard(to) => {
                    let files: Vec<_> = wanted.values().collect();
                    let Some(file) = files.get(to % files.len().max(1)) else { continue };
                    std::fs::hard_link(file, &path).unwrap();
                }
            }
            paths.push(path);
        }
        let mut wanted: Vec<i64> = wanted.into_keys().collect();
        wanted.sort_unstable();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (found, end) = runtime.block_on(read(&world, "'in/**/*.jsonl'"));
        match end {
            JobOutcome::Complete => prop_assert_eq!(found, wanted),
            // There was no file, or a link loops.
            JobOutcome::Failed(JobFailure::Source(text)) => {
                prop_assert!(text.contains("no file matches") || text.contains("can't be read"), "{}", text);
                prop_assert!(found.iter().all(|id| wanted.contains(id)));
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }
}
