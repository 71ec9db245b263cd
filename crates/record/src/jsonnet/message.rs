//! Short error texts of the Jsonnet library, with positions in the template.

use rsjsonnet_lang::lexer::LexError;
use rsjsonnet_lang::parser::{ActualToken, ParseError};
use rsjsonnet_lang::program::{
    AnalyzeError, EvalError, EvalErrorKind, EvalErrorValueType, EvalStackTraceItem, LoadError,
};
use rsjsonnet_lang::span::{SpanContextId, SpanId, SpanManager};

use super::MAX_STACK;
use super::diagnostic::{SourceSpan, TemplateDiagnostic};
use crate::error::TemplateError;

/// Precedes every template, on a separate line so that positions keep their columns. The template
/// is the function's body up to the end of the text, so that it can't escape from it.
pub(super) const WRAPPER: &str =
    "function(Body, BodyAll, BodyStr, BodyText, Header, HeaderStr, Ip, Now, std)\n";

/// The source of spans.
pub(super) struct SpanOrigin<'a> {
    pub(super) spans: &'a SpanManager,
    /// Context of the template; the standard library has another.
    pub(super) context: SpanContextId,
    pub(super) source: &'a str,
}

impl SpanOrigin<'_> {
    /// The position of a span, if it is in the template.
    fn source_span(&self, span: SpanId) -> Option<SourceSpan> {
        let (context, start, end) = self.spans.get_span(span);
        if context != self.context {
            return None;
        }
        let start = start.checked_sub(WRAPPER.len())?;
        let end = end.checked_sub(WRAPPER.len())?;
        Some(SourceSpan::from_byte_range(self.source, start, end))
    }

    pub(super) fn load_diagnostic(&self, error: &LoadError) -> TemplateDiagnostic {
        let (span, message) = match error {
            LoadError::Lex(e) => lex_message(e),
            LoadError::Parse(ParseError::Expected { span, instead, .. }) => {
                (*span, format!("Unexpected {}", token_text(instead)))
            }
            LoadError::Analyze(e) => analyze_message(e),
        };
        TemplateDiagnostic {
            span: self.source_span(span),
            message,
        }
    }

    /// Translates an evaluation error; `native` is the error of a native function.
    pub(super) fn eval_error(
        &self,
        error: &EvalError,
        native: Option<TemplateError>,
    ) -> TemplateError {
        let (span, message) = match &error.kind {
            EvalErrorKind::NativeCallFailed => (None, None),
            kind => {
                let (span, message) = eval_message(kind);
                (span, Some(message))
            }
        };
        let position = span.and_then(|s| self.source_span(s));
        let position = position.or_else(|| self.innermost(&error.stack_trace));
        let mut result = match (message, native) {
            (None, Some(native)) => native,
            (message, _) => {
                TemplateError::program(message.unwrap_or_else(|| "a function failed".to_owned()))
            }
        };
        if let EvalErrorKind::StackOverflow | EvalErrorKind::InfiniteRecursion = error.kind {
            result = TemplateError::limit(result.message);
        }
        if let Some(position) = position {
            result.message = format!("{position} {}", result.message);
        }
        result
    }

    /// The innermost position of the stack in the template.
    fn innermost(&self, stack: &[EvalStackTraceItem]) -> Option<SourceSpan> {
        stack.iter().rev().find_map(|item| {
            let span = match item {
                EvalStackTraceItem::Expr { span }
                | EvalStackTraceItem::Variable { span, .. }
                | EvalStackTraceItem::Import { span } => Some(*span),
                EvalStackTraceItem::Call { span, .. }
                | EvalStackTraceItem::ArrayItem { span, .. }
                | EvalStackTraceItem::ObjectField { span, .. } => *span,
                _ => None,
            };
            self.source_span(span?)
        })
    }
}

