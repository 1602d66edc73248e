//! Recordings with one change each: the verdicts must move as that change demands, and no further.
//!
//! Recordings are the synthetic ones that the reports are tested with, and those of real runs in `tests/recordings/`
//! (`.jsonl`, one event a line). A claim that no change can refute would say nothing: each must be refutable.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kchaos::clock::Mono;
use kchaos::event::{Checkpoint, Event, EventKind, Phase};
use kchaos::plan::{Edge, Operator, Plan, PlannedClaim};
use kchaos::sample::{Failure, Outcome, Sample, Value};
use kchaos::scenario::Expect;
use kchaos::verdict::{Finding, Reason, Verdict};

use super::synthetic::{Story, record};
use super::world::findings;

fn recordings() -> Vec<(String, Vec<Event>)> {
    let mut all: Vec<(String, Vec<Event>)> =
        [Story::Upheld, Story::Refuted].map(|s| (format!("{s:?}"), record(s))).into_iter().collect();
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings");
    let synthetic = all.len();
    for entry in std::fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let events =
            text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{}: {e}: {l}", path.display())));
        all.push((path.file_stem().unwrap().to_string_lossy().into_owned(), events.collect()));
    }
    assert!(all.len() > synthetic, "there is no recording of a real run");
    all
}

fn plan(events: &[Event]) -> &Plan {
    let EventKind::Started { plan, .. } = &events[0].kind else { panic!("a recording begins with its start") };
    plan
}

fn samples(events: &[Event]) -> impl Iterator<Item = &Sample> {
    events.iter().filter_map(|e| if let EventKind::Sampled(s) = &e.kind { Some(s) } else { None })
}

fn edit(events: &[Event], mut edit: impl FnMut(&mut Sample) -> bool) -> Vec<Event> {
    let mut out = Vec::with_capacity(events.len());
    for event in events {
        let mut event = event.clone();
        if let EventKind::Sampled(sample) = &mut event.kind
            && !edit(sample)
        {
            continue;
        }
        out.push(event);
    }
    out
}

/// The window of a claim, derived from the events without the judge.
fn window(events: &[Event], claim: &PlannedClaim) -> (Mono, Mono) {
    let first = |want: &dyn Fn(&EventKind) -> bool| events.iter().find(|e| want(&e.kind)).map(|e| e.at);
    let last = |want: &dyn Fn(&EventKind) -> bool| events.iter().rev().find(|e| want(&e.kind)).map(|e| e.at);
    let phase = |p: Phase| first(&|k| *k == EventKind::Phase(p)).unwrap();
    let witnesses = |c: Checkpoint| {
        events.iter().filter_map(move |e| match &e.kind {
            EventKind::Witnessed(p) if p.checkpoint == c => Some(&p.witnesses),
            _ => None,
        })
    };
    let (cause, start, end) = match claim.window.phase {
        Phase::Baseline => {
            let at = phase(Phase::Baseline);
            ((at, at), at, phase(Phase::Fault))
        }
        Phase::Fault => {
            let from = first(&|k| matches!(k, EventKind::Injecting { .. })).unwrap();
            let to = last(&|k| matches!(k, EventKind::Injected { .. })).unwrap();
            let proven = witnesses(Checkpoint::Injected).flatten().map(|w| w.to).max().unwrap();
            let looked = witnesses(Checkpoint::WindowEnd).flatten().map(|w| w.from).min().unwrap();
            ((from, to), proven, looked)
        }
        _ => {
            let from = first(&|k| matches!(k, EventKind::Undoing { .. })).unwrap();
            let to = last(&|k| matches!(k, EventKind::Undone { .. })).unwrap();
            ((from, to), to, phase(Phase::Collect))
        }
    };
    let once = matches!(claim.operator, Operator::Eventually(_));
    let from = match claim.window.from {
        Edge::After(d) if once => cause.0 + d,
        Edge::After(d) => start.max(cause.1 + d),
        _ => start,
    };
    let to = match claim.window.to {
        Edge::After(d) => end.min(if once { cause.1 + d } else { cause.0 + d }),
        _ => end,
    };
    (from, to)
}

fn baseline(events: &[Event], probe: usize, series: &str) -> Option<Value> {
    samples(events).find_map(|s| match &s.outcome {
        Outcome::Saw(v) if s.probe == probe && s.series == series => Some(v.clone()),
        _ => None,
    })
}

