//! What could not be read while everything else was.

/// Problems that are named at the end.
const LISTED_MAX: usize = 20;

/// What could not be read: it does not keep the job from reading the rest, and it ends the run as a
/// failed one.
#[derive(Debug, Default)]
pub(super) struct FileErrors {
    named: Vec<String>,
    count: usize,
}

impl FileErrors {
    /// Notes one, and tells of it at once.
    pub(super) fn add(&mut self, text: String) {
        // A folder may be come to by two patterns.
        if self.named.contains(&text) {
            return;
        }
        self.count += 1;
        if self.named.len() < LISTED_MAX {
            tracing::warn!(problem = text, "a part of the source can't be read");
            self.named.push(text);
        }
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// All of them in a sentence; nothing when there is none.
    pub(super) fn text(&self) -> Option<String> {
        let more = self.count - self.named.len();
        let more = if more > 0 {
            format!("; and {more} more")
        } else {
            String::new()
        };
        let named = self.named.join("; ");
        (self.count > 0).then(|| {
            format!(
                "{} of the source could not be read, all else was: {named}{more}",
                if self.count == 1 {
                    "a part"
                } else {
                    "some parts"
                }
            )
        })
    }
}
