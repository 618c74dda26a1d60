//! Finds the name that was probably meant.

/// Returns the name with the fewest differences from a word, or `None` if each name has too many.
pub(super) fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / LETTERS_PER_DIFFERENCE).max(1);
    names
        .into_iter()
        .filter(|name| name.len().abs_diff(word.len()) <= limit * 4)
        .map(|name| (differences(word, name), name))
        .filter(|(count, _)| *count <= limit)
        .min_by_key(|(count, _)| *count)
        .map(|(_, name)| name)
}

/// Returns a hint with the nearest of these names, or an empty text if no name is near.
pub(super) fn did_you_mean<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, names).map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

/// Returns the number of letters to insert, delete or replace until one word becomes the other. Letter case is
/// ignored, and `-` equals `_`.
fn differences(one: &str, other: &str) -> usize {
    let letters = |word: &str| -> Vec<char> {
        word.chars().map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect()
    };
    let (one, other) = (letters(one), letters(other));
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (column, other_letter) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != other_letter);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

/// A near name differs from the word in at most one of this many letters.
const LETTERS_PER_DIFFERENCE: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_counted() {
        assert_eq!(differences("", "abc"), 3);
        assert_eq!(differences("kitten", "sitting"), 3);
        assert_eq!(differences("link-timeout", "LINK_TIMEOUT"), 0);
        assert_eq!(differences("schön", "schon"), 1);
    }

    #[test]
    fn the_nearest_name_is_found_if_it_is_near() {
        let names = ["link_timeout", "timeout", "policy"];

        assert_eq!(nearest("timeot", names), Some("timeout"));
        assert_eq!(nearest("linktimeout", names), Some("link_timeout"));
        assert_eq!(nearest("speed", names), None);
        assert_eq!(nearest("", names), None);
        assert_eq!(nearest(&"x".repeat(1 << 20), names), None);
    }
}
