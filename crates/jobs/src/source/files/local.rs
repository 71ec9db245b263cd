//! Files of folders: what a path or a pattern of a definition stands for.
//!
//! Each regular file is found once, whatever number of links and patterns lead to it, and each
//! folder is entered once for each step of a pattern, so that loops of links have an end. What can't
//! be looked at is a problem with a name and never left out in silence.

use std::collections::{BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};

use super::file_errors::FileErrors;
use super::list::{FILES_MAX, FilePacking, FileRef, packing};
use super::name::{comparable, name_of_step, shown};

/// As a shell compares: `*` stays in its step, and a leading dot has to be written.
pub(super) const AS_A_SHELL: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// Which file it is, whatever leads to it.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) enum LocalFileId {
    /// By its path without links.
    Path(PathBuf),
    /// By device and number, where it has several names (hard links).
    Number(u64, u64),
}

/// A step of a pattern.
#[derive(Debug)]
enum PatternStep {
    /// A name as it is.
    Name(OsString),
    /// `*.jsonl`.
    Wild(WildcardStep),
    /// `**`: this folder and all below.
    Deep,
}

#[derive(Debug)]
struct WildcardStep {
    text: String,
    pattern: Result<Pattern, String>,
}

impl WildcardStep {
    fn new(text: &str) -> Self {
        let pattern = Pattern::new(text).map_err(|e| format!("{text} is not a pattern: {e}"));
        Self {
            text: text.to_owned(),
            pattern,
        }
    }

    /// Brackets stand in names too: such a step is the name, where that is there. `*` and `?` match
    /// themselves anyway.
    fn may_be_name(&self) -> bool {
        !self.text.contains(['*', '?'])
    }

    fn is_name_in(&self, folder: &Path) -> bool {
        self.may_be_name() && readable(folder).join(&self.text).symlink_metadata().is_ok()
    }
}

/// A folder that is to be looked at, from a step of the pattern on.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct PendingFolder {
    path: PathBuf,
    step: usize,
}

/// A file that a pattern leads to.
struct FoundFile {
    file: FileRef,
    key: LocalFileId,
    /// A link leads to it.
    by_link: bool,
}

/// Finds the files of one pattern after another.
pub(super) struct FileFinder<'a> {
    /// Where relative paths count from.
    pub(super) folder: &'a Path,
    pub(super) errors: &'a mut FileErrors,
    /// What was found by an earlier pattern.
    pub(super) seen: &'a mut HashSet<LocalFileId>,
    /// Looked at between any two entries: listing ends then, with what it has.
    pub(super) is_stopped: &'a (dyn Fn() -> bool + Sync),
}

/// Where a walk is.
#[derive(Default)]
struct FolderWalk {
    next: Vec<PendingFolder>,
    /// Links come last: what lies behind one and is in the tree too is known by its place there.
    links: BTreeSet<PendingFolder>,
    /// Folders without links, and the step at which they were looked at.
    entered: HashSet<(usize, PathBuf)>,
    found: Vec<FoundFile>,
}

