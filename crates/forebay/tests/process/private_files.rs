//! Files of Forebay are for their owner only, with any umask.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::server::{Server, forebay};

/// Directories and files below `dir` that others may read.
fn readable_by_others(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(path) = left.pop() {
        // Files appear and disappear while the server works.
        let Ok(metadata) = std::fs::symlink_metadata(&path) else {
            continue;
        };
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            found.push(format!("{mode:04o} {}", path.display()));
        }
        if metadata.is_dir() {
            let entries = std::fs::read_dir(&path).into_iter().flatten();
            left.extend(entries.filter_map(|e| Some(e.ok()?.path())));
        }
    }
    found
}

/// `sh` with umask 000.
fn open_to_all(command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "umask 000; exec \"$0\" \"$@\""]);
    shell.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.stdin(Stdio::null());
    shell
}

#[test]
fn the_data_directory_of_a_server_is_for_its_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("new/data");
    let server = Server::start_by(open_to_all, &data);
    let path = server.define();
    for n in 0..100 {
        server.post(&path, &format!("{{\"n\":{n}}}"));
    }
    server.settled("events", "events", 100);
    let below = dir.path().join("new");
    assert_eq!(readable_by_others(&below), Vec::<String>::new());
    assert!(data.join("tables.db").exists() && data.join("staging").exists());
    server.kill();
    // A directory that the user opened to others is not changed, but reported.
    std::fs::set_permissions(&data, PermissionsExt::from_mode(0o755)).unwrap();
    let server = Server::start(&data);
    server.logged("WARN", "chmod 700");
}

#[test]
fn a_buffer_and_a_job_are_for_their_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("in.jsonl"), "{\"id\":1}\n{\"id\":\"x\"}\n").unwrap();
    let made = dir.path().join("made");
    std::fs::create_dir(&made).unwrap();
    std::fs::set_permissions(&made, PermissionsExt::from_mode(0o700)).unwrap();
    let job = made.join("job.yaml");
    let text = "source: {type: files, paths: [../in.jsonl]}\n\
                destination: {type: table, store: {type: sqlite, path: out.db}, table: t, \
                columns: [{name: id, type: integer, key: true}]}\n";
    std::fs::write(&job, text).unwrap();
    std::fs::set_permissions(&job, PermissionsExt::from_mode(0o600)).unwrap();
    let ended = open_to_all(forebay().args(["job", "run", job.to_str().unwrap()])).output();
    assert_eq!(ended.as_ref().unwrap().status.code(), Some(6), "{ended:?}");
    let buffer = made.join("buffer");
    let messages = dir.path().join("messages");
    std::fs::write(&messages, "a\nb\n").unwrap();
    let mut send = forebay();
    send.args([
        "buffer",
        "send",
        "--dir",
        buffer.to_str().unwrap(),
        "--topic",
        "t",
    ]);
    send.args(["--http", "http://127.0.0.1:1", "--drain", "100ms"]);
    let mut send = open_to_all(&send);
    let ended = send.stdin(std::fs::File::open(&messages).unwrap()).output();
    assert!(buffer.exists(), "{ended:?}");
    assert_eq!(readable_by_others(&made), Vec::<String>::new());
}
