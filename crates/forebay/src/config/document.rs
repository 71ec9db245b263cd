//! A configuration file as a YAML document with positions, so that a violation can name its line.

use forebay_schema::yaml::YamlError;
pub(crate) use forebay_schema::yaml::{YamlContent, YamlKey, YamlNode};
use serde_json::Value;

/// Parses a document; an empty one is an empty mapping.
pub(crate) fn parse(text: &str) -> Result<YamlNode, (Option<u64>, String)> {
    let parsed = YamlNode::parse(text);
    let mut node =
        parsed.map_err(|YamlError { place, text }| (place.map(|(line, _)| line), text))?;
    if matches!(node.content, YamlContent::Scalar(Value::Null)) {
        node.content = YamlContent::Map(Vec::new());
    }
    Ok(node)
}

/// Applies `change` to each text of a document; stops at the first error and returns its line.
pub(crate) fn change_texts(
    node: &mut YamlNode,
    change: &mut dyn FnMut(&str) -> Result<Option<String>, String>,
) -> Result<(), (u64, String)> {
    match &mut node.content {
        YamlContent::Scalar(Value::String(text)) => {
            if let Some(changed) = change(text).map_err(|e| (node.line, e))? {
                *text = changed;
            }
        }
        YamlContent::Scalar(_) => {}
        YamlContent::List(items) => {
            for item in items {
                change_texts(item, change)?;
            }
        }
        YamlContent::Map(entries) => {
            for (_, item) in entries {
                change_texts(item, change)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_line_numbers() {
        let node = parse("# c\na:\n  b: 1\n  c: [x, 5MB]\nd: true\n").unwrap();
        let YamlContent::Map(entries) = &node.content else {
            panic!("{node:?}")
        };
        assert_eq!((entries[0].0.text.as_str(), entries[0].0.line), ("a", 2));
        let YamlContent::Map(inner) = &entries[0].1.content else {
            panic!("{node:?}")
        };
        assert_eq!((inner[1].0.line, inner[1].1.line), (4, 4));
        assert_eq!(
            node.value(),
            serde_json::json!({"a": {"b": 1, "c": ["x", "5MB"]}, "d": true})
        );
        assert_eq!(parse("").unwrap().value(), serde_json::json!({}));
        assert_eq!(parse("a: 1\nb: [\n").unwrap_err().0, Some(2));
    }
}
