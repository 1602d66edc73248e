//! The rules of a run: which event may follow which.
//!
//! One function, [`State::next`], checks an event when it is written and again when a journal is read. So a wrong
//! journal is found by the very rule that should have prevented it.
//!
//! Pure. It knows nothing of files, and it does not judge what was seen.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::{End, EventKind, Phase};

/// Where a run stands, as far as its events tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Numbers of faults and probes in the plan, once the run has started.
    started: Option<Dimensions>,
    phase: Option<Phase>,
    surveyed: bool,
    interrupted: bool,
    faults: BTreeMap<usize, Fault>,
    /// What the last audit found; `None` again once a fault is injected or undone after it.
    audit: Option<End>,
    end: Option<End>,
    /// The journal could not be read in full, so some of its faults may be unknown.
    damaged: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Dimensions {
    faults: usize,
    /// The faults that are made again and again while they are in.
    repeated: BTreeSet<usize>,
    probes: usize,
}

/// A fault whose undo is written down.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fault {
    entry: Entry,
    steps: Vec<Step>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Prepared,
    /// The call that injects may be under way.
    Injecting,
    Injected,
    /// The call that remedies may be under way.
    Remedying,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Pending,
    Undoing,
    Undone,
    Failed,
}

impl Fault {
    fn is_in(&self) -> bool {
        self.entry != Entry::Prepared
    }

    /// Has every step either succeeded or failed for good?
    fn settled(&self) -> bool {
        self.steps.iter().all(|s| matches!(s, Step::Undone | Step::Failed))
    }
}

/// An event that must not follow the ones before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct IllegalEvent(&'static str);

impl State {
    /// The state for going on with a journal that could not be read in full: anything may be undone, nothing may be
    /// injected, and the end can only be dirty.
    #[must_use]
    pub(super) fn damaged(self) -> Self {
        Self { damaged: true, ..self }
    }

    /// Did the run end, and how?
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// May a call that changes the cluster be under way?
    ///
    /// That is a call that injects or remedies, has begun and is not known to have returned. It is also a call that
    /// saves what a remedy will need, which is made as soon as its undo is written down, and one that makes a fault
    /// again until its undo begins.
    pub fn acting(&self) -> bool {
        let saving = self.phase == Some(Phase::Setup) && !self.faults.is_empty();
        let repeated = self.started.as_ref().map(|d| &d.repeated);
        let repeating = |n: &usize, fault: &Fault| {
            repeated.is_some_and(|repeated| repeated.contains(n))
                && fault.entry == Entry::Injected
                && fault.steps.iter().all(|s| *s == Step::Pending)
        };
        let calling = |fault: &Fault| matches!(fault.entry, Entry::Injecting | Entry::Remedying);
        saving || self.faults.iter().any(|(n, fault)| calling(fault) || repeating(n, fault))
    }

    /// The state after `event`.
    ///
    /// # Errors
    /// If the event must not come now.
    pub fn next(&self, event: &EventKind) -> Result<Self, IllegalEvent> {
        let mut next = self.clone();
        next.step(event)?;
        Ok(next)
    }

    fn step(&mut self, event: &EventKind) -> Result<(), IllegalEvent> {
        match (&self.started, event) {
            (None, EventKind::Started { plan, .. }) => {
                check(plan.claims.iter().all(|claim| claim.probe < plan.probes.len()), "a claim without a probe")?;
                let repeated = plan.faults.iter().enumerate().filter(|(_, fault)| fault.spec.is_repeated());
                self.started = Some(Dimensions {
                    faults: plan.faults.len(),
                    repeated: repeated.map(|(n, _)| n).collect(),
                    probes: plan.probes.len(),
                });
                Ok(())
            }
            (Some(_), EventKind::Started { .. }) => illegal("the run started already"),
            (None, _) if !self.damaged => illegal("the run has not started"),
            _ => {
                self.go_on(event)?;
                self.apply(event)
            }
        }
    }

    /// May an event of this kind still happen? A run that ended, or whose journal is damaged, is only put back.
    fn go_on(&mut self, event: &EventKind) -> Result<(), IllegalEvent> {
        use EventKind as E;
        let putting_back = matches!(
            event,
            E::Undoing { .. }
                | E::Undone { .. }
                | E::UndoFailed { .. }
                | E::Audited { .. }
                | E::Disturbed(_)
                | E::Interrupted(_)
                | E::Finished(_)
        );
        match self.end {
            Some(End::Clean) => return illegal("the run ended, and clean"),
            Some(End::Dirty) if !putting_back => return illegal("the run ended"),
            // A run that ended dirty may be put back later. It is then open again, but not for faults.
            Some(End::Dirty) => (self.end, self.interrupted) = (None, true),
            None => {}
        }
        if self.damaged && !putting_back && !matches!(event, E::Phase(_)) {
            return illegal("the journal is damaged: nothing but undo goes on");
        }
        Ok(())
    }

