//! The name that was probably meant.

/// The nearest of `names`, if one is near enough to be worth mentioning.
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
    // A third of the name may be wrong: more, and it is another word.
    (distance <= (given.chars().count() / 3).max(2)).then_some(name)
}
