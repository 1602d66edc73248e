//! The state of the live display, and the lines it shows. This module is pure: events in, lines out. Its time is that
//! of the events.

use std::time::Duration;

use anstyle::{AnsiColor, Style};

use super::band::{Band, Look};
use crate::clock::Mono;
use crate::event::{self, Checkpoint, End, Event, EventKind, Interruption, Phase, Proof};
use crate::plan::{Edge, Plan, PlannedClaim};
use crate::report::fold::Clock;
use crate::report::{Seconds, escape, words};
use crate::run_history::History;
use crate::sample::{Failure, Outcome, Sample, Value};
use crate::steady_state::Unsteady;
use crate::verdict::{self, Verdict};

const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const DOUBT: Style = AnsiColor::Yellow.on_default();

/// Maximum number of bands: the redrawn lines must fit on a small terminal.
const BANDS: usize = 10;
/// Number of changes of one probe that are shown.
const CHANGES: u32 = 8;
/// How often the judge is asked which claims are decided, at most.
const JUDGE: Duration = Duration::from_secs(1);
/// How many times as long as judging takes it is until the next time, at least. Who judges keeps the run waiting, and on a
/// busy machine it takes long.
const JUDGING_LASTS: u32 = 9;

/// What is known so far.
#[derive(Default)]
pub(super) struct State {
    plan: Option<Box<Plan>>,
    events: Vec<Event>,
    start: Mono,
    phase: Option<(Phase, Mono)>,
    /// The cause of the current phase's windows: start and end of the injection, the remedy or the undo.
    cause: Option<(Mono, Mono)>,
    undoing: bool,
    bands: Vec<Band>,
    decided: Vec<(String, Verdict)>,
    /// When the judge is to be asked again.
    judge_at: Mono,
}

impl State {
    /// Takes in an event and returns the lines that tell about it, if it is worth telling.
    pub fn event(&mut self, event: &Event) -> Vec<String> {
        self.note(event);
        let mut lines = match &event.kind {
            EventKind::Sampled(sample) => self.sample(sample).into_iter().collect(),
            EventKind::Witnessed(proof) => vec![self.proof(event.at, proof)],
            kind => {
                self.told(kind, event.at).map(|(style, text)| self.line(event.at, style, &text)).into_iter().collect()
            }
        };
        self.events.push(event.clone());
        lines.extend(self.judge(event.at));
        lines
    }

    /// Keeps what later lines need from an event.
    fn note(&mut self, event: &Event) {
        match &event.kind {
            EventKind::Started { plan, .. } => {
                self.start = event.at;
                self.bands = vec![Band::default(); plan.probes.len()];
                self.plan = Some(plan.clone());
            }
            EventKind::Phase(phase) => self.phase = Some((*phase, event.at)),
            EventKind::Injecting { .. } | EventKind::Remedying { .. } => self.cause = Some((event.at, event.at)),
            // The undo begins with the first of its steps.
            EventKind::Undoing { .. } if !self.undoing => {
                self.undoing = true;
                self.cause = Some((event.at, event.at));
            }
            EventKind::Injected { .. } | EventKind::Remedied { .. } | EventKind::Undone { .. } => {
                if let Some((_, end)) = &mut self.cause {
                    *end = event.at;
                }
            }
            _ => {}
        }
    }

    /// A line about what is no event.
    pub fn noted(&self, text: &str, now: Mono) -> String {
        if self.plan.is_none() { text.to_owned() } else { self.line(now, Style::new(), text) }
    }

