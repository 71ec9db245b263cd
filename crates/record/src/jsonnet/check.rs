//! Checks of templates at their definition.

use rsjsonnet_lang::arena::Arena;
use rsjsonnet_lang::lexer::Lexer;
use rsjsonnet_lang::program::Program;
use rsjsonnet_lang::token::{STokenKind, TokenKind};

use super::diagnostic::{SourceSpan, TemplateDiagnostic};
use super::load;
use crate::path::CompiledPath;

/// Checks templates: syntax, unknown variables, imports. Returns the first error of each. Evaluates
/// nothing, so it always ends; runs on a separate thread whose stack no template can exhaust.
#[must_use]
pub fn check_all(sources: Vec<&str>) -> Vec<Option<TemplateDiagnostic>> {
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
        let diagnostic = TemplateDiagnostic {
            span: None,
            message: "the template can't be checked: starting a thread failed".to_owned(),
        };
        vec![Some(diagnostic); count]
    })
}

fn check<'p>(
    arena: &'p Arena,
    program: &mut Program<'p>,
    source: &str,
) -> Result<(), TemplateDiagnostic> {
    reject_unsafe(arena, source)?;
    load::load_template(program, source)?;
    Ok(())
}

/// Rejects templates that must not be parsed: oversized texts and imports.
pub(super) fn reject_unsafe(arena: &Arena, source: &str) -> Result<(), TemplateDiagnostic> {
    let max = forebay_model::limits::TEMPLATE_CHARS_MAX;
    // The limit of the API; it also limits the recursion of the parser.
    if source.chars().count() > max {
        return Err(TemplateDiagnostic {
            span: None,
            message: format!("Template is longer than {max} characters"),
        });
    }
    reject_tokens(arena, source)
}

/// Rejects imports, and invalid literal paths of `Body`. `import` is a keyword, so the token can
/// mean nothing else.
fn reject_tokens(arena: &Arena, source: &str) -> Result<(), TemplateDiagnostic> {
    let strings = rsjsonnet_lang::interner::StrInterner::new();
    let mut spans = rsjsonnet_lang::span::SpanManager::new();
    let (context, _) = spans.insert_source_context(source.len());
    let texts = Arena::new();
    let input = source.as_bytes();
    let lexer = Lexer::new(arena, &texts, &strings, &mut spans, context, input);
    // Loading the template reports lexer errors.
    let tokens = lexer.lex_to_eof(false).unwrap_or_default();
    for token in &tokens {
        let word = match token.kind {
            TokenKind::Simple(STokenKind::Import) => "import",
            TokenKind::Simple(STokenKind::Importstr) => "importstr",
            TokenKind::Simple(STokenKind::Importbin) => "importbin",
            _ => continue,
        };
        let (_, start, end) = spans.get_span(token.span);
        return Err(TemplateDiagnostic {
            span: Some(SourceSpan::from_byte_range(source, start, end)),
            message: format!("{word} is disabled"),
        });
    }
    let kinds: Vec<&TokenKind<'_, '_>> = tokens.iter().map(|t| &t.kind).collect();
    for (i, path) in paths_of_body(&kinds) {
        if let Err(error) = CompiledPath::compile(path) {
            let span = tokens.get(i).map(|t| spans.get_span(t.span));
            return Err(TemplateDiagnostic {
                span: span.map(|(_, start, end)| SourceSpan::from_byte_range(source, start, end)),
                message: format!("path \"{path}\" is invalid: {error}"),
            });
        }
    }
    Ok(())
}

/// The literal paths of calls of `Body`, with their token indices; empty if the program redefines
/// or aliases `Body`.
fn paths_of_body<'a>(kinds: &[&TokenKind<'_, 'a>]) -> Vec<(usize, &'a str)> {
    let simple = |i: usize, wanted: STokenKind| matches!(kinds.get(i), Some(TokenKind::Simple(kind)) if *kind == wanted);
    let mut found = Vec::new();
    for (i, kind) in kinds.iter().enumerate() {
        if !matches!(kind, TokenKind::Ident(name) if name.value() == "Body") {
            continue;
        }
        if i > 0 && simple(i - 1, STokenKind::Dot) {
            continue;
        }
        let is_local = i > 0 && simple(i - 1, STokenKind::Local);
        if is_local || !simple(i + 1, STokenKind::LeftParen) {
            return Vec::new();
        }
        if let Some(TokenKind::String(path)) = kinds.get(i + 2)
            && (simple(i + 3, STokenKind::Comma) || simple(i + 3, STokenKind::RightParen))
        {
            found.push((i + 2, *path));
        }
    }
    found
}
