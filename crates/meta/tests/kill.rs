//! A process that is killed while it commits: every acknowledged transaction is there afterwards,
//! and each transaction is complete or absent.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use forebay_meta::Store;
use forebay_meta::kv::store::{RANGE_ENTRIES_MAX, Txn};

/// Set in the child process only.
const DIR: &str = "FOREBAY_META_KILL_DIR";
const ACTORS: usize = 6;

/// Child process: commits until it is killed, and prints the acknowledged transactions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_commits_until_it_is_killed() {
    let Ok(dir) = std::env::var(DIR) else {
        return;
    };
    let (dir, round) = dir.split_once('#').unwrap();
    let store = common::open(Path::new(dir));
    let mut actors = tokio::task::JoinSet::new();
    for actor in 0..ACTORS {
        let store = Arc::clone(&store);
        let round = round.to_owned();
        actors.spawn(async move {
            for i in 0u64.. {
                let name = format!("{round}-{actor}-{i}");
                let mut txn = Txn::new();
                txn.put(format!("a/{name}"), "1")
                    .put(format!("b/{name}"), "1");
                let revision = store.txn(txn).await.unwrap();
                // One write for each line, so that lines of different actors don't mix.
                let line = format!("acknowledged {name} {revision}\n");
                std::io::stdout().write_all(line.as_bytes()).unwrap();
            }
        });
    }
    actors.join_next().await.unwrap().unwrap();
}

/// Starts the child, kills it after that many acknowledgements, and returns the lines that it
/// printed.
fn commit_and_kill(dir: &Path, round: usize, after: usize) -> Vec<(String, u64)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_commits_until_it_is_killed", "--nocapture"])
        .env(DIR, format!("{}#{round}", dir.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut acknowledged = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let parts: Vec<&str> = line.split(' ').collect();
        // The kill may have cut the last line.
        if let ["acknowledged", name, revision] = parts[..]
            && let Ok(revision) = revision.parse()
        {
            acknowledged.push((name.to_owned(), revision));
        }
        if acknowledged.len() == after {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(acknowledged.len() >= after);
    acknowledged
}

async fn names(store: &dyn Store, prefix: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut after: Option<String> = None;
    loop {
        let page = store
            .range(prefix, after.as_deref(), RANGE_ENTRIES_MAX)
            .await
            .unwrap();
        after = page.entries.last().map(|e| e.key.clone());
        names.extend(page.entries.iter().map(|e| e.key.replacen(prefix, "", 1)));
        if !page.more {
            return names;
        }
    }
}

#[tokio::test]
async fn acknowledged_transactions_survive_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = BTreeSet::new();
    for (round, after) in [120, 1, 33, 250, 7].into_iter().enumerate() {
        let acknowledged = commit_and_kill(dir.path(), round, after);
        let store = common::open(dir.path());
        let (a, b) = (names(&*store, "a/").await, names(&*store, "b/").await);
        assert_eq!(a, b, "both keys of a transaction or none");
        let head = store.range("a/", None, 1).await.unwrap().revision;
        for (name, revision) in acknowledged {
            assert!(head.0 >= revision, "the revision is not lower");
            expected.insert(name);
        }
        let lost: Vec<_> = expected.difference(&a).collect();
        assert!(lost.is_empty(), "round {round}: {lost:?}");
        assert_eq!(head.0, a.len() as u64, "one revision for each transaction");
    }
}
