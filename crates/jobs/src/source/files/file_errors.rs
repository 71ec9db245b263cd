//! Files that could not be read.

/// Maximum number of errors in the final message.
const LISTED_MAX: usize = 20;

/// Errors of single files. The others are read nevertheless, but the run fails at its end.
#[derive(Debug, Default)]
pub(super) struct FileErrors {
    named: Vec<String>,
    count: usize,
}

impl FileErrors {
    /// Adds an error and logs it.
    pub(super) fn add(&mut self, text: String) {
        // Two patterns may lead to the same folder.
        if self.named.contains(&text) {
            return;
        }
        self.count += 1;
        if self.named.len() < LISTED_MAX {
            tracing::warn!(error = text, "part of the source can't be read");
            self.named.push(text);
        }
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// All errors in one message; `None` if there is none.
    pub(super) fn text(&self) -> Option<String> {
        let more = self.count - self.named.len();
        let more = if more > 0 {
            format!("; and {more} more")
        } else {
            String::new()
        };
        let named = self.named.join("; ");
        (self.count > 0).then(|| {
            let part = if self.count == 1 {
                "a part"
            } else {
                "some parts"
            };
            format!("{part} of the source could not be read, the rest was read: {named}{more}")
        })
    }
}