impl FileFinder<'_> {
    /// The files of a pattern in the order of their names; those of an earlier pattern are left out.
    /// True when there is any, or a problem in its place.
    ///
    /// # Errors
    /// When the pattern is none, or a path that is no pattern can't be looked at.
    pub(super) fn find(&mut self, text: &str, out: &mut Vec<FileRef>) -> Result<bool, String> {
        let before = self.errors.count();
        let start = if text.starts_with('/') {
            Path::new("/")
        } else {
            self.folder
        };
        let steps = steps_of(text);
        let whole = whole_name(start, &steps);
        let there = whole.and_then(|whole| Some((metadata_of(&whole)?, whole)));
        let mut walk = FolderWalk::default();
        match there {
            Some((Ok(m), whole)) if m.is_file() => walk.found.push(named(whole, &m)?),
            Some((Ok(m), whole)) if m.is_dir() => {
                self.walk(
                    whole,
                    &[PatternStep::Wild(WildcardStep::new("*"))],
                    &mut walk,
                )?;
            }
            Some((Ok(_), whole)) => {
                let name = shown(whole.as_os_str().as_bytes());
                return Err(format!("{name} is neither a file nor a folder"));
            }
            Some((Err(e), whole)) => return Err(failed(&whole, &e)),
            None => self.walk(start.to_owned(), &steps, &mut walk)?,
        }
        let mut found = walk.found;
        if found.len() > FILES_MAX {
            return Err(format!("more than {FILES_MAX} files match {text}"));
        }
        let is_any = !found.is_empty() || self.errors.count() > before;
        // A file is known by its own name rather than by that of a link, and else by its first one.
        found.sort_by(|a, b| (a.by_link, &a.file.name).cmp(&(b.by_link, &b.file.name)));
        let from = out.len();
        for FoundFile { file, key, .. } in found {
            if self.seen.insert(key) {
                out.push(file);
            } else {
                tracing::info!(file = %file.name, "a file that is read has this name too");
            }
        }
        if let Some(new) = out.get_mut(from..) {
            new.sort_by(|a, b| a.name.cmp(&b.name));
        }
        Ok(is_any)
    }

    /// Follows the steps from a folder on.
    fn walk(
        &mut self,
        start: PathBuf,
        steps: &[PatternStep],
        walk: &mut FolderWalk,
    ) -> Result<(), String> {
        walk.next.push(PendingFolder {
            path: start,
            step: 0,
        });
        while let Some(folder) = walk.next.pop().or_else(|| walk.links.pop_first()) {
            if (self.is_stopped)() {
                return Ok(());
            }
            let waiting = walk.next.len() + walk.links.len();
            if walk.entered.len() + walk.found.len() + waiting > FILES_MAX {
                let name = shown(folder.path.as_os_str().as_bytes());
                return Err(format!(
                    "more than {FILES_MAX} files and folders, at {name}"
                ));
            }
            let Some((folder, real)) = self.enter(folder, steps, walk)? else {
                continue;
            };
            if !walk.entered.insert((folder.step, real.clone())) {
                continue;
            }
            let is_last = folder.step + 1 == steps.len();
            match steps.get(folder.step) {
                Some(PatternStep::Deep) => {
                    self.folders(&folder, None, folder.step, walk);
                    walk.next.push(PendingFolder {
                        step: folder.step + 1,
                        ..folder
                    });
                }
                Some(PatternStep::Wild(wild)) => {
                    let pattern = wild.pattern.as_ref().map_err(Clone::clone)?;
                    if is_last {
                        self.files(&folder, &real, pattern, walk);
                    } else {
                        self.folders(&folder, Some(pattern), folder.step + 1, walk);
                    }
                }
                Some(PatternStep::Name(_)) | None => {}
            }
        }
        Ok(())
    }

    /// Goes through the steps that are names, to the folder that is to be listed and its path
    /// without links; nothing when there is none. A file at the end is found.
    fn enter(
        &mut self,
        mut folder: PendingFolder,
        steps: &[PatternStep],
        walk: &mut FolderWalk,
    ) -> Result<Option<(PendingFolder, PathBuf)>, String> {
        loop {
            let name = match steps.get(folder.step) {
                Some(PatternStep::Name(name)) => name.as_os_str(),
                Some(PatternStep::Wild(wild)) if wild.is_name_in(&folder.path) => {
                    OsStr::new(&wild.text)
                }
                _ => break,
            };
            folder.path.push(name);
            folder.step += 1;
        }
        if folder.step == steps.len() {
            match metadata_of(&folder.path) {
                Some(Ok(m)) if m.is_file() => walk.found.push(named(folder.path, &m)?),
                Some(Err(e)) => self.errors.add(failed(&folder.path, &e)),
                Some(Ok(_)) | None => {}
            }
            return Ok(None);
        }
        match fs::canonicalize(readable(&folder.path)) {
            Ok(real) => return Ok(Some((folder, real))),
            Err(e) if is_missing(&e) => {}
            Err(e) => self.errors.add(failed(&folder.path, &e)),
        }
        Ok(None)
    }

    /// The files of a folder.
    fn files(
        &mut self,
        folder: &PendingFolder,
        real: &Path,
        pattern: &Pattern,
        walk: &mut FolderWalk,
    ) {
        self.each_entry(folder, |this, name, path| {
            let Some(packing) = packing(name.as_bytes()) else {
                return;
            };
            // What is beyond is not kept: it ends with an error.
            if walk.found.len() > FILES_MAX {
                return;
            }
            if !pattern.matches_with(&comparable(name.as_bytes()), AS_A_SHELL) {
                return;
            }
            let metadata = match metadata_of(&path) {
                Some(Ok(m)) if m.is_file() => m,
                Some(Err(e)) => return this.errors.add(failed(&path, &e)),
                // A folder of that name, a pipe; or it has gone meanwhile.
                Some(Ok(_)) | None => return,
            };
            let by_link = is_link(&path);
            let own = if by_link {
                fs::canonicalize(&path)
            } else {
                Ok(real.join(name))
            };
            match own {
                Ok(own) => walk.found.push(FoundFile {
                    key: LocalFileId::new(own, &metadata),
                    by_link,
                    file: FileRef::local(path, packing, metadata.len()),
                }),
                Err(e) => this.errors.add(failed(&path, &e)),
            }
        });
    }

    /// The folders of a folder, to be looked at from a step on. Without a pattern all that are not
    /// hidden.
    fn folders(
        &mut self,
        folder: &PendingFolder,
        pattern: Option<&Pattern>,
        step: usize,
        walk: &mut FolderWalk,
    ) {
        self.each_entry(folder, |this, name, path| {
            if walk.next.len() + walk.links.len() > FILES_MAX {
                return;
            }
            let is_wanted = match pattern {
                Some(pattern) => pattern.matches_with(&comparable(name.as_bytes()), AS_A_SHELL),
                None => !name.as_bytes().starts_with(b"."),
            };
            if !is_wanted {
                return;
            }
            match metadata_of(&path) {
                Some(Ok(m)) if m.is_dir() && is_link(&path) => {
                    walk.links.insert(PendingFolder { path, step });
                }
                Some(Ok(m)) if m.is_dir() => walk.next.push(PendingFolder { path, step }),
                // It may be a link to a folder with files.
                Some(Err(e)) => this.errors.add(failed(&path, &e)),
                Some(Ok(_)) | None => {}
            }
        });
    }

    /// Each entry of a folder, until it is stopped.
    fn each_entry(
        &mut self,
        folder: &PendingFolder,
        mut take: impl FnMut(&mut Self, &OsStr, PathBuf),
    ) {
        let listed = match fs::read_dir(readable(&folder.path)) {
            Ok(listed) => listed,
            // It is a file, or has gone meanwhile.
            Err(e) if is_missing(&e) => return,
            Err(e) => return self.errors.add(failed(&folder.path, &e)),
        };
        for entry in listed {
            if (self.is_stopped)() {
                return;
            }
            match entry {
                Ok(entry) => {
                    let name = entry.file_name();
                    let path = folder.path.join(&name);
                    take(self, &name, path);
                }
                Err(e) => return self.errors.add(failed(&folder.path, &e)),
            }
        }
    }
}

