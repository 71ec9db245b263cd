//! Checks templates when they are defined.

use std::fmt;

use rsjsonnet_lang::arena::Arena;
use rsjsonnet_lang::lexer::Lexer;
use rsjsonnet_lang::program::Program;
use rsjsonnet_lang::token::{STokenKind, TokenKind};

use super::engine;
use super::message::Place;

/// Why a text is not a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateProblem {
    /// Where in the text; `None` when it is the text as a whole.
    pub place: Option<Place>,
    /// What is wrong, without a final dot.
    pub message: String,
}

impl fmt::Display for TemplateProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place} ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for TemplateProblem {}

/// Checks templates: syntax, unknown variables, imports. For each the first problem, or `None`.
/// Nothing is evaluated, so this always ends; it runs on a thread of its own, whose stack no
/// template can exhaust.
#[must_use]
pub fn check_all(sources: Vec<&str>) -> Vec<Option<TemplateProblem>> {
    if sources.is_empty() {
        return Vec::new();
    }
    let count = sources.len();
    let checked = std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("template-check".to_owned())
            .stack_size(super::COMPILE_STACK)
            .spawn_scoped(scope, move || {
                let arena = Arena::new();
                let mut program = Program::new(&arena);
                let sources = sources.iter();
                sources
                    .map(|s| check(&arena, &mut program, s).err())
                    .collect()
            })
            .ok()?
            .join()
            .ok()
    });
    checked.unwrap_or_else(|| {
        let problem = TemplateProblem {
            place: None,
            message: "the template can't be checked, no thread could be started".to_owned(),
        };
        vec![Some(problem); count]
    })
}

fn check<'p>(
    arena: &'p Arena,
    program: &mut Program<'p>,
    source: &str,
) -> Result<(), TemplateProblem> {
    refuse(arena, source)?;
    engine::load_template(program, source)?;
    Ok(())
}

/// Refuses what must not even be parsed: texts that are too long, and imports.
pub(super) fn refuse(arena: &Arena, source: &str) -> Result<(), TemplateProblem> {
    let max = forebay_model::limits::TEMPLATE_CHARS_MAX;
    // The same bound as at the API; it is what keeps the recursion of the parser bounded.
    if source.chars().count() > max {
        return Err(TemplateProblem {
            place: None,
            message: format!("Template is longer than {max} characters"),
        });
    }
    refuse_imports(arena, source)
}

/// `import` is a keyword: as a token it can be nothing else.
fn refuse_imports(arena: &Arena, source: &str) -> Result<(), TemplateProblem> {
    let strings = rsjsonnet_lang::interner::StrInterner::new();
    let mut spans = rsjsonnet_lang::span::SpanManager::new();
    let (context, _) = spans.insert_source_context(source.len());
    let texts = Arena::new();
    let input = source.as_bytes();
    let lexer = Lexer::new(arena, &texts, &strings, &mut spans, context, input);
    // What can't be lexed is reported when it is loaded.
    let tokens = lexer.lex_to_eof(false).unwrap_or_default();
    for token in tokens {
        let word = match token.kind {
            TokenKind::Simple(STokenKind::Import) => "import",
            TokenKind::Simple(STokenKind::Importstr) => "importstr",
            TokenKind::Simple(STokenKind::Importbin) => "importbin",
            _ => continue,
        };
        let (_, start, end) = spans.get_span(token.span);
        return Err(TemplateProblem {
            place: Some(Place::of(source, start, end)),
            message: format!("{word} is disabled"),
        });
    }
    Ok(())
}
