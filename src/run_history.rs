//! The history of a run: its events, ordered by what they describe.
//!
//! Takes the [`Event`]s of a run that ended or is still going on and gives a [`History`] that borrows them. The history
//! answers when each phase began and ended, what the witnesses said and which samples a series has, without going
//! through the events again. The order in which the events were recorded does not matter, nor does a duplicate record
//! (but that a run left something behind may be followed by a record that all is as before). Two records that contradict
//! each other are an error; the history never chooses between them. [`crate::journal`]
//! checks that actions follow each other legally. Nothing is judged here.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::clock::Mono;
use crate::event::{Checkpoint, Disturbance, End, Event, EventKind, Phase, ProcessorUse, Proof};
use crate::plan::Plan;
use crate::sample::{Outcome, Sample};
use crate::scenario::ProbeSource;

/// Why events do not form the history of one run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IllegalHistory {
    /// There is no start.
    #[error("no record says how the run started, so there is no plan to judge it by")]
    NotStarted,
    /// There are two different starts.
    #[error("it holds the starts of two different runs")]
    TwoRuns,
    /// Two records disagree on something that happens once.
    #[error("two records contradict each other about {what}")]
    Contradiction {
        /// What the records are about.
        what: String,
    },
    /// A record refers to something that the plan does not have, or has impossible times.
    #[error("{what}")]
    Impossible {
        /// What is wrong.
        what: String,
    },
}

/// Shorter stalls are what any machine is like, and delay nobody for long.
const NOTICED: Duration = Duration::from_millis(500);

/// An interval that contains an action or a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    /// The earliest possible time.
    pub start: Mono,
    /// The latest possible time.
    pub end: Mono,
}

/// A phase, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PhaseSpan {
    /// The time from which samples count for the phase.
    pub start: Mono,
    /// The time until which samples count: the end of the phase, or the last event of a run that is still in it.
    pub until: Mono,
    /// How the phase ended.
    pub ended: Ended,
}

/// How a phase ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// As planned.
    InOrder,
    /// Cut short by something else.
    Short,
    /// It has not ended: it is still going on, or the record breaks off.
    Not,
}

