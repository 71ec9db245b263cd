//! Compilation and evaluation of templates.

use rsjsonnet_lang::arena::Arena;
use rsjsonnet_lang::program::{Program, Thunk, Value};
use rsjsonnet_lang::span::SpanContextId;

use super::check;
use super::diagnostic::TemplateDiagnostic;
use super::load::{load, load_template};
use super::manifest;
use super::message::SpanOrigin;
use super::natives::{NativeFunctions, NativeSignature, PathCache, STD};
use super::{MAX_STACK, RESULT_MAX};
use crate::context::RecordContext;
use crate::error::TemplateError;

/// A Jsonnet evaluator with Forebay's functions. It never frees interned keys, so a long-lived one
/// should be replaced.
pub struct TemplateEngine<'p> {
    arena: &'p Arena,
    program: Program<'p>,
    /// The functions, in the order of [`WRAPPER`].
    functions: Vec<Thunk<'p>>,
    paths: PathCache,
}

impl std::fmt::Debug for TemplateEngine<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TemplateEngine").finish_non_exhaustive()
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
        f.debug_struct("CompiledTemplate")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

/// Runs `work` with a new engine on the calling thread, which needs a stack of
/// [`super::COMPILE_STACK`] bytes to compile untrusted templates.
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

impl<'p> TemplateEngine<'p> {
    /// Defines a native function, wrapped in a Jsonnet function if it has optional parameters.
    fn define(&mut self, signature: &NativeSignature) -> Thunk<'p> {
        let name = self.program.intern_str(signature.name);
        let params = signature.params.iter();
        let params: Vec<_> = params.map(|p| self.program.intern_str(p)).collect();
        self.program.register_native_func(name, &params);
        match load(&mut self.program, signature.wrapper) {
            (_, Ok(thunk)) => thunk,
            // The wrappers are constants, and a test loads all of them.
            (_, Err(_)) => self.program.value_to_thunk(&Value::null()),
        }
    }

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

    /// Evaluates a template on a record: returns compact JSON, or a string's text with
    /// `raw_string`. May never return, and may exhaust the memory. Errors have their position in
    /// the template if known.
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
