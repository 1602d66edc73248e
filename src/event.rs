//! The events of a run: the only border between what acts on a cluster and what tells about it.
//!
//! The live display, the journal, the judge and every report consume [`Event`]s and nothing else, so a recorded run can be judged and
//! reported again without a cluster. Events are plain data; times are [`Mono`], comparable across every process of one boot.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::clock::{Mono, Wall};
use crate::plan::Plan;
use crate::residue::{Census, Difference};
use crate::undo::Undo;

/// One record of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When it was recorded.
    pub at: Mono,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// First event of every run.
    Started {
        /// Wall-clock time of the start, for display.
        wall: Wall,
        /// Identity of the boot whose clock stamps the events.
        boot_id: String,
        /// Version of kchaos that wrote it.
        version: String,
        /// What is going to be done and judged.
        plan: Box<Plan>,
    },
    /// The run went on to the next phase.
    Phase(Phase),
    /// What the residue audit will compare with: the cluster before anything of this run was put into it.
    Surveyed {
        /// The state of everything that is audited.
        census: Census,
    },
    /// The probes are sampling, and these are their series. A series that is listed here and gives no samples is a gap.
    Watching {
        /// Names of the series, by index of the probe in the plan.
        series: BTreeMap<usize, Vec<String>>,
    },
    /// What undoes the fault, written down (and on disk) before the fault goes in.
    Prepared {
        /// Index of the fault in the plan.
        fault: usize,
        /// Undos, in the order in which they must be applied.
        undo: Vec<Undo>,
    },
    /// What the remedy will need was saved.
    Saved {
        /// Index of the fault in the plan.
        fault: usize,
        /// What, in words.
        what: String,
    },
    /// The fault is about to go in. From here on it counts as in.
    Injecting {
        /// Index of the fault in the plan.
        fault: usize,
    },
    /// The call that injects has come back.
    Injected {
        /// Index of the fault in the plan.
        fault: usize,
        /// Why it may not have gone in; `None` if the call succeeded.
        error: Option<String>,
    },
    /// The witnesses of a fault's effect were asked.
    Witnessed(Proof),
    /// A probe took a sample.
    Sampled(Sample),
    /// Time spent waiting for Kubernetes (as against the harness' own work).
    Waited {
        /// What was waited for.
        what: String,
        /// Since when; until the event's own time.
        since: Mono,
    },
    /// What an operator would do about the fault is about to be done.
    Remedying {
        /// Index of the fault in the plan.
        fault: usize,
    },
    /// It is done, or was tried.
    Remedied {
        /// Index of the fault in the plan.
        fault: usize,
        /// Why it is not done; `None` if it is.
        error: Option<String>,
    },
    /// An undo is about to be applied.
    Undoing {
        /// Index of the fault in the plan.
        fault: usize,
        /// Index in the fault's `Prepared` record.
        step: usize,
    },
    /// An undo was applied and its effect checked.
    Undone {
        /// Index of the fault in the plan.
        fault: usize,
        /// Index in the fault's `Prepared` record.
        step: usize,
    },
    /// An undo failed for good.
    UndoFailed {
        /// Index of the fault in the plan.
        fault: usize,
        /// Index in the fault's `Prepared` record.
        step: usize,
        /// Why.
        error: String,
        /// Command that does by hand what the undo could not.
        by_hand: String,
    },
    /// The cluster was compared with the baseline. Empty means: as before.
    Audited {
        /// What differs.
        residue: Vec<Difference>,
    },
    /// Something that makes evidence worthless or explains a verdict.
    Disturbed(Disturbance),
    /// A signal, a taken-over lease or an error cut the run short.
    Interrupted(Interruption),
    /// Last event of every run that ended, by whichever process ended it.
    Finished(End),
}

/// What cut a run short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interruption {
    /// What kind of thing it was; the exit code depends on it.
    pub cause: Cause,
    /// Why, in words.
    pub why: String,
}

