//! What there is to know, by path.

use serde_json::{Map, Value};

/// What a metadata service says: values at paths like `/latest/meta-data/role`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree(Map<String, Value>);

/// A path at which nothing can be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// Its letters are not those of a path.
    #[error("the key {0:?} is none: letters, digits, `.`, `_` and `-` are expected, with `/` between names")]
    Letters(String),
    /// One key is a value and the beginning of another.
    #[error("the key {0:?} cannot be a value and have others below it")]
    Both(String),
}

/// What is at a path.
pub(super) enum Found<'a> {
    Value(&'a str),
    Names(&'a Map<String, Value>),
}

impl Tree {
    /// Puts a value at a path.
    pub fn insert(&mut self, path: &str, value: &str) -> Result<(), BadKey> {
        let names: Vec<&str> = path.split('/').collect();
        let letters = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
        if names.iter().any(|name| name.is_empty() || !name.chars().all(letters)) {
            return Err(BadKey::Letters(path.to_owned()));
        }
        let both = || BadKey::Both(path.to_owned());
        let (last, above) = names.split_last().expect("a split has one part at least");
        let mut place = &mut self.0;
        for name in above {
            let below = place.entry(*name).or_insert_with(|| Value::Object(Map::new()));
            place = below.as_object_mut().ok_or_else(both)?;
        }
        match place.insert((*last).to_owned(), value.into()) {
            Some(Value::Object(_)) => Err(both()),
            _ => Ok(()),
        }
    }

    pub(super) fn find(&self, path: &str) -> Option<Found<'_>> {
        let mut place = &self.0;
        let mut names = path.split('/').filter(|name| !name.is_empty()).peekable();
        while let Some(name) = names.next() {
            match place.get(name)? {
                Value::Object(below) => place = below,
                Value::String(value) if names.peek().is_none() => return Some(Found::Value(value)),
                _ => return None,
            }
        }
        Some(Found::Names(place))
    }
}

impl Found<'_> {
    /// As a line, or the names below, those with more below them with a `/`.
    pub(super) fn text(&self) -> String {
        let line = |(name, value): (&String, &Value)| format!("{name}{}", if value.is_object() { "/" } else { "" });
        match self {
            Self::Value(value) => (*value).to_owned(),
            Self::Names(names) => names.iter().map(line).collect::<Vec<_>>().join("\n"),
        }
    }

    pub(super) fn json(&self) -> String {
        match self {
            Self::Value(value) => Value::from(*value).to_string(),
            Self::Names(names) => Value::from((*names).clone()).to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(tree: &Tree, path: &str) -> Option<String> {
        tree.find(path).map(|found| found.text())
    }

    #[test]
    fn a_path_leads_to_a_value_or_to_names() {
        let mut tree = Tree::default();
        tree.insert("latest/meta-data/role", "web").unwrap();
        tree.insert("latest/meta-data/tags/a", "1").unwrap();
        tree.insert("latest/meta-data/tags/a", "2").unwrap();
        assert_eq!(text(&tree, "/latest/meta-data/role").as_deref(), Some("web"));
        assert_eq!(text(&tree, "/latest/meta-data/").as_deref(), Some("role\ntags/"));
        assert_eq!(text(&tree, "/latest/meta-data/tags/a").as_deref(), Some("2"));
        assert_eq!(tree.find("/latest/meta-data/tags").unwrap().json(), r#"{"a":"2"}"#);
        for missing in ["/latest/x", "/latest/meta-data/role/x", "/Latest"] {
            assert_eq!(text(&tree, missing), None, "{missing}");
        }
    }

    #[test]
    fn a_key_is_a_path_and_no_value_has_others_below_it() {
        let mut tree = Tree::default();
        for key in ["", "/a", "a/", "a//b", "a b", "a\n", "ä"] {
            assert_eq!(tree.insert(key, ""), Err(BadKey::Letters(key.to_owned())));
        }
        tree.insert("a/b", "1").unwrap();
        assert_eq!(tree.insert("a", "1"), Err(BadKey::Both("a".to_owned())));
        let mut tree = Tree::default();
        tree.insert("a", "1").unwrap();
        assert_eq!(tree.insert("a/b", "1"), Err(BadKey::Both("a/b".to_owned())));
    }
}
