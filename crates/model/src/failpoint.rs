//! Points of the write path at which a test kills the process, as SIGKILL would: no destructor, no
//! flush, no response.
//!
//! Without the feature `failpoints` a point compiles to nothing. With it a binary arms one point at
//! its start; the tests in `crates/forebay/tests/torture` cover all points of each path.

/// Declares the points, their list, and the list of each path, in one place.
macro_rules! fail_points {
    ($($(#[doc = $path_doc:literal])+ $path:ident {
        $($(#[doc = $doc:literal])+ $point:ident = $name:literal,)+
    })+) => {
        /// A place where a test kills the process.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum FailPoint {
            $($($(#[doc = $doc])+ $point,)+)+
        }

        impl FailPoint {
            /// All points.
            pub const ALL: &'static [Self] = &[$($(Self::$point,)+)+];

            $($(#[doc = $path_doc])+ pub const $path: &'static [Self] = &[$(Self::$point,)+];)+

            /// Name of the point.
            pub fn name(self) -> &'static str {
                match self {
                    $($(Self::$point => $name,)+)+
                }
            }
        }
    };
}

fail_points! {
    /// Points of a record's path, in the order in which a record passes them.
    RECORD {
        /// Before a slice is rotated.
        SliceRotating = "slice-rotating",
        /// The successor accepts rows, the slice is closing.
        SliceRotated = "slice-rotated",
        /// Before a file is rotated.
        FileRotating = "file-rotating",
        /// The successor accepts rows, the file and its slices are closing.
        FileRotated = "file-rotated",
        /// No row of a closing slice is in flight any more.
        SliceDrained = "slice-left",
        /// The stream in the log is closed.
        StreamClosed = "stream-closed",
        /// The final statistics are in the store.
        FinalsReported = "finals-reported",
        /// The node has reported that it has drained all closed slices.
        SlicesDrainedReported = "slices-left-reported",
        /// Before an upload of the slice is decided.
        UploadDeciding = "upload-deciding",
        /// The decision is in the store.
        UploadDecided = "upload-decided",
        /// A part of the slice's blocks was read for staging.
        UploadReading = "upload-reading",
        /// The slice's object is in staging, but not recorded in the store.
        UploadWritten = "upload-written",
        /// The upload is recorded in the store.
        UploadNoted = "upload-noted",
        /// All slices of a file are uploaded, before its import is decided.
        ImportDeciding = "import-deciding",
        /// The decision is in the store.
        ImportDecided = "import-decided",
        /// The table exists.
        TablePrepared = "table-prepared",
        /// The rows are in an open transaction of the table.
        RowsWritten = "rows-written",
        /// The ledger entry is in the transaction, too.
        LedgerWritten = "ledger-written",
        /// The transaction is committed, but not recorded in the store.
        RowsCommitted = "rows-committed",
        /// The import is recorded in the store.
        ImportNoted = "import-noted",
        /// Before the data of an imported slice is deleted.
        TrimBegun = "trim-begun",
        /// The stream is deleted from the log.
        StreamDeleted = "stream-deleted",
        /// The object is deleted from staging.
        ObjectDeleted = "object-deleted",
        /// The ledger entry is deleted.
        LedgerForgotten = "ledger-forgotten",
        /// Before the file's metadata is removed.
        FileRemoving = "file-removing",
        /// The metadata is removed.
        FileRemoved = "file-removed",
    }
    /// Points of turning the rows of a parked file into dead letters, in order.
    DEAD_ROWS {
        /// The decision is in the store.
        DeadRowsDecided = "dead-rows-decided",
        /// The store has the position of the first dead letter; none exists yet.
        DeadRowsBegun = "dead-rows-begun",
        /// A block of dead letters is on disk, but not recorded in the store.
        DeadRowsAppended = "dead-rows-appended",
        /// The block is recorded in the store.
        DeadRowsNoted = "dead-rows-noted",
        /// All rows are dead letters, the file is not resolved yet.
        DeadRowsComplete = "dead-rows-complete",
        /// The file is resolved.
        FileRejected = "file-rejected",
    }
    /// Points of a replay of dead letters into a table, in order.
    REPLAY {
        /// The rows are on disk, in a stream that the store does not know.
        ReplayAppended = "replay-appended",
        /// The store has the slice, and the dead letters as resolved; nobody was told.
        ReplayResolved = "replay-resolved",
    }
    /// Points of the delivery of a stream that the store doesn't know, in order.
    KEPT_STREAM {
        /// The stream rejects rows.
        KeptClosed = "kept-closed",
        /// One of its blocks is copied to another stream.
        KeptBlockCopied = "kept-block-copied",
        /// All blocks are copied, and the other stream is closed.
        KeptCopied = "kept-copied",
        /// The store records that the other stream has the rows.
        KeptDelivered = "kept-delivered",
        /// The stream is deleted.
        KeptDeleted = "kept-deleted",
        /// The store has dropped the record of the delivery.
        KeptForgotten = "kept-forgotten",
    }
    /// Points of an import that its table has lost.
    VANISHED_IMPORT {
        /// The ledger lacks a file that the store records as imported.
        ImportLacking = "import-lacking",
        /// The store records that the file must be imported again.
        ImportReopened = "import-reopened",
        /// An object missing from staging is uploaded again, but not recorded in the store.
        ObjectRewritten = "object-rewritten",
        /// The upload is recorded in the store.
        RewriteNoted = "rewrite-noted",
        /// The rows are lost, which is recorded in the store.
        LossNoted = "loss-noted",
        /// The ledger has the file again, which is recorded in the store.
        LossRevoked = "loss-revoked",
    }
}

/// Kills the process if this point is armed.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn at(_: FailPoint) {}

/// Kills the process if this point is armed.
#[cfg(feature = "failpoints")]
pub fn at(point: FailPoint) {
    if ARMED.get() == Some(&point) {
        // Tells this from a crash.
        #[expect(clippy::print_stderr, reason = "the process reports why it ends")]
        {
            eprintln!("died at the fail point {}", point.name());
        }
        std::process::abort();
    }
}

/// The armed point.
#[cfg(feature = "failpoints")]
static ARMED: std::sync::OnceLock<FailPoint> = std::sync::OnceLock::new();

/// Arms the point of that name. Only the first call counts.
///
/// # Errors
/// When there is no such point; the error lists all points.
#[cfg(feature = "failpoints")]
pub fn arm(name: &str) -> Result<(), String> {
    let Some(point) = FailPoint::ALL.iter().find(|p| p.name() == name) else {
        let all: Vec<_> = FailPoint::ALL.iter().map(|p| p.name()).collect();
        return Err(format!(
            "there is no fail point \"{name}\"; there are {}",
            all.join(", ")
        ));
    };
    ARMED.get_or_init(|| *point);
    Ok(())
}
