//! Names that a scenario file gives to things: itself, its variants, targets, workloads and claims.
//!
//! They end up in Kubernetes object names, file names, command lines and reports. So they are as narrow as Kubernetes'
//! own labels (RFC 1123), and never need quoting. References to names stay plain text; the check that they resolve to a
//! [`Name`] makes them safe.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

/// Longest name. It is shorter than Kubernetes' 63, because run ids and pod suffixes are added to it.
pub const MAX_NAME: usize = 40;

/// A name: 1 to [`MAX_NAME`] characters of `a-z`, `0-9` and `-`, with no `-` at either end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Name(String);

/// Why a text is not a [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAName {
    /// The text is empty.
    #[error("a name can't be empty")]
    Empty,
    /// It is longer than [`MAX_NAME`].
    #[error("a name has at most {MAX_NAME} characters, this one has {0}")]
    TooLong(usize),
    /// It has a character outside the alphabet.
    #[error("a name consists of `a-z`, `0-9` and `-` only, this one has {}", shown_char(*.0))]
    Character(char),
    /// It has a dash at an end.
    #[error("a name begins and ends with a letter or a digit, not with `-`")]
    Dash,
}

/// A character as it can be shown to people: quoted if visible, otherwise as a code point.
fn shown_char(c: char) -> String {
    match c {
        ' ' => "a space".to_owned(),
        c if c.is_ascii_graphic() || c.is_alphanumeric() => format!("`{c}`"),
        c => format!("the character U+{:04X}", u32::from(c)),
    }
}

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        if text.is_empty() {
            return Err(NotAName::Empty);
        }
        if let Some(bad) = text.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-')) {
            return Err(NotAName::Character(bad));
        }
        if text.len() > MAX_NAME {
            return Err(NotAName::TooLong(text.len()));
        }
        if text.starts_with('-') || text.ends_with('-') {
            return Err(NotAName::Dash);
        }
        Ok(Self(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Name {
    fn schema_name() -> Cow<'static, str> {
        "Name".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A name: letters a-z, digits and dashes, no dash at either end.",
            "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
            "maxLength": MAX_NAME,
        })
    }
}

impl Deref for Name {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_taken_for_an_option_a_command_or_another_name_is_refused() {
        for text in [
            "-rf",
            "--privileged",
            "a;b",
            "$(x)",
            "a b",
            "a\nb",
            "a\0b",
            "a\u{202e}b",
            "A",
            "ä",
            "a.b",
            "a/b",
            "..",
            "a-",
            "",
        ] {
            assert!(text.parse::<Name>().is_err(), "{text:?}");
        }
        assert_eq!("a".repeat(65536).parse::<Name>(), Err(NotAName::TooLong(65536)));
        assert!("a".repeat(MAX_NAME).parse::<Name>().is_ok());
        assert!("0-a".parse::<Name>().is_ok());
    }

    #[test]
    fn a_journal_can_not_smuggle_in_a_bad_name() {
        assert!(serde_json::from_str::<Name>(r#""-rf""#).is_err());
    }
}