/// An outcome that satisfies the claim, or contradicts it.
fn outcome(claim: &PlannedClaim, wanted: bool, before: Option<&Value>) -> Outcome {
    let (expect, met) = match &claim.operator {
        Operator::Always(e) | Operator::Eventually(e) => (e.clone(), wanted),
        Operator::Never(e) => (e.clone(), !wanted),
        Operator::Unchanged => (Expect::AsBefore(true), wanted),
        Operator::OutageAtMost(_) => unreachable!("no recording has one"),
    };
    let set = |item: Option<String>| Value::Set(item.into_iter().collect::<BTreeSet<_>>());
    Outcome::Saw(match expect {
        Expect::Answers(yes) if yes == met => Value::Text("answer".into()),
        Expect::Answers(_) => return Outcome::Failed(Failure::Refused),
        Expect::Status(status) => return Outcome::Failed(Failure::Status(if met { status } else { 500 })),
        Expect::Is(text) => Value::Text(if met { text } else { format!("not {text}") }),
        Expect::Equals(n) | Expect::AtMost(n) => Value::Count(if met { n } else { n + 1 }),
        Expect::AtLeast(n) => Value::Count(if met { n } else { n - 1 }),
        Expect::Has(item) => set(met.then_some(item)),
        Expect::Lacks(item) => set((!met).then_some(item)),
        Expect::AsBefore(same) => match before.expect("the baseline has a value") {
            value if same == met => value.clone(),
            Value::Text(t) => Value::Text(format!("not {t}")),
            Value::Count(n) => Value::Count(n + 1),
            Value::Set(_) => set(Some("something else".to_owned())),
        },
    })
}

/// How many changes were made, and which verdicts did not move as they had to.
#[derive(Default)]
struct Score {
    applied: u32,
    wrong: Vec<String>,
}

impl Score {
    fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        self.applied += 1;
        if !holds {
            self.wrong.push(what());
        }
    }
}

/// Slots of the chosen sample's series, so many of the window in a row, the chosen one among them.
fn in_a_row(window: &[Sample], chosen: &Sample, count: usize) -> Vec<u64> {
    let slots: Vec<u64> = window.iter().filter(|s| s.series == chosen.series).map(|s| s.slot).collect();
    let at = slots.iter().position(|slot| *slot == chosen.slot).unwrap();
    let first = at.min(slots.len().saturating_sub(count));
    slots.into_iter().skip(first).take(count).collect()
}

