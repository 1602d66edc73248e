//! Explains what the series of a claim show: the reason in words, what was observed and when, and the samples that
//! prove it.

use std::time::Duration;

use crate::clock::Mono;
use crate::plan::{Edge, Operator, PlannedClaim, PlannedProbe, SLACK};
use crate::run_history::History;
use crate::sample::{Outcome, Sample, Value};
use crate::scenario::Expect;

use super::budget::Budget;
use super::operator::Series;
use super::outage::{Outage, outages, worked};
use super::sample_truth::{Baseline, Why};
use super::window::Resolved;
use super::{Evidence, Reason, Verdict, lost_time, words};

/// The maximum number of samples shown, unless more series decided.
const SHOWN: usize = 5;

/// The merged result of the series of one claim: the gravest verdict, and among its reasons the last in the order of
/// [`Reason`].
#[derive(Debug)]
pub(super) struct Merged {
    pub verdict: Verdict,
    pub reason: Reason,
}

/// Merges series: each of them must satisfy the claim.
pub(super) fn merge(series: &[Series]) -> Merged {
    let gravest = series.iter().map(|s| (s.verdict, s.reason)).max();
    let (verdict, reason) = gravest.unwrap_or((Verdict::Inconclusive, Reason::NoSamples));
    Merged { verdict, reason }
}

/// Explains the result of one claim.
pub(super) struct Teller<'h, 'a> {
    pub history: &'h History<'a>,
    pub claim: &'a PlannedClaim,
    pub window: Resolved,
    pub series: Vec<Series<'h, 'a>>,
    pub merged: Merged,
}

impl<'h, 'a> Teller<'h, 'a> {
    /// The series that decided the verdict. If several show the same, it is the first to do so (for an `eventually`:
    /// the last).
    fn decisive(&self) -> Option<&Series<'h, 'a>> {
        let same = self.series.iter().filter(|s| (s.verdict, s.reason) == (self.merged.verdict, self.merged.reason));
        match self.merged.reason {
            Reason::Happened => same.max_by_key(|s| deciding(s).map(|d| d.end)),
            Reason::Counterexample => same.min_by_key(|s| deciding(s).map(|d| d.end)),
            _ => {
                let mut same = same;
                same.next()
            }
        }
    }

    fn total(&self, of: impl Fn(&Series) -> usize) -> u64 {
        self.series.iter().map(|s| of(s) as u64).sum()
    }

    fn place(&self, series: &Series) -> String {
        if series.name.is_empty() { String::new() } else { format!(" from {}", series.name) }
    }

