//! What the live display knows, and the lines it shows. Pure: events in, lines out; the time is that of the events.

use std::collections::VecDeque;
use std::time::Duration;

use anstyle::{AnsiColor, Style};

use crate::clock::Mono;
use crate::event::{Checkpoint, End, Event, EventKind, Failure, Outcome, Phase, Proof, Sample, Value};
use crate::history::History;
use crate::plan::{Edge, Plan, PlannedClaim};
use crate::report::fold::Clock;
use crate::report::{Seconds, text, words};
use crate::verdict::{self, Verdict};

const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const DOUBT: Style = AnsiColor::Yellow.on_default();

/// Seconds that a band shows, one column each.
const BAND: usize = 40;
/// How often the judge is asked which claims are decided.
const JUDGE: Duration = Duration::from_secs(1);

/// What is known so far.
#[derive(Default)]
pub(super) struct State {
    plan: Option<Box<Plan>>,
    events: Vec<Event>,
    start: Mono,
    phase: Option<(Phase, Mono)>,
    /// The cause of the present phase's windows: begin and end of the injection, or of the undo.
    cause: Option<(Mono, Mono)>,
    bands: Vec<Band>,
    decided: Vec<(String, Verdict)>,
    judged: Mono,
}

/// What a probe saw, second by second.
#[derive(Default, Clone)]
struct Band {
    /// The newest second is the last one.
    seconds: VecDeque<Look>,
    /// Number of the newest second.
    newest: u64,
    /// The last value, in words.
    last: String,
    /// What was last told of it in a line.
    told: Option<String>,
}

/// What came of a second's samples: the worst counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Look {
    Nothing,
    Good,
    Bad,
}

impl State {
    /// Takes in an event; gives the lines that tell it, if it is worth telling.
    pub fn event(&mut self, event: &Event) -> Vec<String> {
        let mut lines = Vec::new();
        match &event.kind {
            EventKind::Started { plan, .. } => {
                self.start = event.at;
                self.bands = vec![Band::default(); plan.probes.len()];
                lines.push(self.line(
                    event.at,
                    BOLD,
                    &format!(
                        "{}/{} on cluster {}, seed {}",
                        plan.scenario, plan.variant, plan.facts.cluster, plan.seed
                    ),
                ));
                self.plan = Some(plan.clone());
            }
            EventKind::Phase(phase) => {
                self.phase = Some((*phase, event.at));
                lines.push(self.line(event.at, BOLD, &self.phase_line(*phase)));
            }
            EventKind::Prepared { undo, .. } => {
                let steps: Vec<String> = undo.iter().map(ToString::to_string).collect();
                lines.push(self.line(event.at, DIM, &format!("undo is written down: {}", steps.join("; "))));
            }
            EventKind::Injecting { fault } => {
                self.cause = Some((event.at, event.at));
                lines.push(self.line(event.at, BOLD, &format!("{} now", self.fault(*fault))));
            }
            EventKind::Injected { error, .. } => {
                if let Some((_, end)) = &mut self.cause {
                    *end = event.at;
                }
                if let Some(error) = error {
                    lines.push(self.line(event.at, BAD, &format!("the injection failed: {error}")));
                }
            }
            EventKind::Witnessed(proof) => lines.push(self.proof(event.at, proof)),
            EventKind::Sampled(sample) => lines.extend(self.sample(sample)),
            EventKind::Undoing { .. } => self.cause = Some((event.at, event.at)),
            EventKind::Undone { .. } => {
                if let Some((_, end)) = &mut self.cause {
                    *end = event.at;
                }
            }
            EventKind::UndoFailed { error, by_hand, .. } => {
                lines.push(self.line(event.at, BAD, &format!("✗ an undo failed: {error}; by hand: {by_hand}")));
            }
            EventKind::Audited { residue } => {
                let (style, text) = match residue.len() {
                    0 => (GOOD, "✓ audit: the cluster is as it was before".to_owned()),
                    n => (
                        BAD,
                        format!(
                            "✗ audit: {n} differences: {}",
                            residue.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
                        ),
                    ),
                };
                lines.push(self.line(event.at, style, &text));
            }
            EventKind::Disturbed(d) => {
                lines.push(self.line(
                    event.at,
                    DOUBT,
                    &format!("? disturbed {}", words::disturbance(d, event.at, Clock { start: self.start })),
                ));
            }
            EventKind::Interrupted { why } => {
                lines.push(self.line(event.at, DOUBT, &format!("? cut short: {why}; putting everything back")));
            }
            EventKind::Finished(End::Clean) => {}
            EventKind::Finished(End::Dirty) => {
                lines.push(self.line(event.at, BAD, "✗ the cluster is left differing from before: kchaos rollback"));
            }
            EventKind::Surveyed { .. } | EventKind::Watching { .. } | EventKind::Waited { .. } => {}
        }
        self.events.push(event.clone());
        lines.extend(self.judge(event.at));
        lines
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
        for (probe, band) in plan.probes.iter().zip(&self.bands) {
            lines.push(format!(
                "{} {}  {}",
                band.draw(second),
                paint(Style::new(), &words::probe(&probe.spec)),
                paint(DIM, &band.last)
            ));
        }
        lines
    }

