//! Turns events into a [`Report`]. It is pure: it asks the judge for the verdicts and adds everything around them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{
    AtLeast, Bounds, Claim, Cleanup, Cluster, Evidence, Fault, Mitigation, Node, PhaseSpan, Proof, Remedied, Report,
    Run, Seconds, Setting, Span, Time, UndoStep, Window, Witness, api_writes, outage, store_recovery, words,
};
use crate::clock::{Mono, Wall};
use crate::error::{Error, Result};
use crate::event::{self, Checkpoint, Event, EventKind, Phase};
use crate::plan::Plan;
use crate::run_history::History;
use crate::scenario::Arm;
use crate::verdict::{self, Finding};

impl Report {
    /// Judges the events of a run and gathers everything that is reported about it.
    ///
    /// # Errors
    /// If the events are not those of a run (see [`History::replay`]).
    pub fn of(events: &[Event]) -> Result<Self> {
        let history =
            History::replay(events).map_err(|e| Error::could_not_run(format!("this is no record of a run: {e}")))?;
        Self::with_findings(events, &verdict::judge(&history))
    }

    /// Like [`Report::of`], with findings that already exist.
    ///
    /// # Errors
    /// If the events do not begin with `Started`, or a finding is about no claim of the plan.
    pub fn with_findings(events: &[Event], findings: &[Finding]) -> Result<Self> {
        let Some(Event { at: start, kind: EventKind::Started { wall, version, plan, .. } }) = events.first() else {
            return Err(Error::could_not_run("this is no record of a run: it does not begin with the run's start"));
        };
        let clock = Clock { start: *start };
        let claims = findings.iter().map(|f| claim(f, plan)).collect::<Result<Vec<_>>>()?;
        let phases = phases(events, clock);
        let injected = events.iter().any(|event| matches!(event.kind, EventKind::Injecting { .. }));
        Ok(Self {
            run: run(plan, *wall, version),
            cluster: cluster(plan),
            mitigations: mitigations(&claims),
            outages: outage::measure(events, plan, clock),
            recovery: store_recovery::measure(events, plan),
            writes: api_writes::count(events, plan),
            exceeded: words::exceeded(plan).filter(|_| injected),
            faults: faults(events, plan, clock),
            // Take the first interruption: later ones are its consequences.
            interrupted: events.iter().find_map(|e| match &e.kind {
                EventKind::Interrupted(cut) => Some(cut.clone()),
                _ => None,
            }),
            disturbances: events
                .iter()
                .filter_map(|e| match &e.kind {
                    EventKind::Disturbed(d) => Some(words::disturbance(d, e.at, clock)),
                    _ => None,
                })
                .collect(),
            cleanup: cleanup(events),
            time: time(events, clock),
            claims,
            phases,
        })
    }
}

/// Turns points of the monotonic clock into times from the start of the run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    pub start: Mono,
}

impl Clock {
    pub fn at(self, at: Mono) -> Seconds {
        Seconds(at.since(self.start))
    }

    pub fn span(self, from: Mono, to: Mono) -> Span {
        Span { from: self.at(from), to: self.at(to) }
    }

    pub fn bounds(self, earliest: Mono, latest: Mono) -> Bounds {
        Bounds { earliest: self.at(earliest), latest: self.at(latest) }
    }
}

fn run(plan: &Plan, wall: Wall, version: &str) -> Run {
    Run {
        scenario: plan.scenario.clone(),
        variant: plan.variant.clone(),
        other_arm: plan.other_arm.clone(),
        summary: plan.summary.trim().to_owned(),
        source: plan.source.clone(),
        seed: plan.seed,
        command: command(plan),
        started: wall.to_string(),
        version: version.to_owned(),
    }
}

/// The command that repeats the run.
fn command(plan: &Plan) -> String {
    let Plan { source, variant, seed, facts, .. } = plan;
    let mut command = format!("kchaos run {source}/{variant} --seed {seed} --cluster {}", facts.cluster);
    if let Some(manifests) = &plan.manifests {
        command += &format!(" --manifests {}", quoted(&manifests.path.replace('\'', "'\\''")));
    }
    for wanted in &plan.keep_alive {
        // A path may contain characters that are special to a shell, but the only one that would end the quoting is
        // `'`.
        command += &format!(" --keep-alive {}", quoted(&wanted.to_string().replace('\'', "%27")));
    }
    command
}

