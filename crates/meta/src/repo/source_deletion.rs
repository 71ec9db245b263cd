//! Sources deleted with their sinks, and brought back.

use forebay_model::{Deleted, Source, SourceKey, Stamp, VolumeId};

use super::audit::Action;
use super::definitions::{Branch, Counted, DefinitionError};
use super::portions::{Portion, SinkPages};
use super::sources::put_source;
use super::{Draft, Repo, Revised};
use crate::keys::{self, Key};
use crate::store::Revision;

impl Repo {
    /// Deletes a source and its sinks, which are marked as deleted with it, and closes the sinks'
    /// files: in one transaction, or in several when there are many (`portions`).
    /// Afterwards none of its sinks has a file that is written.
    ///
    /// # Errors
    /// [`DefinitionError::SourceNotFound`], or the store.
    pub async fn delete_source(
        &self,
        key: &SourceKey,
        stamp: &Stamp,
    ) -> Result<Revision, DefinitionError> {
        let mut portion = Portion::new(self.room);
        loop {
            let read = self.source(key).await?;
            let mut sinks = SinkPages::new(keys::below(keys::SINKS, key));
            loop {
                let mut draft = Draft::default();
                // A sink that is made meanwhile writes the source too.
                draft.unchanged(Key::Source(key), &read);
                let is_last = self
                    .draft_deletions(&mut draft, &mut sinks, &mut portion, stamp)
                    .await?;
                if is_last {
                    draft_source_deletion(&mut draft, &read, stamp)?;
                }
                match self.commit(draft).await? {
                    Some(revision) if is_last => return Ok(revision),
                    Some(_) => portion.succeeded(),
                    None => break,
                }
            }
            portion.again().await?;
        }
    }

    /// Deletes sinks with their source, until there are no more (`true`) or the transaction is full.
    async fn draft_deletions(
        &self,
        draft: &mut Draft,
        sinks: &mut SinkPages,
        portion: &mut Portion,
        stamp: &Stamp,
    ) -> Result<bool, DefinitionError> {
        loop {
            let Some(sink) = sinks.next(self).await? else {
                return Ok(true);
            };
            self.draft_sink_deletion(draft, sink, stamp, true).await?;
            if portion.is_full(draft) {
                return Ok(false);
            }
        }
    }

    /// Brings a deleted source back, with the sinks that were deleted with it, and opens their
    /// files. A new version of the source; its sinks keep theirs.
    ///
    /// # Errors
    /// [`DefinitionError::SourceNotFound`] when it is not among the deleted, a limit, no volumes,
    /// or the store.
    pub async fn undelete_source(
        &self,
        key: &SourceKey,
        volumes: &[VolumeId],
        stamp: &Stamp,
    ) -> Result<Revised<Source>, DefinitionError> {
        let mut portion = Portion::new(self.room);
        // This call has brought the source back, and has met others at its sinks.
        let mut is_begun = false;
        loop {
            let Some(read) = self.read::<Source>(Key::DeletedSource(key)).await? else {
                // An earlier call may have stopped before all of its sinks were back.
                let source = self.source(key).await?;
                let back = self.return_sinks(source, None, &mut portion, (volumes, stamp));
                match back.await? {
                    Returned::All(_, 0) if !is_begun => {
                        return Err(DefinitionError::SourceNotFound(key.clone()));
                    }
                    Returned::All(source, _) => return Ok(*source),
                    Returned::Interrupted { .. } => {
                        portion.again().await?;
                        continue;
                    }
                }
            };
            let branch = self.read::<Branch>(Key::Branch(&key.branch)).await?;
            let branch = branch.ok_or(DefinitionError::BranchNotFound(key.branch))?;
            self.check_source_count(&key.branch).await?;
            let mut source = read.value.clone();
            source.deleted = None;
            let what = Counted::SourceVersions;
            source.version = self.undeleted_version(what, &source.version, stamp)?;
            let mut draft = Draft::default();
            draft.unchanged(Key::Branch(&key.branch), &branch);
            draft.put(Key::Branch(&key.branch), &branch.value)?;
            draft.unchanged(Key::DeletedSource(key), &read);
            draft.delete(Key::DeletedSource(key));
            draft.absent(Key::Source(key));
            put_source(&mut draft, &source)?;
            let versions = (Some(&read.version), Some(&source.version));
            draft.audit_source(key, Action::Undelete, versions, stamp)?;
            let source = Revised {
                value: source,
                revision: read.revision,
            };
            let back = self.return_sinks(source, Some(draft), &mut portion, (volumes, stamp));
            match back.await? {
                Returned::All(source, _) => return Ok(*source),
                // Where it is back nevertheless, another one has brought it back.
                Returned::Interrupted { source_is_back } => is_begun |= source_is_back,
            }
            portion.again().await?;
        }
    }

