//! The events of a run: the only interface between the code that acts on a cluster and the code that reports on it.
//!
//! The live display, the journal, the judge and every report consume [`Event`]s and nothing else, so a recorded run can
//! be judged and reported again without a cluster. Events are plain data. Their times are [`Mono`], comparable across
//! all processes of one boot.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::census::{Census, Difference};
use crate::clock::{Mono, Wall};
use crate::plan::Plan;
use crate::sample::Sample;
use crate::undo::Undo;

pub use crate::plan::Phase;

/// One record of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When the event was recorded.
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
        /// Wall-clock time at the start, for display.
        wall: Wall,
        /// Id of the boot whose clock stamps the events.
        boot_id: String,
        /// The version of kchaos that wrote the event.
        version: String,
        /// What the run will do and judge.
        plan: Box<Plan>,
    },
    /// The run entered the next phase.
    Phase(Phase),
    /// The baseline of the residue audit: the cluster before the run puts anything into it.
    Surveyed {
        /// The state of all audited items.
        census: Census,
    },
    /// The probes are sampling, and these are their series. A listed series without samples is a gap.
    Watching {
        /// Names of the series, by the probe's index in the plan.
        series: BTreeMap<usize, Vec<String>>,
    },
    /// The undos of the fault, written to disk before the fault goes in.
    Prepared {
        /// Index of the fault in the plan.
        fault: usize,
        /// The undos, in the order in which they must be applied.
        undo: Vec<Undo>,
    },
    /// State that the remedy needs was saved.
    Saved {
        /// Index of the fault in the plan.
        fault: usize,
        /// What was saved, in words.
        what: String,
    },
    /// The fault is about to go in. From here on it counts as being in.
    Injecting {
        /// Index of the fault in the plan.
        fault: usize,
    },
    /// The call that injects the fault has returned.
    Injected {
        /// Index of the fault in the plan.
        fault: usize,
        /// Why the fault may not have gone in; `None` if the call succeeded.
        error: Option<String>,
    },
    /// The witnesses of a fault's effect were asked.
    Witnessed(Proof),
    /// A probe took a sample.
    Sampled(Sample),
    /// The use of the machine's processors was measured.
    Processors(ProcessorUse),
    /// Time was spent waiting for Kubernetes, as opposed to the harness's own work.
    Waited {
        /// What the run waited for.
        what: String,
        /// When the wait began. It ended at the time of this event.
        since: Mono,
    },
    /// The remedy, what an operator would do about the fault, is about to be applied.
    Remedying {
        /// Index of the fault in the plan.
        fault: usize,
    },
    /// The remedy was applied or tried.
    Remedied {
        /// Index of the fault in the plan.
        fault: usize,
        /// Why the remedy failed; `None` if it succeeded.
        error: Option<String>,
    },
    /// An undo is about to be applied.
    Undoing {
        /// Index of the fault in the plan.
        fault: usize,
        /// Index in the fault's `Prepared` record.
        step: usize,
    },
    /// An undo was applied and its effect checked, or its node was removed.
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
        /// The command that does by hand what the undo could not.
        by_hand: String,
    },
    /// The cluster was compared with the baseline. No residue means that it is as before.
    Audited {
        /// What differs.
        residue: Vec<Difference>,
    },
    /// The run was disturbed in a way that makes evidence worthless or explains a verdict.
    Disturbed(Disturbance),
    /// A signal, a lost lease or an error cut the run short.
    Interrupted(Interruption),
    /// The last event of every finished run, whichever process finished it.
    Finished(End),
}

/// Why a run was cut short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interruption {
    /// The kind of cause; the exit code depends on it.
    pub cause: Cause,
    /// The reason, in words.
    pub why: String,
}

/// The kind of cause that cut a run short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The user asked for it, with the signal of this name.
    Signal(String),
    /// The guardian had taken over or was gone.
    LeaseLost,
    /// The journal could not be written.
    Journal,
    /// Another process, the guardian or `kchaos rollback`, put the run back because the run's own process was gone or
    /// silent.
    PutBack,
    /// Any other failure: of the engine, of the cluster.
    Error,
}

