//! Suggestions for misspelled names.

/// The most similar of `names`, if it is similar enough to suggest.
pub(super) fn nearest<'a>(
    given: &str,
    names: impl IntoIterator<Item = &'a String>,
) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace(['_', '-'], "");
    let given = plain(given);
    let near = names
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&given, &plain(name)), name));
    let (distance, name) = near.min_by_key(|(distance, _)| *distance)?;
    // At most a third of the name may differ; beyond that it is another word.
    (distance <= (given.chars().count() / 3).max(2)).then_some(name)
}
