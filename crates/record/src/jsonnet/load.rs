//! Loading a template into a program.

use rsjsonnet_lang::program::{LoadError, Program, Thunk};
use rsjsonnet_lang::span::SpanContextId;

use super::diagnostic::TemplateDiagnostic;
use super::message::{SpanOrigin, WRAPPER};

pub(super) fn load<'p>(
    program: &mut Program<'p>,
    text: &str,
) -> (SpanContextId, Result<Thunk<'p>, LoadError>) {
    let spans = program.span_manager_mut();
    let (context, _) = spans.insert_source_context(text.len());
    let thunk = program.load_source(context, text.as_bytes(), true, "template");
    (context, thunk)
}

/// Loads a template as the function of [`WRAPPER`].
pub(super) fn load_template<'p>(
    program: &mut Program<'p>,
    source: &str,
) -> Result<(SpanContextId, Thunk<'p>), TemplateDiagnostic> {
    let (context, thunk) = load(program, &format!("{WRAPPER}{source}"));
    let origin = SpanOrigin {
        spans: program.span_manager(),
        context,
        source,
    };
    match thunk {
        Ok(thunk) => Ok((context, thunk)),
        Err(e) => Err(origin.load_diagnostic(&e)),
    }
}