impl Interruption {
    /// An interruption by the signal `name`.
    pub fn signal(name: &str) -> Self {
        Self { cause: Cause::Signal(name.to_owned()), why: name.to_owned() }
    }

    /// Did the user ask for the interruption? Every other cause is a failure.
    pub fn wished(&self) -> bool {
        matches!(self.cause, Cause::Signal(_))
    }
}

/// The point of a run at which the witnesses were asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Checkpoint {
    /// Before the fault: the effect must be absent.
    Baseline,
    /// After injection: the effect must be present.
    Injected,
    /// At the end of the fault phase, before the remedy or the undo: the effect must still be present.
    WindowEnd,
    /// After the undo: the effect must be absent again.
    Undone,
}

/// What the witnesses of one fault said at one checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proof {
    /// Index of the fault in the plan.
    pub fault: usize,
    /// The point of the run.
    pub checkpoint: Checkpoint,
    /// The independent witnesses. The effect is proven only if all of them agree.
    pub witnesses: Vec<Witness>,
}

/// One observation that shows whether a fault is in effect, independent of the call that injected it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Witness {
    /// What the witness looked at, in words.
    pub what: String,
    /// What the witness saw, in words.
    pub seen: String,
    /// Is the effect present? `None` if the witness could not look.
    pub effect: Option<bool>,
    /// When the look began.
    pub from: Mono,
    /// When the look ended.
    pub to: Mono,
}

/// What was done with the machine's processors in a time. The times of all processors are added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessorUse {
    /// When the time began.
    pub from: Mono,
    /// When it ended.
    pub to: Mono,
    /// Time that the processors had.
    pub all: Duration,
    /// Time in which they had nothing to do.
    pub idle: Duration,
    /// Time that the nodes used, at most.
    pub nodes: Duration,
    /// What of that was used by control planes whose etcd may have no leader because of a partition. Without one, API
    /// servers try again without pause (docs/findings.md), on processors of their own if they had any.
    #[serde(default, skip_serializing_if = "Duration::is_zero")]
    pub may_lack_leader: Duration,
}

/// The share of the processors from which on it counts that others take them. What kchaos itself, the engine and the
/// kernel need for a run is less (docs/findings.md).
const CONTENDED: f64 = 1.0 / 3.0;

impl ProcessorUse {
    /// Time that others used: other programs, and control planes that may have no leader of etcd.
    pub fn others(&self) -> Duration {
        let nodes = self.nodes.saturating_sub(self.may_lack_leader);
        self.all.saturating_sub(self.idle).saturating_sub(nodes)
    }

    /// The share of the processors that others took from the cluster: what they used beyond what was left over. 0 if it
    /// is too little to count.
    pub fn contended(&self) -> f64 {
        let taken = self.others().saturating_sub(self.idle);
        let share = if self.all.is_zero() { 0.0 } else { taken.div_duration_f64(self.all) };
        if share >= CONTENDED { share } else { 0.0 }
    }

    /// How far behind the cluster may be for it at its end.
    pub fn lost(&self) -> Duration {
        self.to.since(self.from).mul_f64(self.contended())
    }
}

/// What disturbed a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Disturbance {
    /// Somebody has removed this node, at an unknown time since the run began: nothing can be put back there.
    NodeRemoved(String),
    /// The dead man's switch in this node had fired: the node undid the fault by itself, at an unknown time.
    GoneOff(String),
}

/// The nodes that these events tell were removed.
pub(crate) fn removed_nodes(events: &[Event]) -> BTreeSet<&str> {
    let removed = events.iter().filter_map(|event| match &event.kind {
        EventKind::Disturbed(Disturbance::NodeRemoved(node)) => Some(node.as_str()),
        _ => None,
    });
    removed.collect()
}

/// The state in which a run left the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// Everything is as it was before.
    Clean,
    /// Something could not be put back, or something differs from the baseline.
    Dirty,
}