/// Quotes a word for a command line, if necessary.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/:.=-_".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{word}'") }
}

fn cluster(plan: &Plan) -> Cluster {
    let facts = &plan.facts;
    Cluster {
        name: facts.cluster.clone(),
        kubernetes: facts.kubernetes.clone(),
        engine: facts.engine.clone(),
        nodes: facts
            .nodes
            .iter()
            .map(|(name, node)| Node {
                name: name.clone(),
                role: node.role,
                target: plan.targets.iter().find(|(_, id)| **id == node.node).map(|(target, _)| target.to_string()),
            })
            .collect(),
        settings: facts
            .clocks
            .iter()
            .map(|(clock, s)| (words::kebab(clock), Setting { value: Seconds(s.value), source: s.source.clone() }))
            .collect(),
    }
}

fn claim(finding: &Finding, plan: &Plan) -> Result<Claim> {
    let planned = plan.claims.iter().find(|c| c.id == finding.claim).ok_or_else(|| {
        Error::could_not_run(format!("the finding `{}` is about no claim of the plan", finding.claim))
    })?;
    let (from, to) = finding.window;
    Ok(Claim {
        claim: finding.claim.clone(),
        sentence: finding.sentence.clone(),
        page: words::sentence(&finding.sentence),
        arm: finding.arm,
        says: finding.says.clone(),
        verdict: finding.verdict,
        reason: finding.reason,
        because: finding.because.clone(),
        expected: finding.expected.clone(),
        window: Window {
            name: planned.window.name.clone(),
            phase: planned.window.phase,
            from: from.map(Seconds),
            to: to.map(Seconds),
            formula: planned.window.formula.clone(),
            bounded_by: planned.window.bounded_by.clone(),
        },
        observed: finding.observed.clone(),
        observed_at: finding.observed_at.map(|(a, b)| Bounds { earliest: Seconds(a), latest: Seconds(b) }),
        unseen: finding.unseen.map(Seconds),
        probe: words::planned_probe(plan, planned.probe),
        evidence: finding
            .evidence
            .iter()
            .map(|e| Evidence {
                series: e.series.clone(),
                slot: e.slot,
                from: Seconds(e.from),
                to: Seconds(e.to),
                outcome: e.outcome.clone(),
            })
            .collect(),
        file: plan.source.clone(),
        line: finding.line,
    })
}