fn lex_message(error: &LexError) -> (SpanId, String) {
    let (span, text) = match error {
        LexError::InvalidChar { span, chr } => (*span, format!("Unexpected character {chr:?}")),
        LexError::InvalidUtf8 { span, .. } => (*span, "Invalid UTF-8".to_owned()),
        LexError::UnfinishedMultilineComment { span } => (*span, "Comment without end".to_owned()),
        LexError::LeadingZeroInNumber { span } => (*span, "Number with leading zero".to_owned()),
        LexError::MissingFracDigits { span }
        | LexError::MissingExpDigits { span }
        | LexError::MissingDigitAfterUnderscore { span } => {
            (*span, "Number with missing digits".to_owned())
        }
        LexError::ExpOverflow { span } => (*span, "Number with too large an exponent".to_owned()),
        LexError::InvalidEscapeInString { span, chr } => {
            (*span, format!("Unknown escape \\{chr} in a string"))
        }
        LexError::IncompleteUnicodeEscape { span }
        | LexError::InvalidUtf16EscapeSequence { span, .. } => {
            (*span, "Invalid \\u escape in a string".to_owned())
        }
        LexError::UnfinishedString { span } => (*span, "String without end".to_owned()),
        LexError::MissingLineBreakAfterTextBlockStart { span }
        | LexError::MissingWhitespaceTextBlockStart { span }
        | LexError::InvalidTextBlockTermination { span } => {
            (*span, "Invalid text block".to_owned())
        }
    };
    (span, text)
}

fn token_text(token: &ActualToken) -> String {
    match token {
        ActualToken::EndOfFile => "end of template".to_owned(),
        ActualToken::Simple(kind) => format!("token {kind:?}"),
        ActualToken::OtherOp(op) => format!("operator {op}"),
        ActualToken::Ident(name) => format!("identifier {name}"),
        ActualToken::Number => "number".to_owned(),
        ActualToken::String | ActualToken::TextBlock => "string".to_owned(),
    }
}

fn analyze_message(error: &AnalyzeError) -> (SpanId, String) {
    match error {
        AnalyzeError::UnknownVariable { span, name } => {
            (*span, format!("Unknown variable: {name}"))
        }
        AnalyzeError::SelfOutsideObject { self_span } => {
            (*self_span, "self outside of an object".to_owned())
        }
        AnalyzeError::SuperOutsideObject { super_span } => {
            (*super_span, "super outside of an object".to_owned())
        }
        AnalyzeError::DollarOutsideObject { dollar_span } => {
            (*dollar_span, "$ outside of an object".to_owned())
        }
        AnalyzeError::RepeatedLocalName {
            repeated_span,
            name,
            ..
        } => (*repeated_span, format!("Variable {name} is defined twice")),
        AnalyzeError::RepeatedFieldName {
            repeated_span,
            name,
            ..
        } => (*repeated_span, format!("Field {name} is defined twice")),
        AnalyzeError::RepeatedParamName {
            repeated_span,
            name,
            ..
        } => (*repeated_span, format!("Parameter {name} is defined twice")),
        AnalyzeError::PositionalArgAfterNamed { arg_span } => (
            *arg_span,
            "Positional argument after a named one".to_owned(),
        ),
        AnalyzeError::TextBlockAsImportPath { span }
        | AnalyzeError::ComputedImportPath { span } => (*span, "import is disabled".to_owned()),
    }
}

fn type_name(kind: EvalErrorValueType) -> &'static str {
    match kind {
        EvalErrorValueType::Null => "null",
        EvalErrorValueType::Bool => "boolean",
        EvalErrorValueType::Number => "number",
        EvalErrorValueType::String => "string",
        EvalErrorValueType::Array => "array",
        EvalErrorValueType::Object => "object",
        EvalErrorValueType::Function => "function",
    }
}

