//! Conditions on samples: `PATH=VALUE`, `PATH!=VALUE`.

use std::sync::Arc;

use forebay_ingest::tap::RecordSample;
use forebay_record::json::{JsonDocument, JsonKind, JsonNodeId, unescape};
use forebay_record::path::{CompiledPath, OwnedSelection};
use forebay_record::{BodyFormat, RecordContext};

/// Conditions that must all hold.
#[derive(Debug, Default)]
pub(super) struct SampleFilter(Vec<SampleCondition>);

#[derive(Debug)]
struct SampleCondition {
    of: ConditionOperand,
    value: String,
    is_negated: bool,
}

#[derive(Debug)]
enum ConditionOperand {
    Path(CompiledPath),
    Column(String),
}

impl SampleFilter {
    /// `of_row`: the left sides are names of columns.
    pub(super) fn parse(text: &str, of_row: bool) -> Result<Self, String> {
        let all = split(text, "filter")?.into_iter();
        let conditions = all.map(|condition| {
            let at = outside(condition, '=').next().ok_or_else(|| {
                format!("filter \"{condition}\": allowed are PATH=VALUE and PATH!=VALUE")
            })?;
            let left = condition.get(..at).unwrap_or_default();
            let value = condition.get(at + 1..).unwrap_or_default();
            let (left, is_negated) = match left.strip_suffix('!') {
                Some(left) => (left.trim(), true),
                None => (left.trim(), false),
            };
            let of = if of_row {
                ConditionOperand::Column(left.to_owned())
            } else {
                let path = CompiledPath::compile(left);
                ConditionOperand::Path(path.map_err(|e| format!("filter path \"{left}\": {e}"))?)
            };
            let value = value.trim();
            let quoted = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
            Ok(SampleCondition {
                of,
                value: quoted.unwrap_or(value).to_owned(),
                is_negated,
            })
        });
        Ok(Self(conditions.collect::<Result<_, String>>()?))
    }

    pub(super) fn matches(&self, sample: &RecordSample) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let record = context(sample);
        self.0.iter().all(|condition| {
            let holds = match &condition.of {
                ConditionOperand::Column(name) => sample
                    .cells
                    .iter()
                    .any(|(n, cell)| n == name && *cell == condition.value.as_bytes()),
                ConditionOperand::Path(path) => record.document().is_ok_and(|document| {
                    let found = selected(path, document).unwrap_or_default();
                    found
                        .into_iter()
                        .any(|node| text(document, node) == condition.value)
                }),
            };
            holds != condition.is_negated
        })
    }
}

/// The record of a sample.
pub(super) fn context(sample: &RecordSample) -> RecordContext {
    let (request, body) = (Arc::clone(&sample.request), sample.body.clone());
    if sample.is_of_batch {
        RecordContext::with_format(request, body, BodyFormat::Json)
    } else {
        RecordContext::new(request, body)
    }
}

/// The values of a path, or `None` if it is too costly.
pub(super) fn selected(path: &CompiledPath, document: &JsonDocument) -> Option<Vec<JsonNodeId>> {
    match path.select(document) {
        Ok(OwnedSelection::Nothing) => Some(Vec::new()),
        Ok(OwnedSelection::One(node)) => Some(vec![node]),
        Ok(OwnedSelection::Many(nodes)) => Some(nodes),
        Err(_) => None,
    }
}

