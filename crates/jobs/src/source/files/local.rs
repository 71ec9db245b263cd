//! Local files: resolves the paths and patterns of a definition.
//!
//! Each regular file is found once, regardless of the number of links and patterns that lead to it, and each
//! folder is entered once per step of a pattern, so that link loops end. Anything unreadable is reported with
//! its name and never skipped silently.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};

use super::file_errors::FileErrors;
use super::file_ref::{FILES_MAX, FilePacking, FileRef, packing};
use super::name::{comparable, shown};

mod path;
mod pattern;

use path::{failed, is_link, is_missing, metadata_of, readable};
use pattern::{PatternStep, WildcardStep, literal_path, steps_of};

/// Matches as a shell does: `*` stays within its step, and a leading dot must be explicit.
pub(super) const AS_A_SHELL: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// Identity of a file, regardless of the path to it.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) enum LocalFileId {
    /// The path without links.
    Path(PathBuf),
    /// Device and inode, if the file has several hard links.
    Number(u64, u64),
}

/// A folder to list, from a step of the pattern on.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct PendingFolder {
    path: PathBuf,
    step: usize,
}

/// A file that a pattern matches.
struct FoundFile {
    file: FileRef,
    key: LocalFileId,
    /// The path is a symbolic link.
    by_link: bool,
}

/// Finds the files of several patterns.
pub(super) struct FileFinder<'a> {
    /// Base of relative paths.
    pub(super) folder: &'a Path,
    pub(super) errors: &'a mut FileErrors,
    /// Files found by earlier patterns.
    pub(super) seen: &'a mut HashSet<LocalFileId>,
    /// Polled between any two entries; listing stops early when it is true.
    pub(super) is_stopped: &'a (dyn Fn() -> bool + Sync),
}

/// State of a directory walk.
#[derive(Default)]
struct FolderWalk {
    next: Vec<PendingFolder>,
    /// Links come last: a target that is also in the tree is known by its path there.
    links: BTreeSet<PendingFolder>,
    /// Link-free paths of listed folders, each with the pattern step.
    entered: HashSet<(usize, PathBuf)>,
    found: Vec<FoundFile>,
}

impl FileFinder<'_> {
    /// Finds the files of a pattern, in the order of their names and without those of earlier patterns. True
    /// if there is a file, or an error in its place.
    ///
    /// # Errors
    /// The pattern is invalid, or a literal path can't be read.
    pub(super) fn find(&mut self, text: &str, out: &mut Vec<FileRef>) -> Result<bool, String> {
        let before = self.errors.count();
        let start = if text.starts_with('/') {
            Path::new("/")
        } else {
            self.folder
        };
        let steps = steps_of(text);
        let literal = literal_path(start, &steps);
        let existing = literal.and_then(|path| Some((metadata_of(&path)?, path)));
        let mut walk = FolderWalk::default();
        match existing {
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
        // A file is known by its own name rather than by that of a link, otherwise by the first of its names.
        found.sort_by(|a, b| (a.by_link, &a.file.name).cmp(&(b.by_link, &b.file.name)));
        let from = out.len();
        for FoundFile { file, key, .. } in found {
            if self.seen.insert(key) {
                out.push(file);
            } else {
                tracing::info!(file = %file.name, "skipping another name of the same file");
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

    /// Follows the steps that are literal names; returns the folder to list and its link-free path, or `None`
    /// if it does not exist. A file at the end is added to the found ones.
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

    /// Finds the files of a folder.
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
            // Not stored beyond the limit, which is an error later.
            if walk.found.len() > FILES_MAX {
                return;
            }
            if !pattern.matches_with(&comparable(name.as_bytes()), AS_A_SHELL) {
                return;
            }
            let metadata = match metadata_of(&path) {
                Some(Ok(m)) if m.is_file() => m,
                Some(Err(e)) => return this.errors.add(failed(&path, &e)),
                // A folder or a pipe, or removed meanwhile.
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

    /// Queues the subfolders of a folder, to be listed from a step on. Without a pattern, all that are not
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
            let is_match = match pattern {
                Some(pattern) => pattern.matches_with(&comparable(name.as_bytes()), AS_A_SHELL),
                None => !name.as_bytes().starts_with(b"."),
            };
            if !is_match {
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

    /// Calls `visit` for each entry of a folder, until stopped.
    fn each_entry(
        &mut self,
        folder: &PendingFolder,
        mut visit: impl FnMut(&mut Self, &OsStr, PathBuf),
    ) {
        let listed = match fs::read_dir(readable(&folder.path)) {
            Ok(listed) => listed,
            // It is a file, or was removed meanwhile.
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
                    visit(self, &name, path);
                }
                Err(e) => return self.errors.add(failed(&folder.path, &e)),
            }
        }
    }
}

impl LocalFileId {
    fn new(own: PathBuf, metadata: &Metadata) -> Self {
        if metadata.nlink() > 1 {
            Self::Number(metadata.dev(), metadata.ino())
        } else {
            Self::Path(own)
        }
    }
}

/// A file given by its literal path, which may have any extension.
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn listing_stops_in_the_middle_of_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..100 {
            let deep = dir.path().join(format!("d{n}"));
            fs::create_dir(&deep).unwrap();
            fs::write(deep.join("a.jsonl"), "").unwrap();
            fs::write(dir.path().join(format!("{n}.jsonl")), "").unwrap();
        }
        for most in [0, 1, 50, 250] {
            let polls = AtomicUsize::new(0);
            let mut files = Vec::new();
            let mut finder = FileFinder {
                folder: dir.path(),
                errors: &mut FileErrors::default(),
                seen: &mut HashSet::new(),
                is_stopped: &|| polls.fetch_add(1, Ordering::Relaxed) >= most,
            };
            finder.find("**/*.jsonl", &mut files).unwrap();
            assert!(files.len() < 200, "{most}");
            assert!(polls.into_inner() <= most + 3, "it stops at once: {most}");
        }
    }
}
