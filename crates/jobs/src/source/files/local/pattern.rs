//! Patterns of paths, step by step.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use glob::Pattern;

use super::super::name::name_of_step;
use super::path::readable;

#[derive(Debug)]
pub(super) enum PatternStep {
    /// A literal name.
    Name(OsString),
    /// `*.jsonl`.
    Wild(WildcardStep),
    /// `**`: this folder and all below it.
    Deep,
}

#[derive(Debug)]
pub(super) struct WildcardStep {
    pub(super) text: String,
    pub(super) pattern: Result<Pattern, String>,
}

impl WildcardStep {
    pub(super) fn new(text: &str) -> Self {
        let pattern = Pattern::new(text).map_err(|e| format!("{text} is not a pattern: {e}"));
        Self {
            text: text.to_owned(),
            pattern,
        }
    }

    /// Whether the step may be a literal name: names may contain brackets. (`*` and `?` match themselves as
    /// patterns.)
    fn may_be_name(&self) -> bool {
        !self.text.contains(['*', '?'])
    }

    pub(super) fn is_name_in(&self, folder: &Path) -> bool {
        self.may_be_name() && readable(folder).join(&self.text).symlink_metadata().is_ok()
    }
}

pub(super) fn steps_of(text: &str) -> Vec<PatternStep> {
    let steps = text.split('/').filter(|s| !s.is_empty());
    let mut steps: Vec<PatternStep> = steps
        .map(|step| match (step, name_of_step(step)) {
            ("**", _) => PatternStep::Deep,
            (_, Some(name)) => PatternStep::Name(name.into()),
            (_, None) => PatternStep::Wild(WildcardStep::new(step)),
        })
        .collect();
    if matches!(steps.last(), Some(PatternStep::Deep)) {
        steps.push(PatternStep::Wild(WildcardStep::new("*")));
    }
    steps
}

/// The literal path, if all steps may be names.
pub(super) fn literal_path(start: &Path, steps: &[PatternStep]) -> Option<PathBuf> {
    let mut path = start.to_owned();
    for step in steps {
        match step {
            PatternStep::Name(name) => path.push(name),
            PatternStep::Wild(wild) if wild.may_be_name() => path.push(&wild.text),
            PatternStep::Wild(_) | PatternStep::Deep => return None,
        }
    }
    Some(path)
}
