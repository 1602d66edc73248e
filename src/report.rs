//! What a run found, for people and for programs.
//!
//! Takes the events of a run, gives a [`Report`]: a pure fold, so the same journal gives the same bytes in every format. The formats
//! (terminal, JSON, JUnit, Markdown) take nothing but a `Report`; none of them judges, and all of them carry the same verdicts.
//! The live display ([`live`]) is the one that sees events as they come.

mod data;
pub mod escape;
mod fold;
pub mod json;
pub mod junit;
pub mod live;
pub mod markdown;
mod outage;
pub mod several_runs;
pub mod terminal;
mod words;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use serde::Serialize;

use crate::error::{Error, Exit, Result};
use crate::event::{End, Interruption};
use crate::verdict::Verdict;

pub use data::{
    AtLeast, Bounds, Claim, Cleanup, Cluster, Down, Evidence, Fault, Mitigation, Node, Outage, PhaseSpan, Proof,
    Remedied, Run, Seconds, Setting, Span, Time, UndoStep, Window, Witness,
};

/// Everything that is to be said about one run. Field by field in `docs/report.md`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// What was run.
    pub run: Run,
    /// What it was run on.
    pub cluster: Cluster,
    /// What was found, claim by claim, in the order of the scenario file.
    pub claims: Vec<Claim>,
    /// What was broken, and the proof that it was.
    pub faults: Vec<Fault>,
    /// Treatment and control of each mitigation.
    pub mitigations: Vec<Mitigation>,
    /// What each request probe measured while the fault was in and after it.
    pub outages: Vec<Outage>,
    /// When each phase was.
    pub phases: Vec<PhaseSpan>,
    /// What cut the run short.
    pub interrupted: Option<Interruption>,
    /// What disturbed the run, in words.
    pub disturbances: Vec<String>,
    /// How the cluster was left.
    pub cleanup: Cleanup,
    /// Where the time went.
    pub time: Time,
}

/// What a run comes to, all in all. The gravest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The cluster was left differing from what it was before, or may have been.
    Dirty,
    /// A signal cut the run short; everything was undone.
    Interrupted,
    /// A claim is refuted.
    Refuted,
    /// A claim is neither upheld nor refuted.
    Inconclusive,
    /// Some claims could not be put to the test, all others are upheld.
    Unsupported,
    /// Every claim is upheld.
    Upheld,
    /// There was no claim.
    NothingSelected,
}

/// How many claims have which verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Seen to hold.
    pub upheld: usize,
    /// Seen to fail.
    pub refuted: usize,
    /// Neither.
    pub inconclusive: usize,
    /// Could not be put to the test.
    pub unsupported: usize,
}

impl Counts {
    /// All claims.
    pub fn all(self) -> usize {
        self.upheld + self.refuted + self.inconclusive + self.unsupported
    }
}

impl Report {
    /// How many claims have which verdict.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for claim in &self.claims {
            match claim.verdict {
                Verdict::Upheld => counts.upheld += 1,
                Verdict::Refuted => counts.refuted += 1,
                Verdict::Inconclusive => counts.inconclusive += 1,
                Verdict::Unsupported => counts.unsupported += 1,
            }
        }
        counts
    }

    /// What the run comes to.
    pub fn outcome(&self) -> Outcome {
        let counts = self.counts();
        if self.left_dirty() {
            return Outcome::Dirty;
        }
        match self.claims.iter().map(|c| c.verdict).max() {
            _ if self.interrupted.as_ref().is_some_and(Interruption::wished) => Outcome::Interrupted,
            None => Outcome::NothingSelected,
            Some(Verdict::Refuted) => Outcome::Refuted,
            Some(Verdict::Inconclusive) => Outcome::Inconclusive,
            Some(Verdict::Unsupported) if counts.upheld == 0 => Outcome::Inconclusive,
            Some(Verdict::Unsupported) => Outcome::Unsupported,
            Some(Verdict::Upheld) => Outcome::Upheld,
        }
    }

    /// Does the cluster differ from what it was, as far as the journal tells? Any sign of it is enough.
    fn left_dirty(&self) -> bool {
        self.cleanup.end == Some(End::Dirty)
            || self.cleanup.residue.as_ref().is_some_and(|r| !r.is_empty())
            || self.faults.iter().flat_map(|f| &f.undo).any(|u| u.error.is_some())
            // No end in the journal: whatever went in may still be in.
            || self.cleanup.end.is_none() && self.faults.iter().any(|f| f.injected.is_some())
    }

    /// The exit code. With `allow_unsupported`, claims that can't be put to the test are no failure as long as another one was upheld.
    pub fn exit(&self, allow_unsupported: bool) -> Exit {
        match self.outcome() {
            Outcome::Dirty => Exit::Dirty,
            Outcome::Interrupted => Exit::Interrupted,
            Outcome::Refuted => Exit::Refuted,
            Outcome::Unsupported if allow_unsupported => Exit::Upheld,
            Outcome::Inconclusive | Outcome::Unsupported => Exit::Inconclusive,
            Outcome::Upheld => Exit::Upheld,
            Outcome::NothingSelected => Exit::NothingSelected,
        }
    }
}

/// Writes `report.json`, `report.xml` (JUnit) and `report.md` into the run's directory; each is there whole or not at all.
///
/// # Errors
/// If the directory can't be written to.
pub fn write_all(report: &Report, dir: &Path) -> Result<()> {
    write(dir, "report.json", &json::render(report)?)?;
    write(dir, "report.xml", &junit::render(std::slice::from_ref(report))?)?;
    write(dir, "report.md", &markdown::render(report))
}

fn write(dir: &Path, name: &str, content: &str) -> Result<()> {
    let path = dir.join(name);
    let partial = dir.join(format!("{name}.partial"));
    let written = File::create(&partial).and_then(|mut file| {
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        fs::rename(&partial, &path)?;
        File::open(dir)?.sync_all()
    });
    written.map_err(|e| {
        // What is half written is of no use; if even that can't be removed, the error tells where it is.
        let _ = fs::remove_file(&partial);
        Error::could_not_run(format!("cannot write the report {}: {e}", path.display()))
            .next("the journal is beside it: `kchaos judge` makes the report again once there is room")
    })
}