    /// Applies what the event changes, if it may happen now.
    fn apply(&mut self, event: &EventKind) -> Result<(), IllegalEvent> {
        use EventKind as E;
        match event {
            E::Started { .. } | E::Processors(_) | E::Waited { .. } | E::Disturbed(_) => {}
            E::Phase(phase) => self.enter(*phase)?,
            E::Surveyed { .. } => {
                check(!self.surveyed, "the cluster was surveyed already")?;
                check(self.faults.is_empty(), "a survey after the first fault is no baseline")?;
                self.surveyed = true;
            }
            E::Watching { series } => {
                check(series.keys().all(|probe| self.has_probe(*probe)), "the plan has no such probe")?;
            }
            E::Prepared { fault, undo } => {
                check(self.has_fault(*fault), "the plan has no such fault")?;
                check(!self.faults.contains_key(fault), "the fault is prepared already")?;
                check(!undo.is_empty(), "a fault without an undo")?;
                check(self.surveyed, "the cluster was not surveyed, so nothing could be audited")?;
                check(self.phase <= Some(Phase::Fault), "the time for faults is over")?;
                check(!self.interrupted, "the run was interrupted")?;
                let steps = vec![Step::Pending; undo.len()];
                self.faults.insert(*fault, Fault { entry: Entry::Prepared, steps });
            }
            E::Injecting { fault } => {
                check(self.phase == Some(Phase::Fault), "faults go in only in the fault phase")?;
                check(!self.interrupted, "the run was interrupted")?;
                let fault = self.prepared(*fault)?;
                check(fault.entry == Entry::Prepared, "the fault is in already")?;
                check(fault.steps.iter().all(|s| *s == Step::Pending), "the fault's undo has begun")?;
                fault.entry = Entry::Injecting;
                self.audit = None;
            }
            E::Injected { fault, .. } => {
                let fault = self.prepared(*fault)?;
                check(fault.entry == Entry::Injecting, "no injection was under way")?;
                fault.entry = Entry::Injected;
            }
            E::Saved { fault, .. } => {
                check(self.prepared(*fault)?.entry == Entry::Prepared, "what is saved after the fault is no help")?;
            }
            E::Remedying { fault } => {
                check(self.phase == Some(Phase::Remedy), "a remedy is for the remedy phase")?;
                check(!self.interrupted, "the run was interrupted")?;
                let fault = self.prepared(*fault)?;
                check(fault.entry == Entry::Injected, "there is nothing to be remedied")?;
                check(fault.steps.iter().all(|s| *s == Step::Pending), "the fault's undo has begun")?;
                fault.entry = Entry::Remedying;
            }
            E::Remedied { fault, .. } => {
                check(self.phase == Some(Phase::Remedy), "no remedy was under way")?;
                let fault = self.prepared(*fault)?;
                check(fault.entry == Entry::Remedying, "no remedy was under way")?;
                fault.entry = Entry::Injected;
            }
            E::Witnessed(proof) => check(self.has_fault(proof.fault), "the plan has no such fault")?,
            E::Sampled(sample) => check(self.has_probe(sample.probe), "the plan has no such probe")?,
            E::Undoing { fault, step } => {
                // An undo is idempotent: it may be applied again, even if a dead process began or ended it.
                self.set(*fault, *step, Step::Undoing)?;
                self.audit = None;
            }
            E::Undone { fault, step } => {
                check(self.is_undoing(*fault, *step), "no undo was under way")?;
                self.set(*fault, *step, Step::Undone)?;
            }
            E::UndoFailed { fault, step, .. } => {
                check(self.is_undoing(*fault, *step), "no undo was under way")?;
                self.set(*fault, *step, Step::Failed)?;
            }
            E::Audited { residue } => {
                check(self.all_settled(), "a fault is still in")?;
                self.audit = Some(if residue.is_empty() { End::Clean } else { End::Dirty });
            }
            E::Interrupted(_) => self.interrupted = true,
            E::Finished(end) => self.finish(*end)?,
        }
        Ok(())
    }

    fn enter(&mut self, phase: Phase) -> Result<(), IllegalEvent> {
        check(self.phase < Some(phase), "phases only go forward")?;
        check(phase <= Phase::Undo || self.all_settled(), "a fault is still in")?;
        check(!matches!(phase, Phase::Fault | Phase::Remedy) || !self.interrupted, "the run was interrupted")?;
        self.phase = Some(phase);
        Ok(())
    }

    fn finish(&mut self, end: End) -> Result<(), IllegalEvent> {
        check(self.all_settled(), "a fault is still in")?;
        if end == End::Clean {
            check(!self.damaged, "a run whose journal is damaged can't be called clean")?;
            let failed = self.faults.values().any(|f| f.steps.contains(&Step::Failed));
            check(!failed, "an undo failed, so the end is not clean")?;
            check(self.audit != Some(End::Dirty), "the audit found residue, so the end is not clean")?;
            let any_in = self.faults.values().any(Fault::is_in);
            check(!any_in || self.audit.is_some(), "without an audit the end can't be called clean")?;
        }
        self.end = Some(end);
        Ok(())
    }

    fn has_fault(&self, fault: usize) -> bool {
        self.started.as_ref().is_some_and(|d| fault < d.faults)
    }

    fn has_probe(&self, probe: usize) -> bool {
        self.started.as_ref().is_some_and(|d| probe < d.probes)
    }

    fn prepared(&mut self, fault: usize) -> Result<&mut Fault, IllegalEvent> {
        self.faults.get_mut(&fault).ok_or(IllegalEvent("no undo of this fault is written down"))
    }

    fn is_undoing(&self, fault: usize, step: usize) -> bool {
        self.damaged || self.faults.get(&fault).and_then(|f| f.steps.get(step)) == Some(&Step::Undoing)
    }

    fn set(&mut self, fault: usize, step: usize, to: Step) -> Result<(), IllegalEvent> {
        match self.faults.get_mut(&fault).and_then(|f| f.steps.get_mut(step)) {
            Some(slot) => *slot = to,
            // Its `Prepared` may be among the lines that could not be read.
            None if self.damaged => {}
            None => return illegal("no such undo is written down"),
        }
        Ok(())
    }

    fn all_settled(&self) -> bool {
        self.faults.values().all(|f| !f.is_in() || f.settled())
    }
}

fn check(holds: bool, otherwise: &'static str) -> Result<(), IllegalEvent> {
    if holds { Ok(()) } else { Err(IllegalEvent(otherwise)) }
}

fn illegal(why: &'static str) -> Result<(), IllegalEvent> {
    Err(IllegalEvent(why))
}