impl LocalFileId {
    /// Of a file, by its path without links.
    fn new(own: PathBuf, metadata: &Metadata) -> Self {
        if metadata.nlink() > 1 {
            Self::Number(metadata.dev(), metadata.ino())
        } else {
            Self::Path(own)
        }
    }
}

/// A file that is named by itself, which may have any name.
fn named(path: PathBuf, metadata: &Metadata) -> Result<FoundFile, String> {
    let own = fs::canonicalize(&path).map_err(|e| failed(&path, &e))?;
    let name = path.file_name().unwrap_or_default();
    let packing = packing(name.as_bytes()).unwrap_or(FilePacking::Plain);
    Ok(FoundFile {
        key: LocalFileId::new(own, metadata),
        by_link: is_link(&path),
        file: FileRef::local(path, packing, metadata.len()),
    })
}

fn steps_of(text: &str) -> Vec<PatternStep> {
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

/// The path of steps that may all be names.
fn whole_name(start: &Path, steps: &[PatternStep]) -> Option<PathBuf> {
    let mut whole = start.to_owned();
    for step in steps {
        match step {
            PatternStep::Name(name) => whole.push(name),
            PatternStep::Wild(wild) if wild.may_be_name() => whole.push(&wild.text),
            PatternStep::Wild(_) | PatternStep::Deep => return None,
        }
    }
    Some(whole)
}

/// What is at a path, behind links; nothing when nothing is there. A link that leads nowhere is an
/// error.
fn metadata_of(path: &Path) -> Option<io::Result<Metadata>> {
    match fs::metadata(path) {
        Err(e) if is_missing(&e) && path.symlink_metadata().is_err() => None,
        other => Some(other),
    }
}

fn is_link(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|m| m.is_symlink())
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// The path of a folder as the system takes it: an empty one is the working directory.
fn readable(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    }
}

fn failed(path: &Path, error: &io::Error) -> String {
    let name = shown(path.as_os_str().as_bytes());
    let what = if is_link(path) && is_missing(error) {
        "is a link that leads nowhere"
    } else {
        "can't be read"
    };
    format!("{name} {what}: {error}")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn listing_ends_in_the_middle_of_a_folder_when_it_is_stopped() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..100 {
            let deep = dir.path().join(format!("d{n}"));
            fs::create_dir(&deep).unwrap();
            fs::write(deep.join("a.jsonl"), "").unwrap();
            fs::write(dir.path().join(format!("{n}.jsonl")), "").unwrap();
        }
        for most in [0, 1, 50, 250] {
            let looked = AtomicUsize::new(0);
            let mut files = Vec::new();
            let mut finder = FileFinder {
                folder: dir.path(),
                errors: &mut FileErrors::default(),
                seen: &mut HashSet::new(),
                is_stopped: &|| looked.fetch_add(1, Ordering::Relaxed) >= most,
            };
            finder.find("**/*.jsonl", &mut files).unwrap();
            assert!(files.len() < 200, "{most}");
            assert!(looked.into_inner() <= most + 3, "it ends at once: {most}");
        }
    }
}
