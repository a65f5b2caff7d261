//! A command line in one string, `--cmd`: words as a POSIX shell splits them, nothing expanded.

use crate::error::Failure;
use std::str::Chars;

/// Splits a command line; a quote that is not closed is refused.
pub(super) fn split_words(text: &str) -> Result<Vec<String>, Failure> {
    let unclosed = || Failure::new(format!("invalid --cmd {text:?}: a quote is not closed"));
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\'' => word.get_or_insert_default().push_str(&verbatim(&mut characters).ok_or_else(unclosed)?),
            '"' => word.get_or_insert_default().push_str(&quoted(&mut characters).ok_or_else(unclosed)?),
            '\\' => word.get_or_insert_default().extend(characters.next()),
            c if c.is_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

/// What stands before the closing single quote.
fn verbatim(characters: &mut Chars<'_>) -> Option<String> {
    let (inside, rest) = characters.as_str().split_once('\'')?;
    *characters = rest.chars();
    Some(inside.to_owned())
}

/// What stands before the closing double quote; a backslash there means something before four characters only.
fn quoted(characters: &mut Chars<'_>) -> Option<String> {
    let mut inside = String::new();
    loop {
        match characters.next()? {
            '"' => return Some(inside),
            '\\' => match characters.next()? {
                c @ ('"' | '\\' | '$' | '`') => inside.push(c),
                c => inside.extend(['\\', c]),
            },
            c => inside.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_string_is_split_as_a_shell_splits_it() {
        let words = split_words(r#"sh -c "echo \"a b\" \n" 'c d' e\ f "" "#).unwrap();
        assert_eq!(words, ["sh", "-c", r#"echo "a b" \n"#, "c d", "e f", ""]);
    }

    #[test]
    fn an_open_quote_is_refused() {
        for text in ["echo 'a", "echo \"a", "\"a\\"] {
            assert!(split_words(text).is_err(), "{text}");
        }
    }
}
