//! Objects in the API, by their names.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// An object's name. It becomes part of a program, so it has only characters that neither a shell nor a URL interprets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectName(String);

/// Why a text is not an [`ObjectName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an object's name is 1 to 253 letters, digits and `.:_-`, of which a letter or digit is first")]
pub struct NotAnObjectName;

impl ObjectName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ObjectName {
    type Err = NotAnObjectName;

    fn from_str(text: &str) -> Result<Self, NotAnObjectName> {
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b".:_-".contains(&b));
        match plain && text.len() <= 253 && text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            true => Ok(Self(text.to_owned())),
            false => Err(NotAnObjectName),
        }
    }
}

impl TryFrom<String> for ObjectName {
    type Error = NotAnObjectName;

    fn try_from(text: String) -> Result<Self, NotAnObjectName> {
        text.parse()
    }
}

impl From<ObjectName> for String {
    fn from(name: ObjectName) -> Self {
        name.0
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for ObjectName {
    fn schema_name() -> Cow<'static, str> {
        "ObjectName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "Name of an object in the API",
            "pattern": "^[A-Za-z0-9][-A-Za-z0-9.:_]{0,252}$",
        })
    }
}

/// Objects of one namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Objects {
    /// The namespace.
    pub namespace: ObjectName,
    /// Kind (as kubectl calls it) and name of each object.
    pub objects: Vec<(ObjectName, ObjectName)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_shell_takes_for_more_than_a_word_is_a_name() {
        assert_eq!("kubeadm:cluster-admins".parse::<ObjectName>().unwrap().to_string(), "kubeadm:cluster-admins");
        for bad in ["", "-a", ":a", "a b", "a;b", "$(a)", "a/b", "a'", "a\n", &"a".repeat(254)] {
            assert!(bad.parse::<ObjectName>().is_err(), "{bad:?}");
        }
    }
}
