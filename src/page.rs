//! The documentation page as data: every sentence of "Troubleshooting Clusters", under the id that claims cite.
//!
//! Compiled in from `scenarios/page.yaml`. The page holds the statements; the scenarios decide which of them are
//! tested.

use std::sync::LazyLock;

use serde::Deserialize;

/// The page, in its original order.
#[derive(Debug)]
pub struct Page {
    sentences: Vec<Sentence>,
}

/// One statement of the page.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Sentence {
    /// The id that claims cite: `node.pods-stop`, `m.replicas/node`.
    pub id: String,
    /// The part of the page that it comes from.
    pub part: Part,
    /// The statement.
    pub says: String,
    /// The failure that a consequence follows from, or that a mitigation is meant to mitigate.
    #[serde(default)]
    pub of: Option<String>,
}

/// A part of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// How to inspect a cluster.
    Procedure,
    /// What causes failures.
    Cause,
    /// What follows from a failure.
    Consequence,
    /// What can be done in advance.
    Mitigation,
}

static PAGE: LazyLock<Page> = LazyLock::new(|| Page {
    sentences: serde_saphyr::from_str(include_str!("../scenarios/page.yaml"))
        .expect("scenarios/page.yaml is compiled in, and a test reads it"),
});

impl Page {
    /// The page, parsed at first use.
    pub fn get() -> &'static Self {
        &PAGE
    }

    /// The sentence with the given id.
    pub fn sentence(&self, id: &str) -> Option<&Sentence> {
        self.sentences.iter().find(|s| s.id == id)
    }

    /// All sentences, in the order of the page.
    pub fn sentences(&self) -> &[Sentence] {
        &self.sentences
    }
}

impl Sentence {
    /// Is it about a measure taken in advance? A claim on such a sentence needs an arm with the measure and an arm
    /// without it.
    pub fn is_mitigation(&self) -> bool {
        self.part == Part::Mitigation
    }
}
