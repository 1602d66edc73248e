//! What one sample says about an expectation.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::event::Phase;
use crate::observer_lag::PATIENCE;
use crate::plan::{Operator, PlannedClaim};
use crate::run_history::History;
use crate::sample::{Failure, Outcome, Sample, Value};
use crate::scenario::Expect;
use crate::steady_state::is_normal;

use super::lost_time;
use super::window::tail;

/// What one sample says about what a claim wants of every sample, or of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Truth {
    /// The sample is as wanted.
    Yes,
    /// The sample is not as wanted.
    No,
    /// The target gave no value to compare with the expectation, and the claim is not about whether it answers: an
    /// application that does not answer has not lost its data. The sample counts neither for nor against the claim, and
    /// is no gap either.
    NoValue,
    /// The sample decides nothing.
    Undecided(Why),
}

/// Why a sample decides nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
    /// The slot has no sample.
    Missing,
    /// It failed, and was still under way as the window ended.
    UnderWay,
    /// The probe could not look.
    Blind,
    /// The observer was starved.
    Starved,
    /// It would be counted against the claim, but the machine was too busy for that.
    Excused,
    /// The probe saw a value of another kind than the claim is about.
    OtherKind,
    /// There was no answer from a source that reports on the value indirectly, so the value itself stays unknown.
    NoAnswer,
}

/// The standard by which a claim judges the samples of its probe.
pub(super) struct Standard<'a, 'h> {
    history: &'h History<'a>,
    expect: &'a Expect,
    /// The claim wants the opposite of `expect`.
    negated: bool,
    data_plane: bool,
    interval: std::time::Duration,
    tail: std::time::Duration,
    baseline: BTreeMap<&'a str, Baseline<'a>>,
    /// The samples of each series that were starved, by their ends.
    starved: BTreeMap<&'a str, Vec<&'a Sample>>,
    /// The times in which each series got no answer, in order.
    silences: BTreeMap<&'a str, Vec<Silence>>,
}

/// Slots in a row for which a series got no answer.
#[derive(Debug)]
struct Silence {
    slots: RangeInclusive<u64>,
    /// Whether the machine was so busy that it may have been silent for so long.
    is_explained: bool,
}

/// What a series showed in the baseline.
#[derive(Debug, Clone, Copy)]
pub(super) enum Baseline<'a> {
    /// One value throughout, first seen in this sample.
    Constant(&'a Value, &'a Sample),
    /// No value.
    Nothing,
    /// Different values.
    Changing(&'a Value, &'a Value),
}

const AS_BEFORE: Expect = Expect::AsBefore(true);
const ANSWERED: Expect = Expect::Answers(true);

impl<'a, 'h> Standard<'a, 'h> {
    /// The standard of a claim.
    pub(super) fn of(history: &'h History<'a>, claim: &'a PlannedClaim) -> Self {
        let plan = history.plan();
        let (expect, negated) = match &claim.operator {
            Operator::Always(e) | Operator::Eventually(e) => (e, false),
            Operator::Never(e) => (e, true),
            Operator::Unchanged => (&AS_BEFORE, false),
            Operator::OutageAtMost(_) => (&ANSWERED, false),
        };
        let probe = &plan.probes[claim.probe];
        let baseline = match expect {
            Expect::AsBefore(_) => history.series(claim.probe).map(|(n, s)| (n, baseline(history, s))).collect(),
            _ => BTreeMap::new(),
        };
        Self {
            history,
            expect,
            negated,
            data_plane: probe.spec.is_data_plane(),
            interval: probe.interval,
            tail: tail(probe),
            baseline,
            starved: history.series(claim.probe).map(|(name, samples)| (name, starved(samples))).collect(),
            silences: history.series(claim.probe).map(|(name, samples)| (name, silences(history, samples))).collect(),
        }
    }

