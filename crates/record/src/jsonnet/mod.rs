//! Jsonnet templates: checked at definition, evaluated once per record.
//!
//! A template reads the record through native functions (`natives.rs`) and the standard library; it
//! can't import or read files. No Jsonnet library limits steps or memory, only the stack. So
//! evaluation runs in a process that can be killed (`forebay_ingest::template`, ADR 0201); this
//! module is the part inside it. Checking is safe in any process, because it evaluates nothing.

mod check;
mod diagnostic;
mod engine;
mod load;
mod manifest;
mod message;
mod natives;
mod strftime;

use sha2::Digest;

pub use check::check_all;
pub use diagnostic::{SourceSpan, TemplateDiagnostic};
pub use engine::{CompiledTemplate, TemplateEngine, with_engine};
pub use strftime::{FormatError, strftime};

/// Maximum depth of calls and nested values of a template, as in the reference service.
pub const MAX_STACK: usize = 500;

/// Maximum bytes of a template's result, more than any row.
pub(crate) const RESULT_MAX: usize = 4 << 20;

/// Stack of a thread that checks or compiles templates. Parser and analyzer recurse at most once
/// per character of the 4096 of a template, so each level has 64 KB, ten times the need of a debug
/// build. Only the used part takes memory.
pub const COMPILE_STACK: usize = 256 << 20;

/// Hash of text and options: equal in every process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TemplateId(pub [u8; 16]);

/// The program of a template column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateProgram {
    id: TemplateId,
    source: String,
    raw_string: bool,
    uses: TemplateUses,
}

/// The parts of a record that a template may read. Parts that no template reads are not sent to the
/// worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TemplateUses {
    /// `Body…`
    pub body: bool,
    /// `Header…`
    pub headers: bool,
}

impl TemplateProgram {
    /// `source` was checked. `raw_string`: a string result has no JSON quotes.
    pub fn new(source: &str, raw_string: bool) -> Self {
        let mut hash = sha2::Sha256::new();
        hash.update([u8::from(raw_string)]);
        hash.update(source);
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finalize()[..16]);
        // A function whose name does not occur can't be called, except by `std.native`, whose
        // string may hide the name by escapes.
        let hidden = source.contains("native");
        let uses = TemplateUses {
            body: hidden || source.contains("Body"),
            headers: hidden || source.contains("Header"),
        };
        Self {
            id: TemplateId(id),
            source: source.to_owned(),
            raw_string,
            uses,
        }
    }

    pub fn id(&self) -> TemplateId {
        self.id
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether a string result has no JSON quotes.
    pub fn raw_string(&self) -> bool {
        self.raw_string
    }

    pub fn uses(&self) -> TemplateUses {
        self.uses
    }
}