    /// The event in words; `None` if it is not worth a line of its own.
    fn told(&self, event: &EventKind, at: Mono) -> Option<(Style, String)> {
        Some(match event {
            EventKind::Started { plan, .. } => {
                let run = format!("{}/{}", plan.scenario, plan.variant);
                (BOLD, format!("{run} on cluster {}, seed {}", plan.facts.cluster, plan.seed))
            }
            EventKind::Phase(phase) => (BOLD, self.phase_line(*phase)),
            EventKind::Prepared { undo, .. } => (DIM, format!("undo is on disk: {}", joined(undo))),
            EventKind::Injecting { fault } => (BOLD, format!("{} now", self.fault(*fault))),
            EventKind::Injected { error: Some(error), .. } => (BAD, format!("the injection failed: {error}")),
            EventKind::Saved { what, .. } => (DIM, format!("saved: {what}")),
            EventKind::Remedied { error: Some(error), .. } => (BAD, format!("the remedy failed: {error}")),
            EventKind::UndoFailed { error, by_hand, .. } => {
                (BAD, format!("✗ an undo failed: {error}; by hand: {by_hand}"))
            }
            EventKind::Audited { residue } if residue.is_empty() => {
                let removed: Vec<String> = event::removed_nodes(&self.events).into_iter().map(str::to_owned).collect();
                (GOOD, format!("✓ audit: {}", words::as_before(&removed)))
            }
            EventKind::Audited { residue } => {
                (BAD, format!("✗ audit: {} differences: {}", residue.len(), joined(residue)))
            }
            EventKind::Disturbed(d) => {
                (DOUBT, format!("? disturbed {}", words::disturbance(d, at, Clock { start: self.start })))
            }
            EventKind::Interrupted(Interruption { why, .. }) => {
                (DOUBT, format!("? cut short: {why}; putting everything back"))
            }
            EventKind::Finished(End::Dirty) => {
                (BAD, "✗ the cluster is left differing from before: kchaos rollback".to_owned())
            }
            EventKind::Injected { error: None, .. }
            | EventKind::Remedying { .. }
            | EventKind::Remedied { error: None, .. }
            | EventKind::Undoing { .. }
            | EventKind::Undone { .. }
            | EventKind::Finished(End::Clean)
            | EventKind::Surveyed { .. }
            | EventKind::Watching { .. }
            | EventKind::Processors(_)
            | EventKind::Waited { .. }
            | EventKind::Sampled(_)
            | EventKind::Witnessed(_) => return None,
        })
    }

    /// Why there is no quiet baseline yet, in words.
    pub fn unsteady(&self, unsteady: &Unsteady) -> String {
        let of = |probe: usize, series: &str| {
            let probe = self.plan.as_deref().map(|plan| words::planned_probe(plan, probe)).unwrap_or_default();
            if series.is_empty() { probe } else { format!("{probe} ({series})") }
        };
        let why = match unsteady {
            Unsteady::TooShort => "nothing was seen".to_owned(),
            Unsteady::Blind { probe, series } => format!("{}: nothing was seen", of(*probe, series)),
            Unsteady::NotNormal { probe, series, seen } => {
                let seen = match seen {
                    Outcome::Saw(value) => value_words(value),
                    Outcome::Failed(failure) => failure_words(failure),
                    Outcome::Unknown(why) => why.clone(),
                };
                format!("{}: {seen}", of(*probe, series))
            }
        };
        format!("no quiet baseline yet: {why}")
    }

    /// The lines to redraw.
    pub fn lines(&self, now: Mono) -> Vec<String> {
        let Some(plan) = &self.plan else { return Vec::new() };
        let mut lines = Vec::new();
        let (phase, since) = self.phase.unwrap_or((Phase::Setup, self.start));
        lines.push(format!(
            "{} {}   {}",
            paint(BOLD, words::phase(phase)),
            words::seconds(Seconds(now.since(since))),
            paint(
                DIM,
                &format!("{} in all · Ctrl-C puts everything back", words::seconds(Seconds(now.since(self.start))))
            ),
        ));
        if let Some(next) = self.next(plan, phase, now) {
            lines.push(next);
        }
        let mut decided = String::new();
        for verdict in [Verdict::Upheld, Verdict::Refuted] {
            let n = self.decided.iter().filter(|(_, v)| *v == verdict).count();
            if n > 0 {
                decided += &format!("  {} {n} {}", words::glyph(verdict), words::verdict(verdict));
            }
        }
        lines.push(format!("{} of {} claims decided{decided}", self.decided.len(), plan.claims.len()));
        let second = now.since(self.start).as_secs();
        let shown = self.interesting(plan, phase);
        for probe in &shown {
            let (what, band) = (words::planned_probe(plan, *probe), &self.bands[*probe]);
            lines.push(format!("{} {}  {}", band.draw(second), paint(Style::new(), &what), paint(DIM, &band.last)));
        }
        if shown.len() < plan.probes.len() {
            lines.push(paint(DIM, &format!("and {} more probes", plan.probes.len() - shown.len())));
        }
        lines
    }

    /// The probes worth a line of their own, in the order of the plan. Requests have priority, then probes of claims of
    /// this phase that are still open.
    fn interesting(&self, plan: &Plan, phase: Phase) -> Vec<usize> {
        let open =
            |probe| plan.claims.iter().any(|c| c.probe == probe && c.window.phase == phase && !self.is_decided(&c.id));
        let rank = |probe: &usize| (!plan.probes[*probe].spec.measures_outages(), !open(*probe), *probe);
        let mut probes: Vec<usize> = (0..plan.probes.len()).collect();
        probes.sort_by_key(rank);
        probes.truncate(BANDS);
        probes.sort_unstable();
        probes
    }