    /// What is expected next: the open window that ends first.
    fn next(&self, plan: &Plan, phase: Phase, now: Mono) -> Option<String> {
        let (from, to) = self.cause.filter(|_| matches!(phase, Phase::Fault | Phase::Recovery))?;
        let end = |claim: &PlannedClaim| match claim.window.to {
            Edge::After(d) => Some(to + d),
            _ => None,
        };
        let open =
            plan.claims.iter().filter(|c| c.window.phase == phase && !self.decided.iter().any(|(id, _)| *id == c.id));
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
            Phase::Undo => "undo: the fault is taken out".into(),
            Phase::Recovery => "recovery: the cluster is watched as it recovers".into(),
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
        let seen: Vec<String> = proof.witnesses.iter().map(|w| format!("{}: {}", w.what, w.seen)).collect();
        let (style, word) = match (agreed, wanted) {
            (true, true) => (GOOD, "✓ the fault is in effect"),
            (true, false) => (GOOD, "✓ no effect of the fault"),
            (false, true) => (DOUBT, "? the fault's effect is not proven"),
            (false, false) => (DOUBT, "? the fault's effect is seen where there should be none"),
        };
        self.line(at, style, &format!("{word} {} ({})", words::checkpoint(proof.checkpoint), seen.join("; ")))
    }

    /// Takes in a sample. A change that lasted for a whole second is told.
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
        // Requests are told by whether they are answered, everything else by its value.
        let now = match band.settled()? {
            Look::Bad => "no answer".to_owned(),
            _ if look == Look::Good => band.last.clone(),
            _ => return None,
        };
        let before = band.told.replace(now.clone());
        let before = before.filter(|b| *b != now)?;
        let probe = words::probe(&self.plan.as_ref()?.probes.get(sample.probe)?.spec);
        Some(self.line(sample.end, Style::new(), &format!("{probe}: {now} (was {before})")))
    }

    /// Asks the judge from time to time; tells what is newly decided.
    fn judge(&mut self, now: Mono) -> Vec<String> {
        if now.since(self.judged) < JUDGE || self.cause.is_none() {
            return Vec::new();
        }
        self.judged = now;
        let Ok(history) = History::replay(&self.events) else { return Vec::new() };
        let mut lines = Vec::new();
        for finding in verdict::judge(&history) {
            let decided = matches!(finding.verdict, Verdict::Upheld | Verdict::Refuted);
            if decided && !self.decided.iter().any(|(id, _)| *id == finding.claim) {
                let style = if finding.verdict == Verdict::Upheld { GOOD } else { BAD };
                let told = format!("{} {}: {}", words::glyph(finding.verdict), finding.says, finding.because);
                lines.push(self.line(now, style, &told));
                self.decided.push((finding.claim, finding.verdict));
            }
        }
        lines
    }

    /// A line that begins with the time since the start, hence never with foreign text.
    fn line(&self, at: Mono, style: Style, foreign: &str) -> String {
        let elapsed = at.since(self.start).as_millis() / 100;
        let time = format!("{:>5}.{} s", elapsed / 10, elapsed % 10);
        format!("{}  {}", paint(DIM, &time), paint(style, foreign))
    }
}

impl Band {
    /// Puts a look into its second. Tells whether an earlier second is complete with that.
    fn push(&mut self, second: u64, look: Look) -> bool {
        if self.seconds.is_empty() {
            self.newest = second;
            self.seconds.push_back(look);
            return false;
        }
        let closed = second > self.newest;
        while self.newest < second {
            self.newest += 1;
            self.seconds.push_back(Look::Nothing);
            if self.seconds.len() > BAND {
                self.seconds.pop_front();
            }
        }
        let back = usize::try_from(self.newest - second.min(self.newest)).unwrap_or(usize::MAX);
        if let Some(at) = self.seconds.len().checked_sub(1 + back) {
            self.seconds[at] = self.seconds[at].max(look);
        }
        closed
    }

    /// What came of the last complete second.
    fn settled(&self) -> Option<Look> {
        let complete = *self.seconds.get(self.seconds.len().checked_sub(2)?)?;
        (complete != Look::Nothing).then_some(complete)
    }

    fn draw(&self, second: u64) -> String {
        let mut out = String::new();
        for column in 0..BAND {
            let back = u64::try_from(BAND - 1 - column).unwrap_or(0);
            let look = second
                .checked_sub(back)
                .and_then(|s| self.newest.checked_sub(s))
                .and_then(|behind| self.seconds.len().checked_sub(1 + usize::try_from(behind).ok()?))
                .and_then(|at| self.seconds.get(at).copied())
                .unwrap_or(Look::Nothing);
            match look {
                Look::Nothing => out.push('·'),
                Look::Good => out.push_str(&paint(GOOD, "▁")),
                Look::Bad => out.push_str(&paint(BAD, "█")),
            }
        }
        out
    }
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
    let safe = text::safe(foreign);
    if style == Style::new() { safe.into_owned() } else { format!("{style}{safe}{style:#}") }
}
