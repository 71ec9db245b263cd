//! Line numbers of the sources and sinks of a definition file.

use forebay_schema::yaml::{YamlContent, YamlNode};

/// Lines of a file's sources, in file order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DefinitionLines(Vec<SourceLines>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct SourceLines {
    line: u64,
    sinks: Vec<u64>,
}

impl DefinitionLines {
    /// Finds the lines in a file that was parsed before.
    pub(crate) fn from_text(text: &str) -> Self {
        let Ok(document) = YamlNode::parse(text) else {
            return Self::default();
        };
        let source_lines = |source: &YamlNode| SourceLines {
            line: source.line,
            sinks: items(source, "sinks").map(|sink| sink.line).collect(),
        };
        Self(items(&document, "sources").map(source_lines).collect())
    }

    /// The line of a source or sink.
    pub(crate) fn line(&self, source: usize, sink: Option<usize>) -> Option<u64> {
        let source = self.0.get(source)?;
        match sink {
            Some(sink) => source.sinks.get(sink).copied(),
            None => Some(source.line),
        }
    }
}

/// The items of a list below a name.
fn items<'n>(node: &'n YamlNode, name: &str) -> impl Iterator<Item = &'n YamlNode> {
    let entries = match &node.content {
        YamlContent::Map(entries) => entries.as_slice(),
        YamlContent::Scalar(_) | YamlContent::List(_) => &[],
    };
    let below = entries.iter().find(|(n, _)| n.text == name);
    let items = match below.map(|(_, node)| &node.content) {
        Some(YamlContent::List(items)) => items.as_slice(),
        _ => &[],
    };
    items.iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_and_sinks_have_line_numbers() {
        let text = "\
sources:
  - name: a
    sinks:
      - table: in.a.b

      - table: in.a.c
  - { name: b }
";
        let places = DefinitionLines::from_text(text);
        let lines = [
            (0, None, Some(2)),
            (0, Some(0), Some(4)),
            (0, Some(1), Some(6)),
            (0, Some(2), None),
            (1, None, Some(7)),
            (2, None, None),
        ];
        for (source, sink, line) in lines {
            assert_eq!(places.line(source, sink), line, "{source} {sink:?}");
        }
    }
}