    fn is_decided(&self, claim: &str) -> bool {
        self.decided.iter().any(|(id, _)| id == claim)
    }

    /// What is expected next: the open claim whose window ends first.
    fn next(&self, plan: &Plan, phase: Phase, now: Mono) -> Option<String> {
        let (from, to) = self.cause.filter(|_| matches!(phase, Phase::Fault | Phase::Remedy | Phase::Recovery))?;
        let end = |claim: &PlannedClaim| match claim.window.to {
            Edge::After(d) => Some(to + d),
            _ => None,
        };
        let open = plan.claims.iter().filter(|c| c.window.phase == phase && !self.is_decided(&c.id));
        let claim = open.filter(|c| end(c).is_some_and(|end| end >= now)).min_by_key(|c| end(c))?;
        let left = words::seconds(Seconds(end(claim)?.since(now)));
        let when = match claim.window.from {
            Edge::After(d) if from + d > now => format!(
                "expected in {} at the earliest, {left} at the latest",
                words::seconds(Seconds((from + d).since(now)))
            ),
            _ => format!("expected now, {left} left"),
        };
        let setting = claim
            .window
            .bounded_by
            .first()
            .map(|s| format!("  ({})", s.split(" (").next().unwrap_or(s)))
            .unwrap_or_default();
        Some(format!("next: {}: {}{}", paint(BOLD, &claim.says), when, paint(DIM, &setting)))
    }

    fn phase_line(&self, phase: Phase) -> String {
        let plan = self.plan.as_deref();
        match phase {
            Phase::Setup => format!(
                "setup: {} workloads and {} probes are put in place",
                plan.map_or(0, |p| p.workloads.len()),
                plan.map_or(0, |p| p.probes.len())
            ),
            Phase::Baseline => "baseline: nothing is broken yet, all probes must hold".into(),
            Phase::Fault => "fault: the cluster is broken and watched".into(),
            Phase::Remedy => {
                let does = plan.and_then(|p| p.remedy.as_ref()).map_or("the remedy", |r| words::remedy(r.does));
                format!("remedy: {does}")
            }
            Phase::Undo => "undo: the fault is taken out".into(),
            Phase::Recovery => "recovery: the cluster is watched as it recovers".into(),
            Phase::Collect => "collect: the last samples come in".into(),
            Phase::Cleanup => {
                "cleanup: workloads and probes are removed, the cluster is compared with what it was".into()
            }
        }
    }

    fn fault(&self, index: usize) -> String {
        let fault = self.plan.as_ref().and_then(|p| p.faults.get(index));
        fault.map_or_else(|| "a fault".into(), |f| words::fault(&f.spec, &f.node.name))
    }

    fn proof(&self, at: Mono, proof: &Proof) -> String {
        let wanted = matches!(proof.checkpoint, Checkpoint::Injected | Checkpoint::WindowEnd);
        let agreed = !proof.witnesses.is_empty() && proof.witnesses.iter().all(|w| w.effect == Some(wanted));
        if !agreed {
            let seen: Vec<String> = proof.witnesses.iter().map(|w| format!("{}: {}", w.what, w.seen)).collect();
            let when = words::checkpoint(proof.checkpoint);
            let told = format!("? {when}, the fault's effect is not as it must be: {}", seen.join("; "));
            return self.line(at, DOUBT, &told);
        }
        let told = match proof.checkpoint {
            Checkpoint::Baseline => "the fault's effect is not there yet",
            Checkpoint::Injected => "the fault is in effect",
            Checkpoint::WindowEnd => "the fault is still in effect",
            Checkpoint::Undone => "the fault is out",
        };
        let witnesses = if proof.witnesses.len() == 1 { "witness" } else { "witnesses" };
        self.line(at, GOOD, &format!("✓ {} {witnesses}: {told}", proof.witnesses.len()))
    }

