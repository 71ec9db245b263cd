//! Parameters in the query of an address.

use forebay_record::form;

use super::response::Rejection;

/// Whether the query has `verbose=true`, exactly so, as in the reference service.
pub(super) fn is_verbose(query: &str) -> bool {
    !query.is_empty() && query.split('&').any(|p| p == "verbose=true")
}

/// Parses `batch`, if it is there. Letter case does not matter.
pub(super) fn batch(query: &str) -> Result<Option<bool>, Rejection> {
    let mut asked = None;
    if query.is_empty() {
        return Ok(asked);
    }
    for (name, value) in form::query_pairs(query) {
        if !name.eq_ignore_ascii_case("batch") {
            continue;
        }
        let value = value.unwrap_or_default();
        let is_batch = match value.to_ascii_lowercase().as_str() {
            "" | "true" | "1" => true,
            "false" | "0" => false,
            _ => return Err(Rejection::BatchFlag(value)),
        };
        if asked.is_some_and(|before| before != is_batch) {
            return Err(Rejection::BatchFlag("true and false".to_owned()));
        }
        asked = Some(is_batch);
    }
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbose_is_true_only_by_the_word_true() {
        assert!(is_verbose("verbose=true") && is_verbose("a=b&verbose=true"));
        for query in ["", "verbose", "verbose=1", "xverbose=true", "verbose=truer"] {
            assert!(!is_verbose(query), "{query}");
        }
    }

    #[test]
    fn batch_accepts_the_usual_words() {
        for (query, asked) in [
            ("", None),
            ("x=batch&batched=true", None),
            ("batch", Some(true)),
            ("batch=", Some(true)),
            ("a=1&Batch=TRUE", Some(true)),
            ("b%61tch=%31&batch", Some(true)),
            ("batch=0", Some(false)),
            ("batch=False&x=%zz", Some(false)),
        ] {
            assert_eq!(batch(query), Ok(asked), "{query}");
        }
        for (query, named) in [
            ("batch=yes", "yes"),
            ("batch=2", "2"),
            ("batch=true&batch=no", "no"),
            ("batch=true&batch=0", "true and false"),
            ("batch=%20true", " true"),
        ] {
            assert_eq!(
                batch(query),
                Err(Rejection::BatchFlag(named.to_owned())),
                "{query}"
            );
        }
    }
}