/// Applies every change to one claim that the recording decides.
fn mutate(name: &str, events: &[Event], index: usize, original: &Finding, score: &mut Score) {
    let claim = plan(events).claims[index].clone();
    let (from, to) = window(events, &claim);
    let ours = |s: &Sample| s.probe == claim.probe;
    let inside = |s: &Sample| ours(s) && s.due >= from && s.end <= to;
    let once = matches!(claim.operator, Operator::Eventually(_));
    let judged = |events: &[Event]| findings(events).remove(index);
    let value = |s: &Sample| baseline(events, s.probe, &s.series);
    let here = format!("{name}: {}", claim.id);
    let set = |wanted: bool, which: &dyn Fn(&Sample) -> bool| {
        edit(events, |s| {
            if which(s) {
                s.outcome = outcome(&claim, wanted, value(s).as_ref());
            }
            true
        })
    };
    let mut expect = |what: &str, events: &[Event], holds: &dyn Fn(&Finding) -> bool| {
        let found = judged(events);
        score.check(holds(&found), || {
            format!("{here}: {what}: {:?} → {:?} ({})", original.verdict, found.verdict, found.because)
        });
    };
    let inconclusive = |f: &Finding| f.verdict == Verdict::Inconclusive;
    let poorer = |f: &Finding| f.verdict == original.verdict || f.verdict == Verdict::Inconclusive;

    // All as wanted, and none as wanted: every claim can be upheld, and refuted.
    let good = set(true, &inside);
    expect("all as wanted", &good, &|f| f.verdict == Verdict::Upheld);
    // A phase ends as soon as there is nothing left to wait for. A deadline that was never reached is replaced by the
    // end of the phase.
    let mut none = set(false, &inside);
    let unreached = judged(&none).reason == Reason::Interrupted;
    if let EventKind::Started { plan, .. } = &mut none[0].kind
        && unreached
    {
        plan.claims[index].window.to = Edge::PhaseEnd;
    }
    expect("none as wanted", &none, &|f| f.verdict == Verdict::Refuted);

    let window_samples: Vec<Sample> = samples(events).filter(|s| inside(s)).cloned().collect();
    assert!(!window_samples.is_empty(), "{here}: no samples");
    let stride = (window_samples.len() / 40).max(1);
    let probe = &plan(events).probes[claim.probe];
    let more_than_may_be_lost = usize::try_from(probe.resolution.as_micros() / probe.interval.as_micros()).unwrap();
    for chosen in window_samples.iter().step_by(stride) {
        let this = |s: &Sample| s.probe == chosen.probe && s.series == chosen.series && s.slot == chosen.slot;
        // This one against all others.
        let others = |s: &Sample| inside(s) && !this(s);
        if once {
            let alone = edit(&set(false, &inside), |s| {
                if this(s) {
                    s.outcome = outcome(&claim, true, value(s).as_ref());
                }
                true
            });
            let several = window_samples.iter().any(|s| s.series != chosen.series);
            expect("one as wanted", &alone, &|f| (f.verdict == Verdict::Upheld) != several);
        } else {
            let flipped = edit(&good, |s| {
                if this(s) {
                    s.outcome = outcome(&claim, false, value(s).as_ref());
                }
                true
            });
            expect("one contradiction", &flipped, &|f| {
                let named = f.evidence.first().is_some_and(|e| e.series == chosen.series && e.slot == chosen.slot);
                f.verdict == Verdict::Refuted && f.reason == Reason::Counterexample && named
            });
            let lost = in_a_row(&window_samples, chosen, more_than_may_be_lost);
            let dropped =
                edit(&good, |s| !(s.probe == chosen.probe && s.series == chosen.series && lost.contains(&s.slot)));
            expect("more dropped than may be lost", &dropped, &inconclusive);
        }
        let unknown = edit(events, |s| {
            if this(s) {
                s.outcome = Outcome::Unknown("blind".into());
            }
            true
        });
        expect("one unknown", &unknown, &poorer);
        expect("one dropped", &edit(events, |s| !this(s)), &poorer);
        expect("all others dropped", &edit(events, |s| !others(s)), &poorer);
    }
    expect("all dropped", &edit(events, |s| !ours(s)), &inconclusive);

    // Taken so late that nobody looked when the slots were due.
    let late = probe.interval + probe.timeout + Duration::from_millis(1);
    let shifted = edit(events, |s| {
        if ours(s) {
            (s.start, s.end) = (s.start + late, s.end + late);
        }
        true
    });
    let needs_all = matches!(original.reason, Reason::Held | Reason::NeverHappened);
    expect("all late", &shifted, &|f| poorer(f) && (!needs_all || inconclusive(f)));

    // Proofs.
    if claim.window.phase != Phase::Baseline {
        for checkpoint in [Checkpoint::Baseline, Checkpoint::Injected, Checkpoint::WindowEnd, Checkpoint::Undone] {
            if checkpoint == Checkpoint::Undone && claim.window.phase == Phase::Fault {
                continue;
            }
            let is = |e: &Event| matches!(&e.kind, EventKind::Witnessed(p) if p.checkpoint == checkpoint);
            let deleted: Vec<Event> = events.iter().filter(|e| !is(e)).cloned().collect();
            expect("a proof deleted", &deleted, &inconclusive);
            let change = |change: &dyn Fn(&mut kchaos::event::Witness)| {
                let mut events = events.to_vec();
                for e in &mut events {
                    if let EventKind::Witnessed(p) = &mut e.kind
                        && p.checkpoint == checkpoint
                    {
                        p.witnesses.iter_mut().take(1).for_each(change);
                    }
                }
                events
            };
            expect("a witness turned", &change(&|w| w.effect = w.effect.map(|e| !e)), &inconclusive);
            expect("a witness blinded", &change(&|w| w.effect = None), &inconclusive);
            // Looks before the fault are moved to after it, the others to before it.
            let away = Duration::from_secs(3_600);
            let moved = change(&|w| {
                (w.from, w.to) = if checkpoint == Checkpoint::Baseline {
                    (w.from + away, w.to + away)
                } else {
                    (w.from - away, w.to - away)
                };
            });
            expect("a proof moved", &moved, &inconclusive);
        }
    }

    // What must not matter.
    let phase_of_values = |s: &Sample| s.start < from && !matches!(claim.window.phase, Phase::Baseline);
    let elsewhere = edit(events, |s| {
        if !ours(s) || (s.start > to && !phase_of_values(s)) {
            s.outcome = Outcome::Failed(Failure::Reset);
        }
        true
    });
    expect("other samples", &elsewhere, &|f| (f.verdict, f.reason) == (original.verdict, original.reason));
    let mut shuffled = events.to_vec();
    shuffled.sort_by_key(|e| e.at.0.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(13));
    shuffled.extend(events.iter().step_by(7).cloned());
    expect("records shuffled and repeated", &shuffled, &|f| f == original);
}

