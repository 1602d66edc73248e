//! The documentation page as data: every sentence of "Troubleshooting Clusters" under the id that claims cite.
//!
//! Compiled in from `scenarios/page.yaml`. Says what the page says; which sentences are put to the test is for the scenarios.

use std::sync::LazyLock;

use serde::Deserialize;

/// The page, in its own order.
#[derive(Debug)]
pub struct Page {
    sentences: Vec<Sentence>,
}

/// One statement of the page.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Sentence {
    /// What claims cite: `node.pods-stop`, `m.replicas/node`.
    pub id: String,
    /// Which part of the page it is from.
    pub part: Part,
    /// The statement.
    pub says: String,
    /// The failure that a consequence follows from, or that a mitigation is said to mitigate.
    #[serde(default)]
    pub of: Option<String>,
}

/// Part of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// How to look at a cluster.
    Procedure,
    /// What failures come from.
    Cause,
    /// What follows from a failure.
    Consequence,
    /// What can be done beforehand.
    Mitigation,
}

static PAGE: LazyLock<Page> = LazyLock::new(|| Page {
    sentences: serde_saphyr::from_str(include_str!("../scenarios/page.yaml"))
        .expect("scenarios/page.yaml is compiled in, and a test reads it"),
});

impl Page {
    /// The page; read at first use.
    pub fn get() -> &'static Self {
        &PAGE
    }

    /// The sentence of an id.
    pub fn sentence(&self, id: &str) -> Option<&Sentence> {
        self.sentences.iter().find(|s| s.id == id)
    }

    /// All sentences, in the order of the page.
    pub fn sentences(&self) -> &[Sentence] {
        &self.sentences
    }
}

impl Sentence {
    /// Is it about something done beforehand, so that a claim on it needs an arm with and an arm without?
    pub fn is_mitigation(&self) -> bool {
        self.part == Part::Mitigation
    }
}