    /// What the series showed in the baseline; `None` if the claim does not compare with it.
    pub(super) fn baseline(&self, series: &str) -> Option<Baseline<'a>> {
        matches!(self.expect, Expect::AsBefore(_))
            .then(|| self.baseline.get(series).copied().unwrap_or(Baseline::Nothing))
    }

    /// What a sample says by this standard.
    pub(super) fn judge(&self, sample: &Sample) -> Truth {
        let truth = match (&sample.outcome, self.expect) {
            (outcome, _) if outcome.had_no_time() => return Truth::Undecided(Why::Starved),
            (Outcome::Unknown(_), _) => return Truth::Undecided(Why::Blind),
            // A timeout proves something only if the observer ran on time, and so would have seen the answer.
            (Outcome::Failed(Failure::Timeout), _) if self.was_hardly_looking(sample) => {
                return Truth::Undecided(Why::Starved);
            }
            (Outcome::Saw(_), Expect::Answers(wanted)) => Some(*wanted),
            (Outcome::Failed(_), Expect::Answers(wanted)) => Some(!wanted),
            (Outcome::Saw(_), Expect::Status(_)) => Some(false),
            (Outcome::Failed(Failure::Status(status)), Expect::Status(wanted)) => Some(status == wanted),
            (Outcome::Failed(_), _) if self.data_plane => return Truth::NoValue,
            (Outcome::Failed(_), _) => return Truth::Undecided(Why::NoAnswer),
            (Outcome::Saw(value), Expect::AsBefore(same)) => match self.baseline.get(sample.series.as_str()) {
                Some(Baseline::Constant(before, _)) => (std::mem::discriminant(value)
                    == std::mem::discriminant(*before))
                .then(|| (value == *before) == *same),
                _ => None,
            },
            (Outcome::Saw(value), expect) => meets(value, expect),
        };
        match truth {
            None => Truth::Undecided(Why::OtherKind),
            Some(met) if met != self.negated => Truth::Yes,
            // Observers and cluster share one machine. When one of them has too little of it, the others have no more.
            Some(_) if is_silence(&sample.outcome) && self.was_hardly_looking(sample) => Truth::Undecided(Why::Starved),
            Some(_) if is_silence(&sample.outcome) && self.machine_was_busy(sample) => Truth::Undecided(Why::Excused),
            Some(_) => Truth::No,
        }
    }

    /// Was the machine too busy while this sample was under way, and may that be why nobody answered for so long?
    fn machine_was_busy(&self, sample: &Sample) -> bool {
        let silences = self.silences.get(sample.series.as_str()).map_or(&[][..], Vec::as_slice);
        let before = silences.partition_point(|silence| *silence.slots.end() < sample.slot);
        self.history.was_starved(sample.start, sample.end)
            && silences.get(before).is_some_and(|silence| silence.is_explained)
    }

    /// Was the observer so late, or so starved, that it might not have seen an answer?
    fn was_hardly_looking(&self, sample: &Sample) -> bool {
        sample.start > sample.due + self.interval || self.is_beside_a_starved_one(sample)
    }

    /// Was a sample of the same series starved at any time while this one was under way?
    fn is_beside_a_starved_one(&self, sample: &Sample) -> bool {
        let starved = self.starved.get(sample.series.as_str()).map_or(&[][..], Vec::as_slice);
        let later = starved.partition_point(|other| other.end < sample.start);
        starved[later..].iter().any(|other| other.start <= sample.end)
    }

    /// Whether the outcome came so long after the sample was due that nobody looked during the time of its slot. An
    /// observer that is kept from its work has more patience before it says that there was no answer, and there was none
    /// in all that time. What came so late may have been there for long, or only just.
    pub(super) fn is_late(&self, sample: &Sample) -> bool {
        let patience = if sample.outcome == Outcome::Failed(Failure::Timeout) { PATIENCE } else { 1 };
        sample.end > sample.due + patience * self.tail
    }
}

fn starved<'a>(samples: &[&'a Sample]) -> Vec<&'a Sample> {
    let mut found: Vec<&Sample> = samples.iter().filter(|sample| sample.outcome.is_starved()).copied().collect();
    found.sort_by_key(|sample| sample.end);
    found
}