#[test]
fn every_change_of_a_recording_moves_the_verdicts_as_it_must() {
    let mut score = Score::default();
    for (name, events) in recordings() {
        let original = findings(&events);
        for (index, finding) in original.iter().enumerate() {
            // Claims that the recording could not decide have no verdict to move from.
            if matches!(finding.verdict, Verdict::Upheld | Verdict::Refuted) {
                mutate(&name, &events, index, finding, &mut score);
            }
        }
        assert!(original.iter().any(|f| f.verdict == Verdict::Upheld), "{name}: decides nothing");
    }
    assert!(score.applied > 500, "only {} changes", score.applied);
    assert!(score.wrong.is_empty(), "{} of {}:\n{}", score.wrong.len(), score.applied, score.wrong.join("\n"));
}

#[test]
fn a_recording_cut_off_anywhere_never_says_what_it_takes_back() {
    for (name, events) in recordings() {
        let last = findings(&events);
        // Cut after every record that is not a sample, and after some samples.
        let cuts = (1..events.len())
            .filter(|n| !matches!(events[n - 1].kind, EventKind::Sampled(_)) || n % (events.len() / 100).max(1) == 0);
        for n in cuts {
            for (then, now) in findings(&events[..n]).iter().zip(&last) {
                let kept = then.verdict == Verdict::Inconclusive || then.verdict == now.verdict;
                assert!(kept, "{name}, cut at {n}: {}: {:?}, then {:?}", now.claim, then.verdict, now.verdict);
            }
        }
    }
}

#[test]
fn windows_of_half_the_length_move_a_verdict() {
    let mut unmoved = Vec::new();
    for (name, events) in recordings() {
        let mut halved = events.clone();
        let half = |edge: &mut Edge| {
            if let Edge::After(d) = edge {
                *d /= 2;
            }
        };
        if let EventKind::Started { plan, .. } = &mut halved[0].kind {
            for claim in &mut plan.claims {
                half(&mut claim.window.from);
                half(&mut claim.window.to);
            }
        }
        let verdicts = |events: &[Event]| -> BTreeMap<String, Verdict> {
            findings(events).into_iter().map(|f| (f.claim, f.verdict)).collect()
        };
        if verdicts(&halved) == verdicts(&events) {
            unmoved.push(name);
        }
    }
    // In these two Kubernetes reacts at once or never, so no timer decides what is claimed.
    unmoved.sort_unstable();
    assert_eq!(unmoved, ["services-crash.controller-manager", "volume-lost.emptied"]);
}

#[test]
fn stories_that_prove_nothing_end_as_they_must() {
    let reasons = |story| -> Vec<(Verdict, Reason)> {
        findings(&record(story)).into_iter().map(|f| (f.verdict, f.reason)).collect()
    };
    assert!(reasons(Story::NoEffect).iter().all(|r| *r == (Verdict::Inconclusive, Reason::NoEffect)));
    assert_eq!(reasons(Story::Dirty).last(), Some(&(Verdict::Inconclusive, Reason::NotUndone)));
    assert_eq!(reasons(Story::Refuted)[2], (Verdict::Refuted, Reason::Counterexample));
    assert!(reasons(Story::Upheld).iter().all(|(v, _)| *v == Verdict::Upheld));
}
