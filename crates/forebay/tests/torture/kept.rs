//! `forebay log deliver` dies between its steps and is repeated: each row of the stream is in the table
//! once.

use forebay_model::failpoint::FailPoint;
use serde_json::{Value, json};

use super::failpoints::each_of;
use super::losses::{forebay, lose_metadata};
use super::numbered::{define, each_once, launch, post, rows, switch};

/// Records before the loss of the metadata, and at the end.
const BEFORE: u64 = 5;
const AFTER: u64 = 9;
const SINKS: [&str; 2] = ["one", "two"];
/// Later attempts die, too, if they reach the point.
const DEATHS_MAX: usize = 2;

#[derive(Clone, Copy)]
struct Walk {
    point: FailPoint,
    /// `--all`; else the stream of the first sink is delivered to the second one.
    all: bool,
    /// The server runs between the attempts.
    serve: bool,
}

fn walk(walk: Walk) {
    let Walk { point, all, serve } = walk;
    let run = format!("{}, all: {all}, serve: {serve}", point.name());
    let root = tempfile::tempdir().unwrap();
    let mut server = launch(root.path()).start();
    let data = server.launch.data.clone();
    let path = define(&server, &SINKS);
    post(&server, &path, 0..BEFORE, 10);
    server.kill();
    lose_metadata(&mut server);
    let path = define(&server, &SINKS);
    server.kill();
    let (code, said) = forebay(&data, &["log", "ls", "--json"], None);
    assert_eq!(code, Some(0), "{run}: {said}");
    let streams: Vec<Value> = serde_json::from_str(&said).unwrap();
    let first = streams.iter().find(|s| {
        let is_of_first = s["name"].as_str().unwrap().contains("/torture/one/");
        is_of_first && s["records"] == json!(BEFORE)
    });
    let first = first.unwrap()["name"].as_str().unwrap();
    let args = if all {
        vec!["log", "deliver", "--all"]
    } else {
        vec!["log", "deliver", first, "--sink", "torture/two"]
    };
    for death in 0..DEATHS_MAX {
        let (code, said) = forebay(&data, &args, Some(point.name()));
        let says = format!("died at the fail point {}", point.name());
        if death > 0 && code.is_some() {
            break;
        }
        assert!(code.is_none() && said.contains(&says), "{run}: {said}");
        if serve {
            server.restart();
            server.kill();
        }
    }
    let (code, said) = forebay(&data, &args, None);
    let is_delivered = matches!(
        point,
        FailPoint::KeptDelivered | FailPoint::KeptDeleted | FailPoint::KeptForgotten
    );
    let is_gone = !all && is_delivered && said.contains("there is no stream");
    assert!(code == Some(0) || is_gone, "{run}: {said}");
    server.restart();
    post(&server, &path, BEFORE..AFTER, 10);
    switch(&server, "disable");
    each_once(&server, "two", 0..AFTER, &run);
    let of_first = if all { 0 } else { BEFORE };
    each_once(&server, "one", of_first..AFTER, &run);
    server.kill();
    // A partially delivered stream is not delivered again.
    if all {
        let (code, said) = forebay(&data, &args, None);
        let is_done = code == Some(0) && said.contains("nothing to deliver");
        assert!(is_done, "{run}: {said}");
    }
    assert_eq!(rows(&data, "two").len() as u64, AFTER, "{run}");
}

#[test]
fn each_row_of_an_orphan_stream_is_delivered_once_wherever_the_command_dies() {
    let walks = FailPoint::KEPT_STREAM.iter().flat_map(|point| {
        [(true, true), (true, false), (false, true), (false, false)].map(|(all, serve)| Walk {
            point: *point,
            all,
            serve,
        })
    });
    each_of(&walks.collect::<Vec<_>>(), |w| walk(*w));
}
