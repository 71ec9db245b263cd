//! Embeds the commit and the target for `forebay version`. Outside a git checkout (a tarball, a
//! vendored copy) the commit is `unknown`, which is not an error.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rustc-env=BUILD_COMMIT={}", commit());
    let target = std::env::var("TARGET").unwrap_or_else(|_| "unknown".to_owned());
    println!("cargo:rustc-env=BUILD_TARGET={target}");
    println!("cargo:rerun-if-changed=build.rs");
    // Changes with every commit and checkout; without it cargo would keep the first commit.
    for file in ["../../.git/HEAD", "../../.git/logs/HEAD"] {
        if Path::new(file).exists() {
            println!("cargo:rerun-if-changed={file}");
        }
    }
}

fn commit() -> String {
    let output = Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output();
    match output {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            if text.is_empty() {
                "unknown".to_owned()
            } else {
                text
            }
        }
        _ => "unknown".to_owned(),
    }
}
