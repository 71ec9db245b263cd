//! `${NAME}` and `${file:/path}` in texts of the configuration file, which keep secrets out of it.

use super::environment::Environment;

/// A secret in a file is one line; a larger file is a mistake.
const FILE_BYTES_MAX: usize = 64 << 10;

/// `text` with its references replaced, `None` without references. `$$` is a dollar sign. Errors name
/// the variable or the file, never its value, and don't quote an invalid reference: it may be part of a
/// password.
pub(crate) fn substitute(text: &str, env: &Environment) -> Result<Option<String>, String> {
    if !text.contains('$') {
        return Ok(None);
    }
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        result.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some(after) = after.strip_prefix('{') {
            let Some((name, after)) = after.split_once('}') else {
                return Err(
                    "a reference ${… has no closing brace; write $$ for a dollar sign".to_owned(),
                );
            };
            result.push_str(&look_up(name, env)?);
            rest = after;
        } else {
            result.push('$');
            rest = after;
        }
    }
    result.push_str(rest);
    Ok(Some(result))
}

/// A reference to the variable of a name.
pub(crate) fn reference(name: &str) -> String {
    let letter = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_uppercase()
        } else {
            '_'
        }
    };
    let name: String = name.chars().map(letter).collect();
    format!("${{{name}}}")
}

fn look_up(name: &str, env: &Environment) -> Result<String, String> {
    if let Some(path) = name.strip_prefix("file:") {
        let content = std::fs::read(path).map_err(|e| format!("${{{name}}} can't be read: {e}"))?;
        if content.len() > FILE_BYTES_MAX {
            return Err(format!("${{{name}}} is larger than {FILE_BYTES_MAX} bytes"));
        }
        let text = String::from_utf8(content).map_err(|_| format!("${{{name}}} is not UTF-8"))?;
        return Ok(text.trim_end_matches(['\r', '\n']).to_owned());
    }
    let valid = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !valid {
        return Err(
            "a reference ${…} is neither ${VARIABLE} nor ${file:/path}; write $$ for a dollar sign"
                .to_owned(),
        );
    }
    env.get(name)
        .ok_or_else(|| format!("the variable {name} is not set"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_replaced_or_reported() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        std::fs::write(&file, "s3cret\n").unwrap();
        let env = Environment::from([("PASSWORD", "hunter2")]);
        let replaced = |text: &str| substitute(text, &env);
        assert_eq!(replaced("plain"), Ok(None));
        assert_eq!(
            replaced("a ${PASSWORD} b"),
            Ok(Some("a hunter2 b".to_owned()))
        );
        assert_eq!(replaced("5 $$ and $x"), Ok(Some("5 $ and $x".to_owned())));
        let from_file = format!("${{file:{}}}", file.display());
        assert_eq!(replaced(&from_file), Ok(Some("s3cret".to_owned())));
        assert_eq!(
            replaced("${NOPE}").unwrap_err(),
            "the variable NOPE is not set"
        );
        assert!(
            replaced("${file:/no/such}")
                .unwrap_err()
                .contains("${file:/no/such} can't be read")
        );
        assert!(
            replaced("${PASSWORD")
                .unwrap_err()
                .contains("closing brace")
        );
        assert!(replaced("${a b}").unwrap_err().contains("neither"));
    }
}