fn faults(events: &[Event], plan: &Plan, clock: Clock) -> Vec<Fault> {
    let mut faults: Vec<Fault> = plan
        .faults
        .iter()
        .map(|f| Fault {
            what: words::fault(&f.spec, &f.node.name),
            node: f.node.name.clone(),
            injected: None,
            error: None,
            remedy: plan.remedy.as_ref().map(|remedy| Remedied {
                what: words::remedy(remedy.does).to_owned(),
                saved: None,
                done: None,
                error: None,
            }),
            kubelets: plan.kubelets_of(&f.node).into_iter().map(str::to_owned).collect(),
            proven_for: None,
            proofs: Vec::new(),
            undo: Vec::new(),
        })
        .collect();
    // `History::replay` refuses an index beyond the plan's faults.
    for event in events {
        match &event.kind {
            EventKind::Prepared { fault, undo } => {
                if let Some(f) = faults.get_mut(*fault) {
                    f.undo =
                        undo.iter().map(|u| UndoStep { by_hand: u.to_string(), done: false, error: None }).collect();
                }
            }
            EventKind::Injecting { fault } => {
                if let Some(f) = faults.get_mut(*fault) {
                    f.injected = Some(clock.span(event.at, event.at));
                }
            }
            EventKind::Injected { fault, error } => {
                if let Some(f) = faults.get_mut(*fault) {
                    f.error.clone_from(error);
                    if let Some(span) = &mut f.injected {
                        span.to = clock.at(event.at);
                    }
                }
            }
            EventKind::Saved { fault, what } => {
                if let Some(r) = faults.get_mut(*fault).and_then(|f| f.remedy.as_mut()) {
                    r.saved = Some(what.clone());
                }
            }
            EventKind::Remedying { fault } => {
                if let Some(r) = faults.get_mut(*fault).and_then(|f| f.remedy.as_mut()) {
                    r.done = Some(clock.span(event.at, event.at));
                }
            }
            EventKind::Remedied { fault, error } => {
                if let Some(r) = faults.get_mut(*fault).and_then(|f| f.remedy.as_mut()) {
                    r.error.clone_from(error);
                    if let Some(span) = &mut r.done {
                        span.to = clock.at(event.at);
                    }
                }
            }
            EventKind::Witnessed(proof) => {
                if let Some(f) = faults.get_mut(proof.fault) {
                    f.proofs.push(self::proof(proof, clock));
                }
            }
            EventKind::Undone { fault, step } => {
                if let Some(u) = faults.get_mut(*fault).and_then(|f| f.undo.get_mut(*step)) {
                    // A later success (for example of `kchaos rollback`) supersedes an earlier failure.
                    (u.done, u.error) = (true, None);
                }
            }
            EventKind::UndoFailed { fault, step, error, by_hand } => {
                if let Some(u) = faults.get_mut(*fault).and_then(|f| f.undo.get_mut(*step)) {
                    (u.done, u.error) = (false, Some(error.clone()));
                    u.by_hand.clone_from(by_hand);
                }
            }
            _ => {}
        }
    }
    for fault in 0..faults.len() {
        let looked_at = plan.shut_in_by(fault).unwrap_or(fault);
        faults[fault].proven_for = proven_for(&faults[fault].proofs, &faults[looked_at].proofs);
    }
    faults
}

fn proof(proof: &crate::event::Proof, clock: Clock) -> Proof {
    let needed = matches!(proof.checkpoint, Checkpoint::Injected | Checkpoint::WindowEnd);
    Proof {
        checkpoint: proof.checkpoint,
        as_needed: !proof.witnesses.is_empty() && proof.witnesses.iter().all(|w| w.effect == Some(needed)),
        witnesses: proof
            .witnesses
            .iter()
            .map(|w| Witness {
                what: w.what.clone(),
                seen: w.seen.clone(),
                effect: w.effect,
                at: clock.span(w.from, w.to),
            })
            .collect(),
    }
}

/// The time from the end of the first proof (when all witnesses had seen the effect) to the start of the last one. If
/// another fault shuts this one in, the last proof is that fault's.
fn proven_for(first: &[Proof], last: &[Proof]) -> Option<Seconds> {
    let from = proof_at(first, Checkpoint::Injected)?.witnesses.iter().map(|w| w.at.to).max()?;
    let to = proof_at(last, Checkpoint::WindowEnd)?.witnesses.iter().map(|w| w.at.from).min()?;
    Some(Seconds(to.0.saturating_sub(from.0)))
}

fn proof_at(proofs: &[Proof], checkpoint: Checkpoint) -> Option<&Proof> {
    proofs.iter().rfind(|p| p.checkpoint == checkpoint && p.as_needed)
}

fn mitigations(claims: &[Claim]) -> Vec<Mitigation> {
    let mut by_sentence: Vec<Mitigation> = Vec::new();
    for claim in claims {
        let Some(arm) = claim.arm else { continue };
        let at = by_sentence.iter().position(|m| m.sentence == claim.sentence).unwrap_or_else(|| {
            by_sentence.push(Mitigation {
                sentence: claim.sentence.clone(),
                treatment: Vec::new(),
                control: Vec::new(),
            });
            by_sentence.len() - 1
        });
        match arm {
            Arm::Treatment => by_sentence[at].treatment.push(claim.claim.clone()),
            Arm::Control => by_sentence[at].control.push(claim.claim.clone()),
        }
    }
    by_sentence
}

