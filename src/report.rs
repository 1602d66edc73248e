//! Reports: what a run found, for people and for programs.
//!
//! This module takes the events of a run and returns a [`Report`]. It is a pure fold, so the same journal gives the
//! same bytes in every format. The formats (terminal, JSON, JUnit, Markdown) take nothing but a `Report`. None of them
//! judges, and all of them carry the same verdicts. Only the live display ([`live`]) sees events as they come.

mod api_writes;
mod data;
pub mod escape;
mod fold;
pub mod json;
pub mod junit;
pub mod live;
pub mod markdown;
mod outage;
pub mod several_runs;
mod store_recovery;
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
    Recovery, Remedied, Run, Seconds, Setting, Span, Time, UndoStep, Window, Witness, Writes,
};

/// Everything that is reported about one run. `docs/report.md` explains each field.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The run.
    pub run: Run,
    /// The cluster that it ran on.
    pub cluster: Cluster,
    /// The result of each claim, in the order of the scenario file.
    pub claims: Vec<Claim>,
    /// What was broken that a highly available set-up can't do without; absent otherwise.
    pub exceeded: Option<String>,
    /// The faults, with the proofs of their effects.
    pub faults: Vec<Fault>,
    /// The two arms of each mitigation, treatment and control.
    pub mitigations: Vec<Mitigation>,
    /// The outages that each request probe measured from the first fault on.
    pub outages: Vec<Outage>,
    /// What recovering the store by hand took and lost; absent if the run's remedy is another.
    pub recovery: Option<Recovery>,
    /// What became of the writes to the API that the run made; absent if it made none, or did not look for them.
    pub writes: Option<Writes>,
    /// The phases and their times.
    pub phases: Vec<PhaseSpan>,
    /// What cut the run short, if anything did.
    pub interrupted: Option<Interruption>,
    /// What disturbed the run, in words.
    pub disturbances: Vec<String>,
    /// How the cluster was left.
    pub cleanup: Cleanup,
    /// Where the time went.
    pub time: Time,
}

/// The overall outcome of a run. Ordered by gravity, the gravest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The cluster differs, or may differ, from what it was before.
    Dirty,
    /// A signal cut the run short; everything was undone.
    Interrupted,
    /// A claim is refuted.
    Refuted,
    /// A claim is neither upheld nor refuted.
    Inconclusive,
    /// Some claims could not be tested; all others are upheld.
    Unsupported,
    /// Every claim is upheld.
    Upheld,
    /// There was no claim.
    NothingSelected,
}

/// The number of claims with each verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Seen to hold.
    pub upheld: usize,
    /// Seen to fail.
    pub refuted: usize,
    /// Neither.
    pub inconclusive: usize,
    /// Could not be tested.
    pub unsupported: usize,
}

impl Counts {
    /// The number of all claims.
    pub fn all(self) -> usize {
        self.upheld + self.refuted + self.inconclusive + self.unsupported
    }
}

impl Report {
    /// Counts the claims by verdict.
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

    /// The overall outcome of the run.
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

    /// Whether the cluster differs, or may differ, from what it was before, according to the journal. Any sign of it is
    /// enough.
    fn left_dirty(&self) -> bool {
        self.cleanup.end == Some(End::Dirty)
            || self.cleanup.residue.as_ref().is_some_and(|r| !r.is_empty())
            || self.faults.iter().flat_map(|f| &f.undo).any(|u| u.error.is_some())
            // The journal has no end, so an injected fault may still be in.
            || self.cleanup.end.is_none() && self.faults.iter().any(|f| f.injected.is_some())
    }

    /// The exit code. With `allow_unsupported`, unsupported claims are no failure as long as another claim is upheld.
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

/// Writes `report.json`, `report.xml` (JUnit) and `report.md` into the run's directory. Each file is written completely
/// or not at all.
///
/// # Errors
/// If the directory can't be written to.
pub fn write_all(report: &Report, dir: &Path) -> Result<()> {
    write(dir, "report.json", &json::render(report)?)?;
    write(dir, "report.xml", &junit::render(std::slice::from_ref(report), &[])?)?;
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
        // A half-written file is of no use. If even that can't be removed, the error names the report it belongs to.
        let _ = fs::remove_file(&partial);
        Error::could_not_run(format!("cannot write the report {}: {e}", path.display()))
            .next("the journal is beside it: `kchaos judge` makes the report again once there is room")
    })
}
