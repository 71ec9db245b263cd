//! Points between the steps of a record's way at which a test has the process die, as SIGKILL
//! would have it: no destructor, no flush, no answer.
//!
//! Without the feature `failpoints` a point is nothing at all. With it a binary arms one point at
//! its start; the tests in `crates/forebay/tests/torture` walk through all points of each way.

/// Declares the points, their list, and the list of each way, in one place.
macro_rules! fail_points {
    ($($(#[doc = $about:literal])+ $way:ident {
        $($(#[doc = $doc:literal])+ $point:ident = $name:literal,)+
    })+) => {
        /// Where a process can be made to die.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum FailPoint {
            $($($(#[doc = $doc])+ $point,)+)+
        }

        impl FailPoint {
            /// All points.
            pub const ALL: &'static [Self] = &[$($(Self::$point,)+)+];

            $($(#[doc = $about])+ pub const $way: &'static [Self] = &[$(Self::$point,)+];)+

            /// Its name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $($(Self::$point => $name,)+)+
                }
            }
        }
    };
}

fail_points! {
    /// Those of a record's way, in the order in which a record comes to them.
    RECORD {
        /// A slice is to be rotated.
        SliceRotating = "slice-rotating",
        /// Its successor takes rows, it is closing.
        SliceRotated = "slice-rotated",
        /// A file is to be rotated.
        FileRotating = "file-rotating",
        /// Its successor takes rows, it and its slices are closing.
        FileRotated = "file-rotated",
        /// No row of a closing slice is under way any more.
        SliceDrained = "slice-left",
        /// Its stream in the log is closed.
        StreamClosed = "stream-closed",
        /// Its final statistics are in the store.
        FinalsReported = "finals-reported",
        /// The node has said that it has left all slices that were closed.
        SlicesDrainedReported = "slices-left-reported",
        /// The slice is to be uploaded.
        UploadDeciding = "upload-deciding",
        /// The store knows that.
        UploadDecided = "upload-decided",
        /// A part of the slice's blocks was read for staging.
        UploadReading = "upload-reading",
        /// The slice's object is in staging, the store does not know it.
        UploadWritten = "upload-written",
        /// The store knows that the slice is uploaded.
        UploadNoted = "upload-noted",
        /// All slices of a file are uploaded, it is to be imported.
        ImportDeciding = "import-deciding",
        /// The store knows that.
        ImportDecided = "import-decided",
        /// The table is there.
        TablePrepared = "table-prepared",
        /// The rows are in an open transaction of the table.
        RowsWritten = "rows-written",
        /// The ledger's entry is in the transaction, too.
        LedgerWritten = "ledger-written",
        /// The transaction is committed, the store does not know it.
        RowsCommitted = "rows-committed",
        /// The store knows that the file is imported.
        ImportNoted = "import-noted",
        /// What an imported slice has left behind is to be deleted.
        TrimBegun = "trim-begun",
        /// Its stream is deleted from the log.
        StreamDeleted = "stream-deleted",
        /// Its object is deleted from staging.
        ObjectDeleted = "object-deleted",
        /// The ledger's entry is deleted.
        LedgerForgotten = "ledger-forgotten",
        /// The file's metadata is to be removed.
        FileRemoving = "file-removing",
        /// It is removed.
        FileRemoved = "file-removed",
    }
    /// Those of the rows of a parked file that become dead letters, in that order.
    DEAD_ROWS {
        /// The store knows that the rows become letters.
        DeadRowsDecided = "dead-rows-decided",
        /// The store knows from where on the letters are, there is none yet.
        DeadRowsBegun = "dead-rows-begun",
        /// A block of letters is on disk, the store does not know it.
        DeadRowsAppended = "dead-rows-appended",
        /// The store knows the block.
        DeadRowsNoted = "dead-rows-noted",
        /// All rows are letters, the file is not done with.
        DeadRowsComplete = "dead-rows-complete",
        /// The file is done with.
        FileRejected = "file-rejected",
    }
    /// Those of a stream that the store does not know and that a person delivers, in that order.
    KEPT_STREAM {
        /// The stream takes no more rows.
        KeptClosed = "kept-closed",
        /// A block of it is in another stream.
        KeptBlockCopied = "kept-block-copied",
        /// All of it is, and the other stream is closed.
        KeptCopied = "kept-copied",
        /// The store knows that the other stream has the rows.
        KeptDelivered = "kept-delivered",
        /// The stream is deleted.
        KeptDeleted = "kept-deleted",
        /// The store has forgotten that it was delivered.
        KeptForgotten = "kept-forgotten",
    }
    /// Those of an import that its table does not know any more.
    VANISHED_IMPORT {
        /// The ledger lacks a file that the store calls imported.
        ImportLacking = "import-lacking",
        /// The store knows that the file is to be imported again.
        ImportReopened = "import-reopened",
        /// An object that staging lacks is written again, the store does not know it.
        ObjectRewritten = "object-rewritten",
        /// The store knows that.
        RewriteNoted = "rewrite-noted",
        /// Nobody has the rows, the store knows that.
        LossNoted = "loss-noted",
        /// The ledger has the file again, the store knows that.
        LossRevoked = "loss-revoked",
    }
}

/// The process is at this point; it dies here if the point is armed.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn at(_: FailPoint) {}

/// The process is at this point; it dies here if the point is armed.
#[cfg(feature = "failpoints")]
pub fn at(point: FailPoint) {
    if ARMED.get() == Some(&point) {
        // Whoever runs it has to see that it was this and no crash.
        #[expect(clippy::print_stderr, reason = "the process says why it ends")]
        {
            eprintln!("died at the fail point {}", point.name());
        }
        std::process::abort();
    }
}

/// The point at which this process is to die.
#[cfg(feature = "failpoints")]
static ARMED: std::sync::OnceLock<FailPoint> = std::sync::OnceLock::new();

/// Has this process die when it comes to the point of that name. Only the first call counts.
///
/// # Errors
/// When there is no such point; says which there are.
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
