//! Columns in arguments of commands: `NAME=TYPE[,OPTION…][:ARGUMENT]`.

use super::column::{ColumnDefinition, DATA_TYPES, TYPES, UNITS};

/// Parses `NAME=TYPE[,OPTION…][:ARGUMENT]`; errors have an example.
pub(crate) fn parse_column(text: &str) -> Result<ColumnDefinition, String> {
    let Some((name, rest)) = text.split_once('=') else {
        return Err("a column is NAME=TYPE, like user=path:user.id".to_owned());
    };
    if name.is_empty() {
        return Err("the column has no name: NAME=TYPE, like user=path:user.id".to_owned());
    }
    let (kind, options, argument) = parts(rest)?;
    let mut column = ColumnDefinition {
        name: name.to_owned(),
        kind,
        ..ColumnDefinition::default()
    };
    set_argument(&mut column, argument)?;
    for option in options {
        set_option(&mut column, &option)?;
    }
    Ok(column)
}

/// Type, options and argument; the text of an option may be in double quotes.
fn parts(text: &str) -> Result<(String, Vec<String>, Option<String>), String> {
    let mut words = vec![String::new()];
    let mut in_quotes = false;
    for (at, c) in text.char_indices() {
        match c {
            '"' => in_quotes = !in_quotes,
            ',' if !in_quotes => words.push(String::new()),
            ':' if !in_quotes => {
                let argument = text.get(at + 1..).unwrap_or_default().to_owned();
                let kind = words.remove(0);
                return Ok((kind, words, Some(argument)));
            }
            c => {
                if let Some(word) = words.last_mut() {
                    word.push(c);
                }
            }
        }
    }
    if in_quotes {
        return Err("a quote is not closed".to_owned());
    }
    let kind = words.remove(0);
    Ok((kind, words, None))
}

fn set_argument(column: &mut ColumnDefinition, argument: Option<String>) -> Result<(), String> {
    let kind = column.kind.clone();
    match (kind.as_str(), argument) {
        ("path", Some(path)) => {
            forebay_record::path::CompiledPath::compile(&path)
                .map_err(|e| format!("\"{path}\" is no path: {e}"))?;
            column.path = Some(path);
        }
        ("template", Some(text)) if !text.is_empty() => column.template = Some(text),
        ("static", Some(text)) => column.value = Some(text),
        ("path", None) => return Err("type path needs a path, like user=path:user.id".to_owned()),
        ("template", _) => {
            return Err(
                "type template needs a program, like 'total=template:Body(\"a\") + Body(\"b\")'"
                    .to_owned(),
            );
        }
        ("static", None) => return Err("type static needs a text, like env=static:prod".to_owned()),
        (kind, _) if !TYPES.contains(&kind) => {
            let near = forebay_schema::nearest(kind, TYPES);
            let near = near
                .map(|n| format!("; did you mean {n}?"))
                .unwrap_or_default();
            return Err(format!(
                "there is no column type \"{kind}\", allowed are {}{near}",
                TYPES.join(", ")
            ));
        }
        (_, None) => {}
        (kind, Some(_)) => return Err(format!("type {kind} has no argument after a colon")),
    }
    Ok(())
}

fn set_option(column: &mut ColumnDefinition, option: &str) -> Result<(), String> {
    let takes_json = matches!(column.kind.as_str(), "path" | "template");
    match option.split_once('=') {
        None if option == "key" => column.primary_key = true,
        None if option == "json" && takes_json => column.raw_string = Some(false),
        Some(("default", text)) if column.kind == "path" => {
            column.default_value = Some(text.to_owned())
        }
        Some(("as", data_type)) if DATA_TYPES.contains(&data_type) => {
            column.data_type = Some(data_type.to_owned());
        }
        Some(("as", other)) => {
            let allowed = DATA_TYPES.join(", ");
            return Err(format!(
                "there is no data type \"{other}\", allowed are {allowed}"
            ));
        }
        Some(("unit", unit)) if UNITS.contains(&unit) => column.unit = Some(unit.to_owned()),
        Some(("unit", other)) => {
            let allowed = UNITS.join(", ");
            return Err(format!(
                "there is no unit \"{other}\", allowed are {allowed}"
            ));
        }
        _ => {
            let kind = &column.kind;
            return Err(format!(
                "type {kind} has no option \"{option}\"; allowed are key, as=TYPE, unit=UNIT, json (path, template) and default=TEXT (path)"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn request(text: &str) -> Value {
        parse_column(text).unwrap().request()
    }

    #[test]
    fn column_arguments_are_parsed() {
        assert_eq!(request("id=uuid"), json!({"type": "uuid", "name": "id"}));
        assert_eq!(
            request("user=path:user.id"),
            json!({"type": "path", "name": "user", "path": "user.id", "rawString": true})
        );
        assert_eq!(
            request("u=path,key,json,default=\"a,b:c\":x[0]"),
            json!({"type": "path", "name": "u", "path": "x[0]", "defaultValue": "a,b:c", "rawString": false, "primaryKey": true})
        );
        assert_eq!(
            request("t=template:Body(\"a\")+Body(\"b:c\")"),
            json!({"type": "template", "name": "t", "rawString": true,
                   "template": {"language": "jsonnet", "content": "Body(\"a\")+Body(\"b:c\")"}})
        );
        assert_eq!(
            request("e=static:a:b"),
            json!({"type": "static", "name": "e", "value": "a:b"})
        );
        assert_eq!(
            request("u=path:[\"utm.source\"].x"),
            json!({"type": "path", "name": "u", "path": "[\"utm.source\"].x", "rawString": true})
        );
        assert_eq!(
            request("u=path:$.a[1:2, 'b:c']"),
            json!({"type": "path", "name": "u", "path": "$.a[1:2, 'b:c']", "rawString": true})
        );
        assert_eq!(
            request("at=path,as=timestamp,unit=ms:at"),
            json!({"type": "path", "name": "at", "path": "at", "rawString": true,
                   "dataType": "timestamp", "unit": "ms"})
        );
        assert_eq!(
            request("all=path:"),
            json!({"type": "path", "name": "all", "path": "", "rawString": true})
        );
    }

    #[test]
    fn errors_have_an_example_or_a_suggestion() {
        for (text, said) in [
            ("id", "NAME=TYPE"),
            ("=uuid", "has no name"),
            ("id=uid", "did you mean uuid?"),
            ("id=uuid:x", "has no argument after a colon"),
            ("p=path", "needs a path"),
            ("t=template:", "needs a program"),
            ("s=static", "needs a text"),
            ("id=uuid,default=x", "has no option \"default=x\""),
            ("p=path,kee:x", "has no option \"kee\""),
            (
                "p=path,as=number:x",
                "allowed are text, integer, double, boolean, timestamp, json",
            ),
            ("p=path,unit=h:x", "allowed are s, ms, us, ns"),
            ("p=path,default=\"x:y", "quote is not closed"),
            ("p=path:a[*]", "\"a[*]\" is no path: character 3: "),
            ("p=path:$.a[", "character 5: expected a selector"),
            ("p=path:$ref", "[\"$ref\"]"),
        ] {
            let error = parse_column(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
