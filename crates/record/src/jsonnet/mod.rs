//! Jsonnet templates: checked at definition, evaluated once a record.
//!
//! A template sees the record through seven functions (`natives.rs`) and the standard library; it
//! can't import or read files. The evaluator bounds the stack, but neither steps nor memory: no
//! Jsonnet library does. So evaluation belongs into a process that can be killed
//! (`forebay_flow::template`, ADR 0201), and what is here is the pure part that runs inside it.
//! Checking is safe anywhere: it evaluates nothing.

mod check;
mod engine;
mod manifest;
mod message;
mod natives;
mod strftime;

use sha2::Digest;

pub use check::{TemplateDiagnostic, check_all};
pub use engine::{CompiledTemplate, TemplateEngine, with_engine};
pub use message::SourceSpan;
pub use strftime::{FormatError, strftime};

/// Calls and nested values that a template may have open at once, as in the reference service.
pub const MAX_STACK: usize = 500;

/// Bytes of a template's result: more than any row takes.
pub const RESULT_MAX: usize = 4 << 20;

/// Stack of a thread that checks or compiles templates. Lexer and evaluator don't recurse, parser
/// and analyzer do: at most once for each of a template's 4096 characters, so each level has 64 KB,
/// more than ten times what it takes in a debug build. Only what is used of it becomes memory.
pub const COMPILE_STACK: usize = 256 << 20;

/// Tells templates apart: the same text with the same options has the same id, in every process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TemplateId(pub [u8; 16]);

/// A template column's program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateProgram {
    id: TemplateId,
    source: String,
    raw_string: bool,
    uses: TemplateUses,
}

/// Which parts of a record a template can look at. What none of a record's templates look at need
/// not be sent to where they are evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TemplateUses {
    /// `Body…`
    pub body: bool,
    /// `Header…`
    pub headers: bool,
}

impl TemplateProgram {
    /// Takes a program that has been checked. `raw_string`: a result that is a string loses its
    /// JSON quotes.
    pub fn new(source: &str, raw_string: bool) -> Self {
        let mut hash = sha2::Sha256::new();
        hash.update([u8::from(raw_string)]);
        hash.update(source);
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finalize()[..16]);
        // A word that occurs nowhere can't be called; `std.native` needs the name as a string.
        // Escapes in such a string could hide it, so they count as everything.
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

    /// Its id.
    pub fn id(&self) -> TemplateId {
        self.id
    }

    /// Its text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether a result that is a string loses its JSON quotes.
    pub fn raw_string(&self) -> bool {
        self.raw_string
    }

    /// What it looks at.
    pub fn uses(&self) -> TemplateUses {
        self.uses
    }
}