/// Position and text of an evaluation error.
fn eval_message(kind: &EvalErrorKind) -> (Option<SpanId>, String) {
    use EvalErrorKind as E;
    match kind {
        E::StackOverflow => (None, format!("more than {MAX_STACK} calls deep")),
        E::InfiniteRecursion => (None, "a value that depends on itself".to_owned()),
        E::ExplicitError { span, message } => (Some(*span), message.clone()),
        E::AssertFailed { span, message } => {
            let message = message.as_deref().unwrap_or("assertion failed");
            (Some(*span), message.to_owned())
        }
        E::AssertEqualFailed { lhs, rhs } => (None, format!("{lhs} is not {rhs}")),
        E::DivByZero { span } => (*span, "division by zero".to_owned()),
        E::NumberOverflow { span } => (*span, "number overflow".to_owned()),
        E::NumberNan { span } => (*span, "not a number".to_owned()),
        E::ImportFailed { span, .. } => (Some(*span), "import is disabled".to_owned()),
        E::UnknownExtVar { name } => (None, format!("undefined external variable \"{name}\"")),
        E::ManifestFunction => (None, "a function has no JSON form".to_owned()),
        E::UnknownObjectField { span, field_name } => {
            (Some(*span), format!("field does not exist: {field_name}"))
        }
        E::NumericIndexOutOfRange {
            span,
            index,
            length,
        } => (
            Some(*span),
            format!("index {index} is out of range, the length is {length}"),
        ),
        E::CallParamNotBound { span, param_name } => {
            (*span, format!("missing argument: {param_name}"))
        }
        E::UnknownCallParam { span, param_name } => {
            (*span, format!("unknown parameter: {param_name}"))
        }
        E::RepeatedCallParam { span, param_name } => {
            (*span, format!("argument given twice: {param_name}"))
        }
        E::TooManyCallArgs { span, num_params } => (
            *span,
            format!("too many arguments, there are {num_params} parameters"),
        ),
        E::Other { span, message } => (*span, message.clone()),
        other => type_message(other),
    }
}

/// As [`eval_message`], for values of the wrong type.
fn type_message(kind: &EvalErrorKind) -> (Option<SpanId>, String) {
    use EvalErrorKind as E;
    let (span, text) = match kind {
        E::InvalidIndexedType { span, got_type } => {
            (*span, format!("{} can't be indexed", type_name(*got_type)))
        }
        E::FieldOfNonObject { span } => {
            (*span, "a field of a value that is not an object".to_owned())
        }
        E::CondIsNotBool { span, got_type } => {
            let text = format!(
                "a condition must be a boolean, not {}",
                type_name(*got_type)
            );
            (*span, text)
        }
        E::ObjectIndexIsNotString { span, got_type }
        | E::FieldNameIsNotString { span, got_type } => {
            let text = format!(
                "a field name must be a string, not {}",
                type_name(*got_type)
            );
            (*span, text)
        }
        E::ArrayIndexIsNotNumber { span, got_type }
        | E::StringIndexIsNotNumber { span, got_type } => {
            let text = format!("an index must be a number, not {}", type_name(*got_type));
            (*span, text)
        }
        E::ForSpecValueIsNotArray { span, got_type } => {
            let text = format!("for needs an array, not {}", type_name(*got_type));
            (*span, text)
        }
        E::NumericIndexIsNotValid { span, index } => {
            (*span, format!("{index} is not a valid index"))
        }
        E::RepeatedFieldName { span, name } => (*span, format!("field {name} is defined twice")),
        other => return operand_message(other),
    };
    (Some(span), text)
}

/// As [`eval_message`], for operators and functions.
fn operand_message(kind: &EvalErrorKind) -> (Option<SpanId>, String) {
    use EvalErrorKind as E;
    match kind {
        E::CalleeIsNotFunction { span, got_type } => {
            (*span, format!("{} can't be called", type_name(*got_type)))
        }
        E::InvalidUnaryOpType { span, op, rhs_type } => {
            let text = format!("{op:?} does not accept {}", type_name(*rhs_type));
            (Some(*span), text)
        }
        E::InvalidBinaryOpTypes {
            span,
            op,
            lhs_type,
            rhs_type,
        } => {
            let (left, right) = (type_name(*lhs_type), type_name(*rhs_type));
            (*span, format!("{op:?} does not accept {left} and {right}"))
        }
        E::InvalidStdFuncArgType {
            func_name,
            arg_index,
            got_type,
            ..
        } => {
            let (got, number) = (type_name(*got_type), arg_index + 1);
            let text = format!("std.{func_name} does not accept {got} as argument {number}");
            (None, text)
        }
        // Rare errors: their name in the library.
        other => {
            let text = format!("{other:?}");
            let name = text.split([' ', '{', '(']).next().unwrap_or_default();
            (None, format!("evaluation failed: {name}"))
        }
    }
}