    /// Takes in a sample. Returns a line for a change that lasted for a whole second.
    fn sample(&mut self, sample: &Sample) -> Option<String> {
        let second = sample.end.since(self.start).as_secs();
        let band = self.bands.get_mut(sample.probe)?;
        let (look, last) = match &sample.outcome {
            Outcome::Saw(value) => (Look::Good, value_words(value)),
            Outcome::Failed(failure) => (Look::Bad, failure_words(failure)),
            Outcome::Unknown(why) => (Look::Nothing, format!("? {why}")),
        };
        let closed = band.push(second, look);
        band.last = last;
        if !closed {
            return None;
        }
        let spec = &self.plan.as_ref()?.probes.get(sample.probe)?.spec;
        // For requests, the line tells whether they are answered; for everything else, the value.
        let now = match band.settled()? {
            Look::Bad => "failing".to_owned(),
            _ if look != Look::Good => return None,
            _ if spec.measures_outages() => "answered".to_owned(),
            _ => short(&band.last),
        };
        let before = band.told.replace(now.clone()).filter(|before| *before != now)?;
        band.changes += 1;
        let told = match band.changes {
            ..CHANGES => format!("{}: {now} (was {before})", words::planned_probe(self.plan.as_deref()?, sample.probe)),
            CHANGES => format!(
                "{}: {now} (was {before}), and so on: it changes often",
                words::planned_probe(self.plan.as_deref()?, sample.probe)
            ),
            _ => return None,
        };
        Some(self.line(sample.end, Style::new(), &told))
    }

    /// Asks the judge from time to time, and returns lines about newly decided claims.
    fn judge(&mut self, now: Mono) -> Vec<String> {
        if now < self.judge_at || self.cause.is_none() {
            return Vec::new();
        }
        let begin = Mono::now();
        let lines = self.newly_decided(now);
        self.judge_at = now + JUDGE.max(JUDGING_LASTS * Mono::now().since(begin));
        lines
    }

    fn newly_decided(&mut self, now: Mono) -> Vec<String> {
        let Ok(history) = History::replay(&self.events) else { return Vec::new() };
        let findings = verdict::outlook(&history);
        let mut lines = Vec::new();
        for finding in findings {
            let before = self.decided.iter().position(|(id, _)| *id == finding.claim);
            let style = match finding.verdict {
                Verdict::Upheld => GOOD,
                Verdict::Refuted => BAD,
                Verdict::Inconclusive | Verdict::Unsupported => DOUBT,
            };
            let told = format!("{} {}: {}", words::glyph(finding.verdict), finding.says, finding.because);
            match (before, finding.verdict) {
                (Some(n), verdict) if verdict == self.decided[n].1 => {}
                (None, Verdict::Inconclusive | Verdict::Unsupported) => {}
                (None, verdict) => {
                    lines.push(self.line(now, style, &told));
                    self.decided.push((finding.claim, verdict));
                }
                // Later events (such as a fault that did not hold to the end) revoke a verdict.
                (Some(n), verdict) => {
                    lines.push(self.line(
                        now,
                        style,
                        &format!("{told} (before: {})", words::verdict(self.decided[n].1)),
                    ));
                    match verdict {
                        Verdict::Inconclusive | Verdict::Unsupported => drop(self.decided.remove(n)),
                        Verdict::Upheld | Verdict::Refuted => self.decided[n].1 = verdict,
                    }
                }
            }
        }
        lines
    }

    /// A line that begins with the time since the start of the run, and so never with foreign text.
    fn line(&self, at: Mono, style: Style, foreign: &str) -> String {
        let elapsed = at.since(self.start).as_millis() / 100;
        let time = format!("{:>5}.{} s", elapsed / 10, elapsed % 10);
        format!("{}  {}", paint(DIM, &time), paint(style, foreign))
    }
}

fn joined(items: &[impl ToString]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// The beginning of a long value.
fn short(value: &str) -> String {
    const ROOM: usize = 60;
    if value.chars().count() <= ROOM { value.to_owned() } else { value.chars().take(ROOM - 1).chain(['…']).collect() }
}

fn value_words(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        Value::Count(n) => n.to_string(),
        Value::Set(set) if set.is_empty() => "none".into(),
        Value::Set(set) => set.iter().cloned().collect::<Vec<_>>().join(", "),
    }
}

fn failure_words(failure: &Failure) -> String {
    match failure {
        Failure::Timeout => "no answer in time".into(),
        Failure::Refused => "refused".into(),
        Failure::Reset => "connection reset".into(),
        Failure::Unreachable => "unreachable".into(),
        Failure::Status(code) => format!("HTTP {code}"),
        Failure::Other(what) => what.clone(),
    }
}

fn paint(style: Style, foreign: &str) -> String {
    let safe = escape::safe(foreign);
    if style == Style::new() { safe.into_owned() } else { format!("{style}{safe}{style:#}") }
}