/// What kind of thing cuts a run short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The user wished so, by the signal of this name.
    Signal(String),
    /// The guardian had taken over, or was gone.
    LeaseLost,
    /// The journal could not be written.
    Journal,
    /// The run was put back by another process, the guardian or `kchaos rollback`, because its own was gone or silent.
    PutBack,
    /// Anything else that went wrong: the engine, the cluster.
    Error,
}

impl Interruption {
    /// A signal came.
    pub fn signal(name: &str) -> Self {
        Self { cause: Cause::Signal(name.to_owned()), why: name.to_owned() }
    }

    /// Was it the user's wish? Everything else is something that went wrong.
    pub fn wished(&self) -> bool {
        matches!(self.cause, Cause::Signal(_))
    }
}

/// Where a run stands. Phases only go forward, and every run that injects goes through `Undo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Workloads and samplers are put in place.
    Setup,
    /// Nothing is broken, probes hold.
    Baseline,
    /// The fault is in.
    Fault,
    /// The fault is in, and what an operator would do about it was done.
    Remedy,
    /// The fault is being taken out.
    Undo,
    /// The fault is out; the cluster is watched as it recovers.
    Recovery,
    /// What the probes had begun to look at is let in; nothing that begins now counts.
    Collect,
    /// Workloads and samplers are removed, residue is audited.
    Cleanup,
}

/// When the witnesses were asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Checkpoint {
    /// Before the fault: the effect must be absent.
    Baseline,
    /// After injection: present.
    Injected,
    /// At the end of the fault phase, before the remedy or the undo: still present.
    WindowEnd,
    /// After the undo: absent again.
    Undone,
}

/// What the witnesses of one fault said at one checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proof {
    /// Index of the fault in the plan.
    pub fault: usize,
    /// When in the run.
    pub checkpoint: Checkpoint,
    /// Each independent witness; the effect is proven only if all of them agree.
    pub witnesses: Vec<Witness>,
}

/// One fact that tells whether a fault is in effect, independent of the call that injected it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Witness {
    /// What was looked at, in words.
    pub what: String,
    /// What was seen, in words.
    pub seen: String,
    /// Is the effect present? `None` if the witness could not look.
    pub effect: Option<bool>,
    /// When the look began.
    pub from: Mono,
    /// When it was over.
    pub to: Mono,
}

/// One slot of a probe, and what it gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Index of the probe in the plan.
    pub probe: usize,
    /// Which of the probe's series (an observing node, a pod's address); empty for a probe with only one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub series: String,
    /// Number of the slot; slot `k` is due `k` intervals after the series' first.
    pub slot: u64,
    /// When the slot was due.
    pub due: Mono,
    /// When the sample was begun.
    pub start: Mono,
    /// When its outcome was known.
    pub end: Mono,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a sample.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The probe saw this.
    Saw(Value),
    /// The probed thing failed to answer: evidence about it.
    Failed(Failure),
    /// The probe could not look, or was starved: no evidence about anything.
    Unknown(String),
}

/// A value seen by a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Value {
    /// A word.
    Text(String),
    /// A number.
    Count(u64),
    /// A set of words.
    Set(BTreeSet<String>),
}

/// How a probed thing failed to answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// No answer within the sample's deadline. From a starved observer this proves nothing.
    Timeout,
    /// Connection refused.
    Refused,
    /// Connection reset or closed before a whole answer.
    Reset,
    /// No route, network unreachable.
    Unreachable,
    /// An answer that says no: HTTP status.
    Status(u16),
    /// Anything else, in words.
    Other(String),
}

/// What disturbed a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Disturbance {
    /// This node was removed meanwhile, so that there was nothing to undo in it.
    NodeRemoved(String),
    /// The dead man's switch in this node had gone off: the node undid the fault by itself, nobody knows when.
    GoneOff(String),
}

/// How a run ended for the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// Everything is as it was.
    Clean,
    /// Something could not be put back, or differs from the baseline.
    Dirty,
}
