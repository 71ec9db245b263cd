//! Points between the steps of a record's way at which a test has the process die, as SIGKILL
//! would have it: no destructor, no flush, no answer.
//!
//! Without the feature `failpoints` a point is nothing at all. With it a binary arms one point at
//! its start; `crates/forebay/tests/torture/failpoints.rs` walks through all of [`Point::ALL`].

/// Declares the points and their list in one place.
macro_rules! points {
    ($($(#[doc = $doc:literal])+ $point:ident = $name:literal,)+) => {
        /// Where a process can be made to die.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Point {
            $($(#[doc = $doc])+ $point,)+
        }

        impl Point {
            /// All points, in the order in which a record comes to them.
            pub const ALL: &'static [Self] = &[$(Self::$point,)+];

            /// Its name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)+
                }
            }
        }
    };
}

points! {
    /// A slice is to be rotated.
    SliceRotating = "slice-rotating",
    /// Its successor takes rows, it is closing.
    SliceRotated = "slice-rotated",
    /// A file is to be rotated.
    FileRotating = "file-rotating",
    /// Its successor takes rows, it and its slices are closing.
    FileRotated = "file-rotated",
    /// No row of a closing slice is under way any more.
    SliceLeft = "slice-left",
    /// Its stream in the log is closed.
    StreamClosed = "stream-closed",
    /// Its final statistics are in the store.
    FinalsReported = "finals-reported",
    /// The node has said that it has left all slices that were closed.
    SlicesLeftReported = "slices-left-reported",
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

/// The process is at this point; it dies here if the point is armed.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn at(_: Point) {}

/// The process is at this point; it dies here if the point is armed.
#[cfg(feature = "failpoints")]
pub fn at(point: Point) {
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
static ARMED: std::sync::OnceLock<Point> = std::sync::OnceLock::new();

/// Has this process die when it comes to the point of that name. Only the first call counts.
///
/// # Errors
/// When there is no such point; says which there are.
#[cfg(feature = "failpoints")]
pub fn arm(name: &str) -> Result<(), String> {
    let Some(point) = Point::ALL.iter().find(|p| p.name() == name) else {
        let all: Vec<_> = Point::ALL.iter().map(|p| p.name()).collect();
        return Err(format!(
            "there is no fail point \"{name}\"; there are {}",
            all.join(", ")
        ));
    };
    ARMED.get_or_init(|| *point);
    Ok(())
}