#[derive(Debug, Default)]
struct Fault<'a> {
    injecting: Option<Mono>,
    injected: Option<(Mono, Option<&'a str>)>,
    proofs: BTreeMap<Checkpoint, Vec<(Mono, &'a Proof)>>,
    remedying: Option<Mono>,
    /// When the remedy was done or failed, and why it failed.
    remedied: Option<(Mono, Option<&'a str>)>,
    undoing: BTreeSet<Mono>,
    undone: BTreeSet<Mono>,
    undo_failed: bool,
}

/// A run, as far as its events describe it.
#[derive(Debug)]
pub struct History<'a> {
    plan: &'a Plan,
    started: Mono,
    now: Mono,
    phases: BTreeMap<Phase, Mono>,
    faults: Vec<Fault<'a>>,
    series: BTreeMap<(usize, &'a str), Vec<&'a Sample>>,
    announced: BTreeSet<(usize, &'a str)>,
    /// What the machine's processors did, in order.
    processors: Vec<&'a ProcessorUse>,
    /// When the cluster or observers had no time, in order and without overlap.
    starved: Vec<Interval>,
    /// Found when they are first asked for (see [`History::stalls`]): that takes a look at all samples.
    stalls: OnceCell<Vec<Interval>>,
    disturbances: Vec<(Mono, &'a Disturbance)>,
    interrupted: Option<(Mono, &'a str)>,
    end: Option<End>,
}

impl<'a> History<'a> {
    /// Puts events in order. Costs O(n log n) for n events and copies none of them.
    ///
    /// # Errors
    /// If the events have no start or two different ones, contradict each other, are impossible, or refer to something
    /// that the plan does not have.
    pub fn replay(events: &'a [Event]) -> Result<Self, IllegalHistory> {
        let mut starts = events.iter().filter_map(|e| match &e.kind {
            EventKind::Started { plan, .. } => Some((e, &**plan)),
            _ => None,
        });
        let (start, plan) = starts.next().ok_or(IllegalHistory::NotStarted)?;
        if starts.any(|(other, _)| other != start) {
            return Err(IllegalHistory::TwoRuns);
        }
        let mut history = Self {
            plan,
            started: start.at,
            now: start.at,
            phases: BTreeMap::new(),
            faults: plan.faults.iter().map(|_| Fault::default()).collect(),
            series: BTreeMap::new(),
            announced: BTreeSet::new(),
            processors: Vec::new(),
            starved: Vec::new(),
            stalls: OnceCell::new(),
            disturbances: Vec::new(),
            interrupted: None,
            end: None,
        };
        for event in events {
            history.take(event)?;
        }
        history.order()?;
        Ok(history)
    }

    fn take(&mut self, event: &'a Event) -> Result<(), IllegalHistory> {
        let at = event.at;
        self.now = self.now.max(at);
        match &event.kind {
            EventKind::Phase(phase) => once(self.phases.entry(*phase).or_insert(at), at, || format!("{phase:?}"))?,
            EventKind::Injecting { fault } => {
                once(self.fault(*fault)?.injecting.get_or_insert(at), at, || format!("when fault {fault} went in"))?;
            }
            EventKind::Injected { fault, error } => {
                let told = (at, error.as_deref());
                once(self.fault(*fault)?.injected.get_or_insert(told), told, || format!("when fault {fault} was in"))?;
            }
            EventKind::Witnessed(proof) => {
                if let Some(w) = proof.witnesses.iter().find(|w| w.to < w.from) {
                    return impossible(format!("the witness {:?} was done before it began", w.what));
                }
                let proofs = self.fault(proof.fault)?.proofs.entry(proof.checkpoint).or_default();
                if !proofs.contains(&(at, proof)) {
                    proofs.push((at, proof));
                }
            }
            EventKind::Watching { series } => {
                for (&probe, names) in series {
                    for name in names {
                        self.series_of(probe, name)?;
                        self.announced.insert((probe, name));
                    }
                }
            }
            EventKind::Sampled(sample) => {
                if sample.end < sample.start {
                    return impossible(format!("slot {} of probe {} ended before it began", sample.slot, sample.probe));
                }
                self.series_of(sample.probe, &sample.series)?.push(sample);
            }
            EventKind::Remedying { fault } => {
                once(self.fault(*fault)?.remedying.get_or_insert(at), at, || {
                    format!("when fault {fault} was being remedied")
                })?;
            }
            EventKind::Remedied { fault, error } => {
                let told = (at, error.as_deref());
                once(self.fault(*fault)?.remedied.get_or_insert(told), told, || {
                    format!("when fault {fault} was remedied")
                })?;
            }
            EventKind::Undoing { fault, .. } => drop(self.fault(*fault)?.undoing.insert(at)),
            EventKind::Undone { fault, .. } => drop(self.fault(*fault)?.undone.insert(at)),
            EventKind::UndoFailed { fault, .. } => self.fault(*fault)?.undo_failed = true,
            EventKind::Processors(usage) => {
                if usage.to < usage.from {
                    return impossible("a use of the processors that ended before it began".into());
                }
                self.processors.push(usage);
            }
            EventKind::Disturbed(disturbance) => self.disturbances.push((at, disturbance)),
            EventKind::Interrupted(cut) => {
                let first = self.interrupted.get_or_insert((at, &cut.why));
                *first = (*first).min((at, &cut.why));
            }
            // What a run has left may be put back later.
            EventKind::Finished(end) if self.end == Some(End::Dirty) => self.end = Some(*end),
            EventKind::Finished(end) => once(self.end.get_or_insert(*end), *end, || "how the run ended".into())?,
            EventKind::Started { .. }
            | EventKind::Surveyed { .. }
            | EventKind::Prepared { .. }
            | EventKind::Saved { .. }
            | EventKind::Waited { .. }
            | EventKind::Audited { .. } => {}
        }
        Ok(())
    }

    /// Of the machine tells that others took it from the cluster, and that an observer had no time. Who asks from a node
    /// that is broken has none because of that.
    fn spells_of_starvation(&self) -> Vec<Interval> {
        let of_the_machine =
            self.series.iter().filter(|((probe, _), _)| self.plan.probes[*probe].spec.from().is_none());
        let starved = of_the_machine.flat_map(|(_, samples)| samples).filter(|sample| sample.outcome.had_no_time());
        let contended = self.processors.iter().filter(|usage| usage.contended() > 0.0);
        let contended = contended.map(|usage| Interval { start: usage.from, end: usage.to });
        let mut spells: Vec<Interval> =
            starved.map(|s| Interval { start: s.due, end: s.end }).chain(contended).collect();
        spells.sort_unstable_by_key(|spell| spell.start);
        spells.dedup_by(|next, spell| {
            let overlaps = next.start <= spell.end;
            if overlaps {
                spell.end = spell.end.max(next.end);
            }
            overlaps
        });
        spells
    }

    fn order(&mut self) -> Result<(), IllegalHistory> {
        if !self.phases.values().is_sorted() {
            return impossible("phases that go backwards".into());
        }
        for fault in &mut self.faults {
            for proofs in fault.proofs.values_mut() {
                proofs.sort_by_key(|(at, _)| *at);
            }
        }
        self.processors.sort_by_key(|usage| usage.from);
        self.processors.dedup();
        self.starved = self.spells_of_starvation();
        for ((probe, name), samples) in &mut self.series {
            samples.sort_by_key(|s| s.slot);
            samples.dedup();
            for pair in samples.windows(2) {
                let (one, next) = (pair[0], pair[1]);
                if one.slot == next.slot {
                    return Err(IllegalHistory::Contradiction {
                        what: format!("slot {} of series {name:?} of probe {probe}", one.slot),
                    });
                }
                if one.due >= next.due {
                    return impossible(format!(
                        "slot {} of series {name:?} of probe {probe} is due before slot {}",
                        next.slot, one.slot
                    ));
                }
            }
        }
        Ok(())
    }

    fn fault(&mut self, fault: usize) -> Result<&mut Fault<'a>, IllegalHistory> {
        let count = self.faults.len();
        self.faults.get_mut(fault).ok_or_else(|| IllegalHistory::Impossible {
            what: format!("it speaks of fault {fault}, and the plan has {count}"),
        })
    }

    fn series_of(&mut self, probe: usize, name: &'a str) -> Result<&mut Vec<&'a Sample>, IllegalHistory> {
        if probe >= self.plan.probes.len() {
            return impossible(format!("it speaks of probe {probe}, and the plan has {}", self.plan.probes.len()));
        }
        Ok(self.series.entry((probe, name)).or_default())
    }

    /// The plan of the run.
    pub fn plan(&self) -> &'a Plan {
        self.plan
    }

    /// When the run started.
    pub fn started(&self) -> Mono {
        self.started
    }

    /// The time of the latest event.
    pub fn now(&self) -> Mono {
        self.now
    }

    /// When the phase was entered.
    pub fn entered(&self, phase: Phase) -> Option<Mono> {
        self.phases.get(&phase).copied()
    }

    /// The series of a probe, ordered by name, each with its samples ordered by slot. An announced series without
    /// samples is included, and is empty.
    pub fn series(&self, probe: usize) -> impl Iterator<Item = (&'a str, &[&'a Sample])> {
        self.series
            .range((probe, "")..)
            .take_while(move |((p, _), _)| *p == probe)
            .map(|((_, n), s)| (*n, s.as_slice()))
    }

    /// Have all series delivered their samples up to `until`, and is it known what the processors did until then? What
    /// gave nothing so far is not waited for.
    pub fn is_collected(&self, until: Mono) -> bool {
        self.processors.last().is_none_or(|usage| usage.to >= until)
            && self
                .series
                .iter()
                .filter_map(|((probe, _), samples)| Some((probe, samples.last()?)))
                .all(|(probe, last)| last.due + self.plan.probes[*probe].interval > until)
    }

    /// Did the run announce this series of the probe?
    pub fn is_announced(&self, probe: usize, series: &str) -> bool {
        self.announced.contains(&(probe, series))
    }

    /// What the witnesses of a fault said at a checkpoint and when that was recorded, earliest first.
    pub fn proofs(&self, fault: usize, checkpoint: Checkpoint) -> &[(Mono, &'a Proof)] {
        self.faults.get(fault).and_then(|f| f.proofs.get(&checkpoint)).map_or(&[], Vec::as_slice)
    }

    /// When the call that injects the fault began. From then on the fault counts as being in.
    pub fn injecting(&self, fault: usize) -> Option<Mono> {
        self.faults.get(fault).and_then(|f| f.injecting)
    }

    /// Did an undo fail?
    pub fn undo_failed(&self) -> bool {
        self.faults.iter().any(|f| f.undo_failed)
    }

    /// Why the call that injects the fault failed, if it did.
    pub fn not_injected(&self, fault: usize) -> Option<&'a str> {
        self.faults.get(fault)?.injected?.1
    }

    /// Why the remedy failed, if it was tried and failed.
    pub fn remedy_failed(&self) -> Option<&'a str> {
        self.faults.iter().find_map(|f| f.remedied?.1)
    }

    /// What the machine's processors did, in order.
    pub(crate) fn processors(&self) -> &[&'a ProcessorUse] {
        &self.processors
    }

    /// Whether the cluster, or any observer that is not on a broken node, had no time at some moment between the two.
    pub(crate) fn was_starved(&self, from: Mono, to: Mono) -> bool {
        let later = self.starved.partition_point(|spell| spell.end < from);
        self.starved.get(later).is_some_and(|spell| spell.start <= to)
    }

    /// When an observer had no time, or the API said nothing although it should have, in order and apart. Short spells
    /// are left out.
    pub(crate) fn stalls(&self) -> &[Interval] {
        self.stalls.get_or_init(|| {
            let api_must_answer = self.plan.leaves_the_api_alone();
            let mut spells = Vec::new();
            for ((probe, _), samples) in &self.series {
                let probe = &self.plan.probes[*probe].spec;
                // Who asks from a node that is broken has no time because of that.
                if probe.from().is_some() {
                    continue;
                }
                let must_answer = api_must_answer && probe.source() == ProbeSource::Lists;
                let is_lost = |sample: &Sample| match &sample.outcome {
                    Outcome::Unknown(_) => must_answer || sample.outcome.had_no_time(),
                    Outcome::Saw(_) | Outcome::Failed(_) => false,
                };
                let in_a_row = samples.chunk_by(|one, next| is_lost(one) && is_lost(next));
                let lost = in_a_row.filter_map(|row| match row {
                    [first, ..] if is_lost(first) => Some(Interval { start: first.due, end: row.last()?.end }),
                    _ => None,
                });
                spells.extend(lost.filter(|spell| spell.end.since(spell.start) >= NOTICED));
            }
            spells.sort_unstable_by_key(|spell| (spell.start, spell.end));
            let mut apart: Vec<Interval> = Vec::new();
            for spell in spells {
                match apart.last_mut() {
                    Some(last) if spell.start <= last.end => last.end = last.end.max(spell.end),
                    _ => apart.push(spell),
                }
            }
            apart
        })
    }

    /// The disturbances of the run and when each was recorded.
    pub fn disturbances(&self) -> &[(Mono, &'a Disturbance)] {
        &self.disturbances
    }

    /// When and why the run was cut short.
    pub fn interrupted(&self) -> Option<(Mono, &'a str)> {
        self.interrupted
    }

    /// How the run ended; `None` while it is going on, or if its record breaks off.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// The end of the latest witness look at the effect after injection, over all faults. `None` until every fault has
    /// one.
    fn proven(&self) -> Option<Mono> {
        let of = |fault: &Fault| {
            let (_, last) = fault.proofs.get(&Checkpoint::Injected)?.last()?;
            last.witnesses.iter().map(|w| w.to).max()
        };
        self.faults.iter().map(of).try_fold(Mono(0), |max, at| Some(max.max(at?))).filter(|_| !self.faults.is_empty())
    }

    /// The start of the first witness look at whether the effects are still there. `None` until the witnesses have
    /// looked at all faults, except those that are shut in and can no longer be looked at.
    fn last_look(&self) -> Option<Mono> {
        let of = |fault: &Fault| {
            let proofs = fault.proofs.get(&Checkpoint::WindowEnd)?;
            proofs.iter().flat_map(|(_, p)| &p.witnesses).map(|w| w.from).min()
        };
        let seen = self.faults.iter().enumerate().filter(|(fault, _)| self.plan.shut_in_by(*fault).is_none());
        let looks: Option<Vec<Mono>> = seen.map(|(_, fault)| of(fault)).collect();
        looks?.into_iter().min()
    }

    /// When the first undo began. From then on the effect may be gone.
    pub fn undoing(&self) -> Option<Mono> {
        self.faults.iter().filter_map(|f| f.undoing.first().copied()).min()
    }

    /// When the last undo was done. Undos after the beginning of recovery do not count.
    fn undone(&self) -> Option<Mono> {
        let recovery = self.entered(Phase::Recovery).unwrap_or(self.now);
        self.faults.iter().filter_map(|f| f.undone.range(..=recovery).next_back().copied()).max()
    }

    /// The interval in which the cause of a phase's observations happened. For the fault phase the cause is the
    /// injections, for the remedy phase the remedy, for recovery the undos. For any other phase it is the moment when the
    /// phase began. `None` until the cause is over.
    pub fn cause(&self, phase: Phase) -> Option<Interval> {
        match phase {
            Phase::Fault => injection(self.faults.iter()),
            Phase::Remedy => {
                let start = self.faults.iter().filter_map(|f| f.remedying).min()?;
                let end = self.faults.iter().filter_map(|f| f.remedied).map(|(at, _)| at).max()?;
                Some(Interval { start, end })
            }
            Phase::Recovery => {
                let entered = self.entered(Phase::Recovery)?;
                let start = self.undoing().or_else(|| self.entered(Phase::Undo)).unwrap_or(entered).min(entered);
                Some(Interval { start, end: self.undone().unwrap_or(entered) })
            }
            Phase::Setup | Phase::Baseline | Phase::Undo | Phase::Collect | Phase::Cleanup => {
                self.entered(phase).map(|at| Interval { start: at, end: at })
            }
        }
    }

    /// The interval in which the faults were injected that make Kubernetes lose sight of nodes, since these start its
    /// timers; if there are none, all faults. `None` until it is over.
    pub fn loss_of_nodes(&self) -> Option<Interval> {
        let hides = |(fault, _): &(usize, &Fault<'_>)| self.plan.faults[*fault].spec.hides_nodes();
        let any = self.faults.iter().enumerate().any(|f| hides(&f));
        injection(self.faults.iter().enumerate().filter(|f| !any || hides(f)).map(|(_, fault)| fault))
    }

    /// The span in which samples count for a phase. The fault phase counts from the proof of the effect to the last
    /// look at it, the remedy phase from the end of the remedy to the beginning of the undo, and recovery from the end
    /// of the undo to the beginning of collecting. `None` before the span begins.
    pub fn span(&self, phase: Phase) -> Option<PhaseSpan> {
        let cut = self.interrupted.map(|(at, _)| at);
        let (start, end, others) = match phase {
            Phase::Fault => {
                let others = [self.undoing(), self.entered(Phase::Undo), self.entered(Phase::Cleanup)];
                (self.proven()?, self.last_look(), others)
            }
            Phase::Remedy => {
                (self.cause(phase)?.end, self.entered(Phase::Undo), [self.entered(Phase::Cleanup), None, None])
            }
            Phase::Recovery => {
                (self.cause(phase)?.end, self.entered(Phase::Collect), [self.entered(Phase::Cleanup), None, None])
            }
            Phase::Baseline => {
                let injecting = self.faults.iter().filter_map(|f| f.injecting).min();
                let fault = self.entered(Phase::Fault);
                let end = fault.map(|at| at.min(injecting.unwrap_or(at)));
                (self.entered(phase)?, end, [self.entered(Phase::Cleanup), None, None])
            }
            Phase::Setup | Phase::Undo | Phase::Collect | Phase::Cleanup => {
                let next = self.phases.range(phase..).nth(1).map(|(_, at)| *at);
                (self.entered(phase)?, next, [None; 3])
            }
        };
        let first_other = others.into_iter().flatten().chain(cut).min();
        let (until, ended) = match (end, first_other) {
            (Some(end), Some(other)) if other < end => (other, Ended::Short),
            (Some(end), _) => (end, Ended::InOrder),
            (None, Some(other)) => (other, Ended::Short),
            (None, None) => (self.now, Ended::Not),
        };
        Some(PhaseSpan { start, until, ended })
    }
}

/// The interval in which these faults were injected; `None` until it is over.
fn injection<'f, 'a: 'f>(faults: impl Iterator<Item = &'f Fault<'a>> + Clone) -> Option<Interval> {
    let start = faults.clone().filter_map(|fault| fault.injecting).min()?;
    let ends: Option<Vec<Mono>> = faults.map(|fault| fault.injected.map(|(at, _)| at)).collect();
    Some(Interval { start, end: ends?.into_iter().max()? })
}

/// Checks a second record of something that happens once: it must repeat the first, or it is a contradiction.
fn once<T: PartialEq>(known: &mut T, told: T, what: impl FnOnce() -> String) -> Result<(), IllegalHistory> {
    if *known == told { Ok(()) } else { Err(IllegalHistory::Contradiction { what: what() }) }
}

fn impossible<T>(what: String) -> Result<T, IllegalHistory> {
    Err(IllegalHistory::Impossible { what })
}
