//! Compiles templates and evaluates them, one record at a time.

use rsjsonnet_lang::arena::Arena;
use rsjsonnet_lang::program::{LoadError, Program, Thunk, Value};
use rsjsonnet_lang::span::SpanContextId;

use super::check::{self, TemplateDiagnostic};
use super::manifest;
use super::message::SpanOrigin;
use super::natives::{NativeFunctions, NativeSignature, PathCache, STD};
use super::{MAX_STACK, RESULT_MAX};
use crate::context::RecordContext;
use crate::error::TemplateError;

/// Stands before every template, on a line of its own, so that positions in the template keep
/// their columns. What follows is the function's body up to the end of the text: no template can
/// get out of it.
pub(super) const WRAPPER: &str =
    "function(Body, BodyAll, BodyStr, BodyText, Header, HeaderStr, Ip, Now, std)\n";

/// A Jsonnet evaluator with Forebay's functions. Strings that it has seen as keys stay in memory
/// for as long as it lives, so one that has worked for long should be replaced.
pub struct TemplateEngine<'p> {
    arena: &'p Arena,
    program: Program<'p>,
    /// The functions, in the order of [`WRAPPER`].
    functions: Vec<Thunk<'p>>,
    paths: PathCache,
}

impl std::fmt::Debug for TemplateEngine<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

/// A compiled template of one [`TemplateEngine`].
#[derive(Clone)]
pub struct CompiledTemplate<'p> {
    context: SpanContextId,
    function: Thunk<'p>,
    source: String,
    raw_string: bool,
}

impl std::fmt::Debug for CompiledTemplate<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compiled")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

/// Lends a new engine to `work`, on the calling thread. That thread needs a stack of
/// [`super::COMPILE_STACK`] bytes if templates are compiled that nobody has vouched for.
pub fn with_engine<R>(work: impl FnOnce(&mut TemplateEngine<'_>) -> R) -> R {
    let arena = Arena::new();
    let mut program = Program::new(&arena);
    program.set_max_stack(MAX_STACK);
    let mut engine = TemplateEngine {
        arena: &arena,
        program,
        functions: Vec::new(),
        paths: PathCache::default(),
    };
    let all = super::natives::SIGNATURES.iter().chain([&STD]);
    engine.functions = all.map(|signature| engine.define(signature)).collect();
    work(&mut engine)
}

/// Loads a text as an expression with the standard library.
fn load<'p>(
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

impl<'p> TemplateEngine<'p> {
    /// One of our functions as a value: a native one, behind a function of Jsonnet where
    /// parameters can be left out.
    fn define(&mut self, signature: &NativeSignature) -> Thunk<'p> {
        let name = self.program.intern_str(signature.name);
        let params = signature.params.iter();
        let params: Vec<_> = params.map(|p| self.program.intern_str(p)).collect();
        self.program.register_native_func(name, &params);
        match load(&mut self.program, signature.wrapper) {
            (_, Ok(thunk)) => thunk,
            // The wrappers are constants, and a test defines them all.
            (_, Err(_)) => self.program.value_to_thunk(&Value::null()),
        }
    }

    /// Compiles a template.
    pub fn compile(
        &mut self,
        source: &str,
        raw_string: bool,
    ) -> Result<CompiledTemplate<'p>, TemplateDiagnostic> {
        check::reject_unsafe(self.arena, source)?;
        let (context, function) = load_template(&mut self.program, source)?;
        Ok(CompiledTemplate {
            context,
            function,
            source: source.to_owned(),
            raw_string,
        })
    }

    /// The template's result for a record: compact JSON, or the text of a string if that was asked
    /// for. May never return and may take all memory there is.
    ///
    /// # Errors
    /// Whatever the program fails with, with its place in the template where that is known.
    pub fn evaluate(
        &mut self,
        template: &CompiledTemplate<'p>,
        record: &RecordContext,
    ) -> Result<Vec<u8>, TemplateError> {
        let mut natives = NativeFunctions::new(record, &mut self.paths);
        let result = self
            .program
            .eval_call(&template.function, &self.functions, &[], &mut natives);
        let failed = natives.failed;
        let result = match result {
            Ok(value) => manifest::write(&value, template.raw_string, RESULT_MAX),
            Err(e) => {
                let origin = SpanOrigin {
                    spans: self.program.span_manager(),
                    context: template.context,
                    source: &template.source,
                };
                Err(origin.eval_error(&e, failed))
            }
        };
        self.program.maybe_gc();
        result
    }
}