    /// The reason, with figures.
    pub fn because(&self) -> String {
        let (yes, no) = (self.total(|s| s.yes), self.total(|s| s.no));
        let cause = words::cause(self.claim.window.phase);
        let Some(series) = self.decisive() else { return "the probe has no series".into() };
        let place = self.place(series);
        let weighed = matches!(self.merged.reason, Reason::Held | Reason::Counterexample | Reason::Indistinct);
        if let (Operator::OutageAtMost(budget), true) = (&self.claim.operator, weighed) {
            return self.against_budget(*budget);
        }
        match self.merged.reason {
            Reason::Held => {
                let (all, mute) = (words::count(yes, "sample"), self.total(|s| s.no_value));
                let unanswered = format!(", {} more had no answer", words::count(mute, "sample"));
                let unanswered = if mute > 0 { &*unanswered } else { "" };
                format!("all {all} in the window agree{}{unanswered}", self.sharpness())
            }
            Reason::Happened => match (self.claim.window.to, self.seen_at()) {
                (Edge::After(deadline), Some((_, latest))) if latest <= deadline => format!(
                    "it happened {} after {cause} at the latest{place}, within the {} allowed",
                    words::seconds(latest),
                    words::seconds(deadline)
                ),
                // What is allowed counts from the end of the cause, which may take seconds.
                (Edge::After(deadline), Some((_, latest))) => format!(
                    "it happened {} after {cause} began at the latest{place}, within {} of its end",
                    words::seconds(latest),
                    words::seconds(deadline)
                ),
                (_, Some((_, latest))) => {
                    format!("it happened {} after {cause} at the latest{place}", words::seconds(latest))
                }
                (_, None) => "it happened".into(),
            },
            Reason::Counterexample => {
                let saw = deciding(series).map_or_else(String::new, |s| words::outcome(&s.outcome));
                let at = self.sample_at(series).map_or_else(String::new, |(a, b)| words::range(a, b));
                format!(
                    "{at} after {cause} it was {saw}{place}; {} against it, {yes} for it",
                    words::count(no, "sample")
                )
            }
            Reason::NeverHappened => {
                let by = match self.claim.window.to {
                    Edge::After(d) => format!("within {} of {cause}", words::seconds(d)),
                    Edge::CauseStart | Edge::PhaseStart | Edge::PhaseEnd => "before the phase ended".into(),
                };
                let against = words::count(no, "sample");
                format!("it did not happen {by}{place}: {against} in the window against it{}", self.sharpness())
            }
            Reason::NoSamples if self.window.from > self.window.to => format!(
                "the window is empty: it would begin {} after {cause} and be over at {}; what caused it took {}",
                words::seconds(self.since(self.window.from)),
                words::seconds(self.since(self.window.to)),
                words::seconds(self.window.cause.end.since(self.window.cause.start))
            ),
            Reason::NoSamples if series.no_value > 0 => {
                format!("none of {} gave an answer{place}", words::count(series.no_value as u64, "sample"))
            }
            Reason::NoSamples => format!("no sample was taken in the window{place}"),
            Reason::Starved if series.excused > 0 => format!(
                "{} unanswered{place} while the machine was too busy: its processors were busy elsewhere, or observers had no time",
                words::count(series.excused as u64, "sample")
            ),
            Reason::Gaps | Reason::Starved => {
                let why = match series.why {
                    Some(Why::Starved) => "the observer was starved",
                    Some(Why::Excused) => "the machine was too busy",
                    Some(Why::UnderWay) => "it failed, and was still under way as the window ended",
                    Some(Why::Blind) => "the probe could not look",
                    Some(Why::OtherKind) => "what the probe sees is of another kind than the claim speaks of",
                    Some(Why::NoAnswer) => "there was no answer",
                    Some(Why::Missing) | None => "no sample",
                };
                let slots = words::count(series.coverage.undecided, "slot");
                let decided = words::count((series.yes + series.no) as u64, "sample");
                if let (Some(Budget::Unseen), Operator::OutageAtMost(budget)) = (series.budget, &self.claim.operator) {
                    let budget = words::seconds(*budget);
                    return format!(
                        "{slots} undecided{place} ({why}), beside {decided} that saw something: had all of those slots been \
                         failures, it would have been out for longer than the {budget} that are allowed"
                    );
                }
                let blind = words::seconds(self.apart(series));
                let allowed = words::seconds(self.probe().resolution);
                format!(
                    "{slots} of the window undecided{place} ({why}), beside {decided} that saw something: nothing was seen for \
                     {blind}, and {allowed} may go unseen"
                )
            }
            Reason::NoBaselineValue => match series.baseline {
                Some(Baseline::Changing(a, b)) => {
                    format!("in the baseline it changed{place}: {} and {}", words::value(a), words::value(b))
                }
                _ => format!("in the baseline nothing was seen to compare with{place}"),
            },
            Reason::Interrupted => match self.history.interrupted() {
                Some((_, why)) => format!("the run was cut short before the window was over: {why}"),
                None => "the phase ended before the window did".into(),
            },
            // Decided before any series is evaluated, or told by `against_budget`.
            Reason::NoSteadyState
            | Reason::NoEffect
            | Reason::EffectInBaseline
            | Reason::EffectNotHeld
            | Reason::LastedTooLong
            | Reason::NotRemedied
            | Reason::NotUndone
            | Reason::Disturbed
            | Reason::Indistinct
            | Reason::LacksCapability => String::new(),
        }
    }

    /// The outage that stands for all series, if there is one: that of the decisive series, or the longest if all are
    /// within the budget.
    fn worst_outage(&self) -> Option<String> {
        let decisive = self.decisive()?;
        let kept = self.series.iter().filter_map(|series| match series.budget? {
            Budget::Kept(outage) => Some((series, outage?)),
            _ => None,
        });
        let (series, outage) = match decisive.budget? {
            Budget::Exceeded(outage) | Budget::Uncertain(outage) => (decisive, outage),
            Budget::Kept(_) => kept.max_by_key(|(_, outage)| outage.duration().1)?,
            Budget::Unseen => return None,
        };
        Some(format!("out for {}{}", lasted(&outage), self.place(series)))
    }

    /// How the outages compare with the budget, in words.
    fn against_budget(&self, budget: Duration) -> String {
        let out = self.worst_outage().unwrap_or_else(|| "never out".into());
        let uncertain = self.decisive().and_then(|series| match series.budget {
            Some(Budget::Uncertain(outage)) if self.merged.reason == Reason::Indistinct => Some(outage),
            _ => None,
        });
        let doubt = match uncertain.map(|outage| outage.duration().0 > budget) {
            None => "",
            Some(false) => ": whether it was longer can't be told",
            Some(true) => ", unless it was up while nobody could look or the machine was too busy",
        };
        format!("it was {out}, and {} are allowed{doubt}", words::seconds(budget))
    }