    /// Brings sinks back that were deleted with their source: the first ones in the transaction that
    /// brings the source back (`first`), the others while it stays as it is. The source, with the
    /// last transaction, and how many sinks.
    async fn return_sinks(
        &self,
        mut source: Revised<Source>,
        mut first: Option<Draft>,
        portion: &mut Portion,
        (volumes, stamp): (&[VolumeId], &Stamp),
    ) -> Result<Returned, DefinitionError> {
        let key = source.key.clone();
        let mut sinks = SinkPages::new(keys::below(keys::DELETED_SINKS, &key));
        let (mut returned, mut is_last) = (0, false);
        let mut source_is_back = false;
        while !is_last {
            let writes_source = first.is_some();
            let mut draft = first.take().unwrap_or_default();
            loop {
                match sinks.next(self).await? {
                    Some(sink) if sink.deleted.as_ref().is_some_and(|d| d.with_parent) => {
                        returned += 1;
                        self.draft_sink_return(&mut draft, &source, sink, None, volumes, stamp)
                            .await?;
                    }
                    Some(_) => {}
                    None => {
                        is_last = true;
                        break;
                    }
                }
                if portion.is_full(&draft) {
                    break;
                }
            }
            if !writes_source {
                if draft.txn.ops.is_empty() {
                    continue;
                }
                // Writing the source makes a deletion or a disabling that has not seen these sinks
                // begin anew.
                draft.unchanged(Key::Source(&key), &source);
                draft.put(Key::Source(&key), &source.value)?;
            }
            let Some(committed) = self.commit(draft).await? else {
                return Ok(Returned::Interrupted { source_is_back });
            };
            portion.succeeded();
            source.revision = committed;
            source_is_back |= writes_source;
        }
        Ok(Returned::All(Box::new(source), returned))
    }

    /// Whether a source is back, but not all of its sinks that were deleted with it: bringing it back
    /// goes on where it was.
    ///
    /// # Errors
    /// The store's.
    pub async fn is_partly_undeleted(&self, key: &SourceKey) -> Result<bool, DefinitionError> {
        if self.read::<Source>(Key::Source(key)).await?.is_none() {
            return Ok(false);
        }
        let mut sinks = SinkPages::new(keys::below(keys::DELETED_SINKS, key));
        while let Some(sink) = sinks.next(self).await? {
            if sink.deleted.as_ref().is_some_and(|d| d.with_parent) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// What has become of the sinks that come back with their source.
enum Returned {
    /// All are back, so many.
    All(Box<Revised<Source>>, usize),
    /// Something has changed meanwhile.
    Interrupted {
        /// The transaction that brings the source back had been done before.
        source_is_back: bool,
    },
}

/// Moves a source to the deleted.
fn draft_source_deletion(
    draft: &mut Draft,
    read: &Revised<Source>,
    stamp: &Stamp,
) -> Result<(), DefinitionError> {
    let mut source = read.value.clone();
    draft.delete(Key::Source(&source.key));
    source.deleted = Some(Deleted {
        stamp: stamp.clone(),
        with_parent: false,
    });
    draft.put(Key::DeletedSource(&source.key), &source)?;
    let versions = (Some(&source.version), None);
    draft.audit_source(&source.key, Action::Delete, versions, stamp)?;
    Ok(())
}