/// Whether somebody did not answer in time: whoever was asked, or, as a gateway's 504 says, somebody behind it. That
/// there was no answer is certain then, since the 504 was seen, but the reason may be a busy machine all the same.
fn is_silence(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Failed(Failure::Timeout | Failure::Status(504)))
}

/// The times in which nobody answered anything in time.
fn silences(history: &History, samples: &[&Sample]) -> Vec<Silence> {
    let answered = |sample: &Sample| !matches!(sample.outcome, Outcome::Unknown(_)) && !is_silence(&sample.outcome);
    let in_a_row = samples.chunk_by(|one, next| answered(one) == answered(next));
    let silence = |row: &[&Sample]| {
        let (first, last) = (row.first().filter(|sample| !answered(sample))?, row.last()?);
        let (from, to) = (row.iter().map(|s| s.start).min()?, row.iter().map(|s| s.end).max()?);
        // What was lost takes a look at all samples of the run, so it is asked for only if there was a spell at all.
        let is_explained = history.was_starved(from, to) && lost_time::explains(history, from, to);
        Some(Silence { slots: first.slot..=last.slot, is_explained })
    };
    in_a_row.filter_map(silence).collect()
}

/// Whether the operator compares samples with the baseline.
pub(super) fn compares(operator: &Operator) -> bool {
    match operator {
        Operator::Always(e) | Operator::Never(e) | Operator::Eventually(e) => matches!(e, Expect::AsBefore(_)),
        Operator::Unchanged => true,
        Operator::OutageAtMost(_) => false,
    }
}

/// Whether the value is as expected; `None` if it is of another kind than the expectation.
fn meets(value: &Value, expect: &Expect) -> Option<bool> {
    match (expect, value) {
        (Expect::Is(text), Value::Text(seen)) => Some(seen == text),
        (Expect::Equals(n), Value::Count(seen)) => Some(seen == n),
        (Expect::AtLeast(n), Value::Count(seen)) => Some(seen >= n),
        (Expect::AtMost(n), Value::Count(seen)) => Some(seen <= n),
        (Expect::Has(item), Value::Set(seen)) => Some(seen.contains(item)),
        (Expect::Lacks(item), Value::Set(seen)) => Some(!seen.contains(item)),
        (
            Expect::Is(_)
            | Expect::Equals(_)
            | Expect::AtLeast(_)
            | Expect::AtMost(_)
            | Expect::Has(_)
            | Expect::Lacks(_)
            | Expect::Answers(_)
            | Expect::Status(_)
            | Expect::AsBefore(_),
            _,
        ) => None,
    }
}

/// The value that a series had in the baseline: constant if every sample saw the same.
fn baseline<'a>(history: &History<'a>, samples: &[&'a Sample]) -> Baseline<'a> {
    let Some(span) = history.span(Phase::Baseline) else { return Baseline::Nothing };
    let mut known = Baseline::Nothing;
    for &sample in samples.iter().filter(|s| s.start >= span.start && s.end <= span.until) {
        let Outcome::Saw(value) = &sample.outcome else { continue };
        match known {
            Baseline::Nothing => known = Baseline::Constant(value, sample),
            Baseline::Constant(before, _) if before != value => return Baseline::Changing(before, value),
            Baseline::Constant(..) | Baseline::Changing(..) => {}
        }
    }
    known
}

/// What kept the baseline from being a steady state, as far as its samples tell: the series whose last sample was not
/// normal.
pub(super) fn unsteady(history: &History) -> Vec<String> {
    let Some(span) = history.span(Phase::Baseline) else { return Vec::new() };
    let mut odd = Vec::new();
    for (index, probe) in history.plan().probes.iter().enumerate() {
        for (name, samples) in history.series(index) {
            let last = samples.iter().rev().find(|s| s.start >= span.start && s.end <= span.until);
            let seen = match last.map(|s| &s.outcome) {
                Some(outcome) if is_normal(&probe.spec, outcome) => continue,
                Some(outcome) => super::words::outcome(outcome),
                None => "no samples".to_owned(),
            };
            odd.push(format!("{}: {seen}", super::words::probe(&probe.spec, name)));
        }
    }
    odd
}
