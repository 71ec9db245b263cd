//! Suggestions for misspelled names.

/// The most similar of `names`, if it is similar enough to suggest. Case, `_` and `-` don't matter.
pub fn nearest<N: AsRef<str>>(given: &str, names: impl IntoIterator<Item = N>) -> Option<N> {
    let plain = |text: &str| text.to_lowercase().replace(['_', '-'], "");
    // Of a path, only the last name is likely to be wrong.
    let last = given.rsplit(['.', '/']).next().unwrap_or(given);
    let length = plain(last).chars().count();
    let given = plain(given);
    let near = names.into_iter().map(|name| {
        (
            strsim::damerau_levenshtein(&given, &plain(name.as_ref())),
            name,
        )
    });
    let (distance, name) = near.min_by_key(|(distance, _)| *distance)?;
    // At most a third of the name may differ; beyond that it is another word.
    (distance <= (length / 3).max(2)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_suggested_and_far_ones_are_not() {
        let names = ["api.listen", "api.publicUrl", "api.maxErrors"];
        for (given, name) in [
            ("api.lisen", Some("api.listen")),
            ("api.publicURL", Some("api.publicUrl")),
            ("api.max_errors", Some("api.maxErrors")),
            ("api.workers", None),
        ] {
            assert_eq!(nearest(given, names), name, "{given}");
        }
        assert_eq!(nearest("queu", Vec::<String>::new()), None);
    }
}
