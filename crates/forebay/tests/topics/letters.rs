//! Dead letters of a topic, replayed while the server is killed.

use std::collections::BTreeSet;
use std::io::Read;
use std::process::Stdio;

use serde_json::Value;

use crate::endpoint::Endpoint;
use crate::life::HOOKS;
use crate::server::Server;
use crate::{apply, configure, drained, post, start};

/// Number of kills.
const KILLS: u64 = 6;
/// Messages that are rejected and become dead letters.
const DEAD_LETTERS: u64 = 40;

fn listed(server: &Server) -> Vec<String> {
    let text = server.ok(&["dead", "ls", "events", "hooks", "--json"]);
    let letters: Vec<Value> = serde_json::from_str(&text).unwrap();
    let id = |letter: &Value| letter["deadLetterId"].as_str().unwrap().to_owned();
    letters.iter().map(id).collect()
}

/// Replays dead letters one by one, each by its own command, newest first, until the server is killed:
/// after that many, with some more in progress.
fn replay_until_killed(server: &Server, dead_letters: &[String], after: usize) {
    let (before, rest) = dead_letters.split_at(after.min(dead_letters.len()));
    for dead_letter in before {
        server.ok(&["dead", "replay", "events", "hooks", dead_letter]);
    }
    let mut under_way: Vec<_> = rest
        .chunks(4)
        .take(3)
        .map(|chunk| {
            let mut command = server.command(&["dead", "replay", "events", "hooks"]);
            command.args(chunk).stdout(Stdio::null());
            command.stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    if let Some(first) = under_way.first_mut() {
        // When it ends the others are in progress.
        first.wait().unwrap();
    }
    server.signal("KILL");
    for mut command in under_way {
        let mut said = String::new();
        command
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        command.wait().unwrap();
    }
}

#[test]
fn a_replay_that_is_killed_neither_loses_nor_repeats_a_dead_letter() {
    let dir = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::start();
    configure(dir.path(), "127.0.0.1:1", &endpoint);
    let mut server = start(dir.path());
    apply(&server, dir.path(), &HOOKS.replace("METHOD", ""));
    let path = server.path("events");
    (0..DEAD_LETTERS).for_each(|n| endpoint.refuse(n));
    assert!((0..DEAD_LETTERS).all(|n| post(&server, &path, n)));
    assert_eq!(drained(&server, "hooks")["dead"], DEAD_LETTERS);
    (0..DEAD_LETTERS).for_each(|n| endpoint.accept(n));
    for kill in 0..KILLS {
        let mut dead_letters = listed(&server);
        dead_letters.reverse();
        replay_until_killed(&server, &dead_letters, usize::try_from(kill).unwrap());
        drop(server);
        server = start(dir.path());
        let delivery = drained(&server, "hooks");
        assert_eq!(delivery["accepted"], DEAD_LETTERS, "{delivery}");
        let left = listed(&server).len();
        assert_eq!(delivery["dead"], left, "{delivery}");
    }
    let half = listed(&server).len();
    server.ok(&["dead", "replay", "events", "hooks", "--all"]);
    let delivery = drained(&server, "hooks");
    let counts = ["accepted", "delivered", "dead", "discarded"].map(|name| &delivery[name]);
    assert_eq!(
        counts,
        [DEAD_LETTERS, DEAD_LETTERS, 0, 0]
            .map(Value::from)
            .each_ref()
    );
    let (seen, _) = endpoint.seen();
    let all: BTreeSet<u64> = seen.iter().copied().collect();
    assert_eq!(all.len(), seen.len(), "duplicates: {seen:?}");
    assert_eq!(all, (0..DEAD_LETTERS).collect());
    println!("{half} of {DEAD_LETTERS} remained after {KILLS} kills");
    server.signal("TERM");
    assert!(server.end().0.success());
}
