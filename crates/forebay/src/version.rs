//! Version, commit and target of this program.

pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// In one line, without the name.
pub(crate) const LONG: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (",
    env!("BUILD_COMMIT"),
    ", ",
    env!("BUILD_TARGET"),
    ")"
);
