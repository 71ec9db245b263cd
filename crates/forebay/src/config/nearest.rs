//! Suggestions for misspelled names.

/// The nearest of `names`, if it is near enough to suggest.
pub(crate) fn nearest(given: &str, names: impl IntoIterator<Item = String>) -> Option<String> {
    let distance =
        |name: &str| strsim::damerau_levenshtein(&given.to_lowercase(), &name.to_lowercase());
    let near = names.into_iter().map(|name| (distance(&name), name));
    let (distance, name) = near.min_by_key(|(distance, _)| *distance)?;
    // A third of the name may be wrong: beyond that it is another word.
    let length = given
        .rsplit(['.', '/'])
        .next()
        .map_or(0, |last| last.chars().count());
    (distance <= (length / 3).max(2)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_suggested_and_far_ones_are_not() {
        let names = || ["api.listen", "api.publicUrl"].map(str::to_owned);
        assert_eq!(nearest("api.lisen", names()).as_deref(), Some("api.listen"));
        assert_eq!(
            nearest("api.publicURL", names()).as_deref(),
            Some("api.publicUrl")
        );
        assert_eq!(nearest("api.workers", names()), None);
    }
}
