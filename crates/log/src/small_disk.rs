//! A small file system that can really fill up, for tests: mounted directly where the process may,
//! or else in its own user namespace.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Set in a test that runs inside a namespace.
const INSIDE: &str = "FOREBAY_TEST_IN_NAMESPACE";

/// A tmpfs, unmounted on drop.
#[derive(Debug)]
pub struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// Mounts a file system of this size ("16m") at a directory, for the test of this name: with
    /// its modules, without its crate, as `cargo test` prints it.
    ///
    /// Where this process may not mount, the test runs again in a user and mount namespace
    /// (`unshare`), where it may. `None`: it passed there; or that is impossible too, and standard
    /// error reports that it was skipped.
    ///
    /// # Panics
    /// When the test failed in the namespace. When nothing can be mounted and `CI=true`: CI must
    /// not skip tests.
    #[must_use]
    pub fn mount(at: &Path, size: &str, test: &str) -> Option<Self> {
        let error = match run(&mut tmpfs(Command::new("mount"), size, at)) {
            Ok(_) => return Some(Self { at: at.to_owned() }),
            Err(error) => error,
        };
        assert!(
            std::env::var_os(INSIDE).is_none(),
            "{test}: no file system can be mounted in a user namespace: {error}"
        );
        // This mount vanishes with its namespace: it only tests whether mounting is possible.
        match run(&mut tmpfs(namespace("mount"), size, at)) {
            Ok(_) => rerun(test),
            Err(nested) => skip(test, &format!("{error}; in a user namespace: {nested}")),
        }
        None
    }

    /// Remounts read-only ("ro") or writable ("rw"); returns whether that was possible.
    #[must_use]
    pub fn remount(&self, option: &str) -> bool {
        // Of the mount, not of the file system: only root could repeat all options of the latter.
        let option = format!("remount,bind,{option}");
        let mut mount = Command::new("mount");
        run(mount.args(["-o", &option]).arg(&self.at)).is_ok()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: open files must not prevent it.
        drop(run(Command::new("umount").arg("-l").arg(&self.at)));
    }
}

fn tmpfs(mut mount: Command, size: &str, at: &Path) -> Command {
    let size = format!("size={size}");
    mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at);
    mount
}

/// A program in its own namespaces, where this user is root.
fn namespace(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-root-user", "--mount", "--"]);
    unshare.arg(program);
    unshare
}

/// Returns the standard output, or the error.
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

fn rerun(test: &str) {
    let exe = std::env::current_exe().expect("the path of the test binary is known");
    let mut command = namespace(exe);
    command.args([test, "--exact", "--include-ignored", "--nocapture"]);
    let output = match run(command.env(INSIDE, "1")) {
        Ok(output) => output,
        Err(output) => panic!("{test}, in a user namespace: {output}"),
    };
    assert!(output.contains("1 passed"), "no test {test}: {output}");
}

#[expect(
    clippy::print_stderr,
    reason = "a skipped test must be visible in the output"
)]
fn skip(test: &str, why: &str) {
    let is_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(
        !is_ci,
        "{test}: CI must be able to mount a file system, as root or in a user namespace: {why}"
    );
    eprintln!("SKIPPED: {test}: a file system can't be mounted: {why}");
}
