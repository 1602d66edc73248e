//! A flag that a component is started with.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// `--NAME=VALUE`. It becomes part of a program and of a manifest, so it has only characters that neither a shell nor
/// YAML interprets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Flag {
    name: String,
    value: String,
}

/// Why a text is not a [`Flag`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a flag is `--NAME=VALUE`, its name of `a-z`, `0-9` and `-`, its value of letters, digits and `.,:/_-`")]
pub struct NotAFlag;

impl Flag {
    /// The flag's name, without the dashes.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl FromStr for Flag {
    type Err = NotAFlag;

    fn from_str(text: &str) -> Result<Self, NotAFlag> {
        let (name, value) = text.strip_prefix("--").and_then(|flag| flag.split_once('=')).ok_or(NotAFlag)?;
        let named = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let plain = value.bytes().all(|b| b.is_ascii_alphanumeric() || b".,:/_-".contains(&b));
        match named && plain && !value.is_empty() {
            true => Ok(Self { name: name.to_owned(), value: value.to_owned() }),
            false => Err(NotAFlag),
        }
    }
}

impl TryFrom<String> for Flag {
    type Error = NotAFlag;

    fn try_from(text: String) -> Result<Self, NotAFlag> {
        text.parse()
    }
}

impl From<Flag> for String {
    fn from(flag: Flag) -> Self {
        flag.to_string()
    }
}

impl fmt::Display for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--{}={}", self.name, self.value)
    }
}

impl JsonSchema for Flag {
    fn schema_name() -> Cow<'static, str> {
        "Flag".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "`--NAME=VALUE`",
            "pattern": "^--[a-z][-a-z0-9]*=[-A-Za-z0-9.,:/_]+$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_reads_what_it_writes() {
        for text in ["--authorization-mode=Node", "--etcd-servers=https://127.0.0.1:2379,https://a:1", "--v=2"] {
            assert_eq!(text.parse::<Flag>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_a_shell_or_a_manifest_could_take_for_more_is_no_flag() {
        for text in [
            "",
            "--",
            "-v=2",
            "--v",
            "--v=",
            "--V=2",
            "--=2",
            "--v=a b",
            "--v='",
            "--v=$(x)",
            "--v=a\n- b",
            "--v=#",
            "--1=2",
        ] {
            assert_eq!(text.parse::<Flag>(), Err(NotAFlag), "{text:?}");
        }
    }
}