    /// Why a refutation does not count, in words, if the machine lost too much time for it.
    pub fn excuse(&self) -> Option<String> {
        let series = self.decisive().filter(|_| self.merged.verdict == Verdict::Refuted)?;
        let known = match (series.budget, deciding(series)) {
            (Some(Budget::Exceeded(outage)), _) => outage.ended.0,
            (_, Some(sample)) => sample.end,
            (_, None) => self.window.to,
        };
        let lost = lost_time::excuses(self.history, self.claim, &self.window, known)?;
        Some(format!(
            "but until then the machine had lost {} (its processors were busy elsewhere, observers had no time, or the API did \
             not answer), and windows allow a busy machine only {}",
            words::seconds(lost),
            words::seconds(SLACK)
        ))
    }

    fn probe(&self) -> &'a PlannedProbe {
        &self.history.plan().probes[self.claim.probe]
    }

    fn apart(&self, series: &Series) -> Duration {
        series.coverage.apart(self.probe().interval)
    }

    /// The longest time from one sample that saw something to the next, if the verdict rests on all samples.
    pub fn unseen(&self) -> Option<Duration> {
        let rests_on_all = matches!(self.merged.reason, Reason::Held | Reason::NeverHappened);
        self.series.iter().map(|s| self.apart(s)).max().filter(|_| rests_on_all)
    }

    fn sharpness(&self) -> String {
        self.unseen().map_or_else(String::new, |d| format!(", at most {} apart", words::seconds(d)))
    }

    /// What was observed, with error bounds.
    pub fn observed(&self) -> String {
        let cause = words::cause(self.claim.window.phase);
        let (yes, no) = (self.total(|s| s.yes), self.total(|s| s.no));
        if matches!(self.claim.operator, Operator::OutageAtMost(_)) {
            let answered = format!("{yes} of {} answered", words::count(yes + no, "request"));
            return match self.worst_outage() {
                Some(out) => format!("{out}; {answered}"),
                None if no > 0 => format!("{answered}; those that were not are of an outage that began before"),
                None => answered,
            };
        }
        let mut told = match (self.merged.reason, self.decisive()) {
            (Reason::Happened, Some(series)) => {
                let saw = deciding(series).map_or_else(String::new, |s| words::outcome(&s.outcome));
                let at = self.seen_at().map_or_else(String::new, |(a, b)| words::range(a, b));
                format!("{saw} first seen {at} after {cause}{}", self.place(series))
            }
            (Reason::Counterexample, Some(series)) => {
                let at = self.seen_at().map_or_else(String::new, |(a, b)| words::range(a, b));
                let all = words::count(yes + no, "sample");
                format!("{yes} of {all} agree; contradicted first {at} after {cause}{}", self.place(series))
            }
            (Reason::NeverHappened, Some(series)) => {
                let last = series.samples.iter().rev().find(|s| s.start >= self.window.from && s.end <= self.window.to);
                let last = last.map_or_else(String::new, |s| format!(", at last {}", words::outcome(&s.outcome)));
                let late = self.late().map_or_else(String::new, |d| {
                    format!("; it was seen only {} after {cause}, after the window", words::seconds(d))
                });
                format!("none of {} agrees{last}{late}", words::count(no, "sample"))
            }
            _ => format!("{yes} of {} agree{}", words::count(yes + no, "sample"), self.numbers()),
        };
        if let Some((series, outage)) = self.longest_outage() {
            told += &format!("; longest outage {}", tell(&outage, &self.window, series));
        }
        told
    }

    /// The numbers seen in the window, if the claim only bounds them.
    fn numbers(&self) -> String {
        let Operator::Always(Expect::AtLeast(_) | Expect::AtMost(_)) = self.claim.operator else {
            return String::new();
        };
        let samples = self.series.iter().flat_map(|series| series.samples);
        let within = samples.filter(|s| s.start >= self.window.from && s.end <= self.window.to);
        let (least, most) = within.fold((u64::MAX, 0), |(least, most), sample| match sample.outcome {
            Outcome::Saw(Value::Count(n)) => (least.min(n), most.max(n)),
            _ => (least, most),
        });
        match least {
            _ if least > most => String::new(),
            _ if least == most => format!(" ({most})"),
            _ => format!(" ({least}–{most})"),
        }
    }

    /// When the deciding observation was made: not before the last sample that still saw otherwise, and not after the
    /// sample that saw it.
    pub fn seen_at(&self) -> Option<(Duration, Duration)> {
        let series = self.decisive()?;
        let index = series.deciding?;
        let sample = series.samples[index];
        let before = series.samples[..index].iter().rev().find(|s| !matches!(s.outcome, Outcome::Unknown(_)));
        // If there is no earlier sample, the time at which it began is unknown, so the deciding sample's own start
        // counts.
        let earliest = before.map_or(sample.start, |s| s.start).min(sample.start);
        let cause = self.window.cause;
        Some((earliest.since(cause.end), sample.end.since(cause.start)))
    }

    fn sample_at(&self, series: &Series) -> Option<(Duration, Duration)> {
        let sample = deciding(series)?;
        Some((sample.start.since(self.window.cause.end), sample.end.since(self.window.cause.start)))
    }

    /// When a refuted `eventually` was seen after all, after its window.
    fn late(&self) -> Option<Duration> {
        let open = Resolved { from: self.window.to, to: self.window.phase_until, closed: false, ..self.window };
        let after = super::operator::evaluate(self.history, self.claim, &open);
        let ends: Option<Vec<Mono>> = after.iter().map(|s| deciding(s).map(|d| d.end)).collect();
        ends?.into_iter().max().map(|end| end.since(self.window.cause.start))
    }

    fn since(&self, at: Mono) -> Duration {
        at.since(self.window.cause.start)
    }

    /// The longest outage that any series of requests measured up to the end of the claim's phase. Outages that were
    /// over before the cause do not count.
    fn longest_outage(&self) -> Option<(&'a str, Outage)> {
        let expects_answers = match &self.claim.operator {
            Operator::Always(e) | Operator::Never(e) | Operator::Eventually(e) => matches!(e, Expect::Answers(_)),
            Operator::Unchanged => false,
            Operator::OutageAtMost(_) => true,
        };
        let probe = &self.history.plan().probes[self.claim.probe];
        if !(expects_answers && probe.spec.measures_outages()) {
            return None;
        }
        let of = |series: &Series<'h, 'a>| {
            let known = series.samples.iter().copied().filter(|s| s.end <= self.window.phase_until);
            let measured = outages(known, worked);
            let ours = measured.into_iter().filter(|o| o.ended.1.is_none_or(|end| end >= self.window.cause.start));
            let name = series.name;
            ours.map(move |o| (name, o)).collect::<Vec<_>>()
        };
        self.series.iter().flat_map(of).max_by_key(|(_, o)| (o.duration().0, o.began.1))
    }

    /// The deciding samples, each with the baseline sample that it was compared with, followed by their neighbours.
    pub fn evidence(&self) -> Vec<Evidence> {
        let started = self.history.started();
        let show = |name: &str, sample: &Sample| Evidence {
            series: name.to_owned(),
            slot: sample.slot,
            from: sample.start.since(started),
            to: sample.end.since(started),
            outcome: words::outcome(&sample.outcome),
        };
        let mut shown = Vec::new();
        let mut neighbours = Vec::new();
        let decisive =
            self.series.iter().filter(|s| (s.verdict, s.reason) == (self.merged.verdict, self.merged.reason));
        let mut decisive: Vec<_> = decisive.filter_map(|s| s.deciding.map(|index| (s, index))).collect();
        decisive.sort_by_key(|(s, index)| (s.samples[*index].end, s.name));
        for (series, index) in decisive {
            shown.push(show(series.name, series.samples[index]));
            if let Some(Baseline::Constant(_, sample)) = series.baseline {
                shown.push(show(series.name, sample));
            }
            let around = [index.checked_sub(1), Some(index + 1)].into_iter().flatten();
            neighbours.extend(around.filter_map(|i| series.samples.get(i)).map(|s| show(series.name, s)));
        }
        // An `eventually` rests on one sample of each series; for an `always`, one sample is enough.
        if self.merged.reason != Reason::Happened {
            shown.truncate(SHOWN);
        }
        for neighbour in neighbours {
            if shown.len() < SHOWN && !shown.contains(&neighbour) {
                shown.push(neighbour);
            }
        }
        shown
    }
}

fn deciding<'a>(series: &Series<'_, 'a>) -> Option<&'a Sample> {
    series.deciding.map(|index| series.samples[index])
}

fn lasted(outage: &Outage) -> String {
    match outage.duration() {
        (shortest, Some(longest)) => words::range(shortest, longest),
        (shortest, None) => format!("at least {}", words::at_least(shortest)),
    }
}

fn tell(outage: &Outage, window: &Resolved, series: &str) -> String {
    let place = if series.is_empty() { String::new() } else { format!(" from {series}") };
    let lasted = lasted(outage);
    let cause = window.cause.start;
    let began = outage.began.0.map_or_else(String::new, |from| {
        format!(", begun {} after the cause", words::range(from.since(window.cause.end), outage.began.1.since(cause)))
    });
    format!("{lasted}{place} ({}{began})", words::count(outage.failures as u64, "failure"))
}
