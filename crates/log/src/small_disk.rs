//! A real file system that is really full: for tests, in a process that may mount one or in a user
//! namespace of its own, in which everybody may.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Set in a test that was started again in a namespace.
const INSIDE: &str = "FOREBAY_TEST_IN_NAMESPACE";

/// A file system in memory, unmounted when this is dropped.
#[derive(Debug)]
pub struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// Mounts one of so many bytes ("16m") at a directory, for the test of this name: with its
    /// modules, without its crate, as `cargo test` prints it.
    ///
    /// Where this process may not mount, the test is started again in a user and mount namespace
    /// (`unshare`), where it may. `None`: it passed there; or that is not possible either, and
    /// standard error says that it was skipped.
    ///
    /// # Panics
    /// When the test failed in the namespace. When there is no way to mount and `CI=true`: there,
    /// nothing may go untested.
    #[must_use]
    pub fn mount(at: &Path, size: &str, test: &str) -> Option<Self> {
        let refused = match run(&mut tmpfs(Command::new("mount"), size, at)) {
            Ok(_) => return Some(Self { at: at.to_owned() }),
            Err(refused) => refused,
        };
        assert!(
            std::env::var_os(INSIDE).is_none(),
            "{test}: no file system can be mounted in a user namespace: {refused}"
        );
        // What is mounted in a namespace goes with it: this only tries whether it can be.
        match run(&mut tmpfs(namespace("mount"), size, at)) {
            Ok(_) => again(test),
            Err(too) => skip(test, &format!("{refused}; in a user namespace: {too}")),
        }
        None
    }

    /// Makes it read-only ("ro") or not ("rw"); whether that was possible.
    #[must_use]
    pub fn remount(&self, option: &str) -> bool {
        // Of the mount, not of the file system: all of its options could be repeated by root only.
        let option = format!("remount,bind,{option}");
        let mut mount = Command::new("mount");
        run(mount.args(["-o", &option]).arg(&self.at)).is_ok()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: what is still open must not keep it.
        drop(run(Command::new("umount").arg("-l").arg(&self.at)));
    }
}

fn tmpfs(mut mount: Command, size: &str, at: &Path) -> Command {
    let size = format!("size={size}");
    mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at);
    mount
}

/// A program in namespaces of its own, where this user is root.
fn namespace(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-root-user", "--mount", "--"]);
    unshare.arg(program);
    unshare
}

/// What it printed, or why it failed.
fn run(command: &mut Command) -> Result<String, String> {
    let done = command.output().map_err(|e| {
        let program = command.get_program().display();
        format!("{program}: {e}")
    })?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if done.status.success() {
        return Ok(text(&done.stdout));
    }
    Err(format!("{} {}", text(&done.stdout), text(&done.stderr)))
}

fn again(test: &str) {
    let exe = std::env::current_exe().expect("a test knows its own file");
    let mut command = namespace(exe);
    command.args([test, "--exact", "--include-ignored", "--nocapture"]);
    let said = match run(command.env(INSIDE, "1")) {
        Ok(said) => said,
        Err(said) => panic!("{test}, in a user namespace: {said}"),
    };
    assert!(said.contains("1 passed"), "{test} is no test: {said}");
}

#[expect(
    clippy::print_stderr,
    reason = "what was not tested must be seen in a test's output"
)]
fn skip(test: &str, why: &str) {
    let is_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(
        !is_ci,
        "{test}: CI has to run where a file system can be mounted, by root or in a user namespace: {why}"
    );
    eprintln!("SKIPPED: {test}: a file system can't be mounted: {why}");
}
