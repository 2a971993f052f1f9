//! Options that are one of a few words.

/// A word that is none of those that may stand in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownChoice {
    /// The word.
    pub found: String,
    /// Those that exist.
    pub known: Vec<&'static str>,
}

impl std::fmt::Display for UnknownChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` is not ", self.found)?;
        for (i, word) in self.known.iter().enumerate() {
            let before = match i {
                0 => "",
                _ if i + 1 == self.known.len() => " or ",
                _ => ", ",
            };
            write!(f, "{before}`{word}`")?;
        }
        Ok(())
    }
}

impl std::error::Error for UnknownChoice {}

/// What a word stands for.
///
/// # Errors
/// It is none of the words of the table.
pub(crate) fn choose<T: Copy>(text: &str, table: &[(&'static str, T)]) -> Result<T, UnknownChoice> {
    let found = table.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice);
    let known = || table.iter().map(|(word, _)| *word).collect();
    found.ok_or_else(|| UnknownChoice { found: text.to_owned(), known: known() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_word_is_told_the_known_ones() {
        let table = [("no", 0), ("some", 1), ("all", 2)];
        assert_eq!(choose("some", &table), Ok(1));
        assert_eq!(choose("none", &table).unwrap_err().to_string(), "`none` is not `no`, `some` or `all`");
    }
}