fn phases(events: &[Event], clock: Clock) -> Vec<PhaseSpan> {
    let mut phases: Vec<PhaseSpan> = Vec::new();
    let end = events.last().map_or(clock.start, |e| e.at);
    for event in events {
        if let EventKind::Phase(phase) = event.kind {
            if let Some(last) = phases.last_mut() {
                last.span.to = clock.at(event.at);
            }
            phases.push(PhaseSpan { phase, span: clock.span(event.at, end) });
        }
    }
    phases
}

fn cleanup(events: &[Event]) -> Cleanup {
    let removed = event::removed_nodes(events).into_iter().map(str::to_owned).collect();
    let mut cleanup = Cleanup { end: None, residue: None, removed };
    for event in events {
        match &event.kind {
            EventKind::Audited { residue } => cleanup.residue = Some(residue.clone()),
            EventKind::Finished(end) => cleanup.end = Some(*end),
            _ => {}
        }
    }
    cleanup
}

/// Splits the run's time into waiting and the harness's own.
///
/// Waiting is every moment in a recorded wait or in the observation of the cluster's own reaction: the fault phase once
/// the effect is proven, and recovery. These spans overlap, so their union counts.
fn time(events: &[Event], clock: Clock) -> Time {
    let end = events.last().map_or(clock.start, |e| e.at);
    let mut waits: Vec<(Mono, Mono)> = Vec::new();
    let mut contended: BTreeMap<Mono, Duration> = BTreeMap::new();
    let (mut fault, mut recovery) = (None, None);
    for event in events {
        match &event.kind {
            EventKind::Processors(usage) => drop(contended.insert(usage.from, usage.lost())),
            EventKind::Waited { since, .. } => waits.push((*since, event.at)),
            EventKind::Witnessed(p) if p.checkpoint == Checkpoint::Injected => fault = Some(event.at),
            EventKind::Witnessed(p) if p.checkpoint == Checkpoint::WindowEnd => {
                let from = fault.take();
                let to = p.witnesses.iter().map(|w| w.from).min().unwrap_or(event.at);
                waits.extend(from.map(|from| (from, to)));
            }
            EventKind::Phase(Phase::Recovery) => recovery = Some(event.at),
            EventKind::Phase(Phase::Collect | Phase::Cleanup) => {
                waits.extend(recovery.take().map(|from| (from, event.at)))
            }
            _ => {}
        }
    }
    let (total, waiting) = (end.since(clock.start), union(waits));
    Time {
        total: Seconds(total),
        waiting: Seconds(waiting),
        harness: Seconds(total.saturating_sub(waiting)),
        contended: (!contended.is_empty()).then(|| Seconds(contended.into_values().sum())),
    }
}

fn union(mut spans: Vec<(Mono, Mono)>) -> Duration {
    spans.sort_unstable();
    let mut covered = Mono(0);
    let mut sum = Duration::ZERO;
    for (from, to) in spans {
        let from = from.max(covered);
        sum += to.since(from);
        covered = covered.max(to);
    }
    sum
}

/// The length of an outage, of which the upper bound may be unknown.
pub(super) fn at_least(at_least: Duration, at_most: Option<Duration>) -> AtLeast {
    AtLeast { at_least: Seconds(at_least), at_most: at_most.map(Seconds) }
}

/// Groups claims whose verdicts have the same reason (such as a fault without effect), so that they are told together.
/// No group is empty.
pub(super) fn by_reason<'a>(claims: impl Iterator<Item = &'a Claim>) -> Vec<Vec<&'a Claim>> {
    let mut alike: Vec<Vec<&Claim>> = Vec::new();
    for claim in claims {
        match alike.iter_mut().find(|others| others[0].because == claim.because) {
            Some(others) => others.push(claim),
            None => alike.push(vec![claim]),
        }
    }
    alike
}

/// The ids of the page sentences that the claims are about, each once.
pub(super) fn sentences(claims: &[Claim]) -> Vec<&str> {
    words::unique(claims.iter().map(|c| c.sentence.as_str()))
}