/// A string without quotes and escapes, or the JSON of another value.
pub(super) fn text(document: &JsonDocument, node: JsonNodeId) -> String {
    let mut out = Vec::new();
    if document.kind(node) == JsonKind::String {
        let (inner, has_escapes) = document.string(node);
        if has_escapes {
            unescape(inner, |part| out.extend_from_slice(part));
        } else {
            out.extend_from_slice(inner);
        }
    } else {
        document.compact(node, |part| out.extend_from_slice(part));
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Positions of a character outside of quotes and brackets.
fn outside(text: &str, wanted: char) -> impl Iterator<Item = usize> + '_ {
    let mut nesting = TextNesting::default();
    text.char_indices()
        .filter(move |(_, c)| nesting.step(*c) && *c == wanted)
        .map(|(at, _)| at)
}

#[derive(Default)]
struct TextNesting {
    quote: Option<char>,
    is_escaped: bool,
    brackets: u32,
}

impl TextNesting {
    /// Whether the next character is outside of quotes and brackets.
    fn step(&mut self, c: char) -> bool {
        let was_escaped = std::mem::take(&mut self.is_escaped);
        match (self.quote, c) {
            (Some(_), '\\') if !was_escaped => self.is_escaped = true,
            (Some(quote), _) if c == quote && !was_escaped => self.quote = None,
            (Some(_), _) => {}
            (None, '"') => self.quote = Some(c),
            // An apostrophe in a value is no quote.
            (None, '\'') if self.brackets > 0 => self.quote = Some(c),
            (None, '[') => self.brackets += 1,
            (None, ']') => self.brackets = self.brackets.saturating_sub(1),
            (None, _) => return self.brackets == 0,
        }
        false
    }
}

/// The parts between commas. A comma in quotes or brackets does not separate.
pub(super) fn split<'t>(text: &'t str, name: &str) -> Result<Vec<&'t str>, String> {
    let mut nesting = TextNesting::default();
    for c in text.chars() {
        nesting.step(c);
    }
    if nesting.quote.is_some() || nesting.brackets > 0 {
        return Err(format!(
            "{name} \"{text}\": a quote or bracket is not closed"
        ));
    }
    let mut parts = Vec::new();
    let mut start = 0;
    for at in outside(text, ',') {
        parts.push(text.get(start..at).unwrap_or_default());
        start = at + 1;
    }
    parts.push(text.get(start..).unwrap_or_default());
    Ok(parts
        .into_iter()
        .map(str::trim)
        .filter(|p| !p.is_empty())
        .collect())
}

#[cfg(test)]
mod tests {
    use forebay_ingest::tap::TapStage;

    use super::super::tests::sample;
    use super::*;

    #[test]
    fn conditions_compare_texts() {
        let body = "{\"user\":{\"id\":\"ada\",\"n\":1.10,\"say\":\"a,\\\"b\\\"=c\"},\"tags\":[\"x\",\"y\"]}";
        let sample = sample(TapStage::Received, &[], body);
        for (filter, expected) in [
            ("", true),
            ("user.id=ada", true),
            ("user.id=bob", false),
            ("user.id!=bob", true),
            ("user.id=ada, user.n=1.10", true),
            ("user.id=ada,user.n=1.1", false),
            ("user.missing=", false),
            ("user.missing!=x", true),
            ("tags=[\"x\",\"y\"]", true),
            ("$.tags[*]=y", true),
            ("$.tags[?@=='y']=y", true),
            ("[\"user\"].id=\"ada\"", true),
        ] {
            let parsed = SampleFilter::parse(filter, false).unwrap();
            assert_eq!(parsed.matches(&sample), expected, "{filter}");
        }
    }

    #[test]
    fn columns_of_rows_are_compared() {
        let mut sample = sample(TapStage::Row, &[], "");
        sample.cells = vec![("a.b".to_owned(), b"1".to_vec())];
        for (filter, expected) in [("a.b=1", true), ("a.b!=1", false), ("b=1", false)] {
            let parsed = SampleFilter::parse(filter, true).unwrap();
            assert_eq!(parsed.matches(&sample), expected, "{filter}");
        }
    }

    #[test]
    fn wrong_filters_are_explained() {
        for (filter, expected) in [
            ("user", "filter \"user\": allowed are PATH=VALUE"),
            ("a[=1", "is not closed"),
            ("a=\"1", "is not closed"),
            ("$[?]=1", "filter path \"$[?]\""),
        ] {
            let said = SampleFilter::parse(filter, false).unwrap_err();
            assert!(said.contains(expected), "{said}");
        }
    }
}
