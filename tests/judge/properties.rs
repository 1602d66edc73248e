//! The laws that verdicts obey, whatever the history. The numbers are those of the research notes that the judge is
//! based on.

use std::time::Duration;

use kchaos::event::{Event, EventKind, Phase};
use kchaos::plan::{Edge, Operator};
use kchaos::run_history::{History, IllegalHistory};
use kchaos::scenario::{Arm, Expect, ProbeSpec};
use kchaos::verdict::{Reason, Verdict, judge, mitigations, settled, summary};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::RngSeed;

use super::world::*;

const DECIDED: [Verdict; 2] = [Verdict::Upheld, Verdict::Refuted];

/// The same few cases in every run, so that a failure is caused by the change at hand. To search with other and many
/// cases: `JUDGE_CASES=5000 cargo test --test judge`.
fn config() -> ProptestConfig {
    let asked = std::env::var("JUDGE_CASES").ok().and_then(|n| n.parse().ok());
    ProptestConfig {
        cases: asked.unwrap_or(100),
        rng_seed: if asked.is_some() { RngSeed::Random } else { RngSeed::Fixed(4) },
        failure_persistence: None,
        max_global_rejects: asked.unwrap_or(100) * 200,
        ..ProptestConfig::default()
    }
}

fn universal(world: &World) -> bool {
    !matches!(world.operator, Operator::Eventually(_))
}

/// May a verdict turn from one into the other when information is lost? It may turn inconclusive. Where slots may be
/// lost, a verdict that rests on single samples may go with them.
fn may_turn_by_loss(world: &World, before: Verdict, after: Verdict) -> bool {
    let single = if universal(world) { Verdict::Refuted } else { Verdict::Upheld };
    after == before || after == Verdict::Inconclusive || (world.may_be_lost > 0 && before == single)
}

proptest! {
    #![proptest_config(config())]

    /// A4: the judge implements the definition of the operators, slot by slot.
    #[test]
    fn the_judge_does_what_the_definition_says(world in any_world()) {
        prop_assert_eq!(world.verdict(), world.by_definition());
    }

    /// P1
    #[test]
    fn an_unknown_sample_is_as_good_as_none(world in any_world(), at in any::<Index>()) {
        let places = world.places();
        let &(i, k) = at.get(&places);
        let unknown = world.edit(i, k, |s| s.look = Look::Unknown);
        let missing = world.edit(i, k, |s| s.look = Look::Missing);
        prop_assert_eq!(unknown.verdict(), missing.verdict());
    }

    /// P2: other probes, and samples outside the window and the baseline.
    #[test]
    fn what_the_claim_is_not_about_changes_nothing(world in any_world(), at in any::<Index>(), other in 0u64..90) {
        let (from, to) = world.window();
        let outside: Vec<_> = world.places().into_iter().filter(|&(i, k)| {
            let (due, _, end) = world.times(i, k);
            (end < from || due > to) && due > 2_200
        }).collect();
        prop_assume!(!outside.is_empty());
        let &(i, k) = at.get(&outside);
        let flip = |s: &mut Slot| s.look = if s.look == Look::A { Look::B } else { Look::A };
        let changed = world.edit(i, k, flip);
        prop_assert_eq!(changed.reason(), world.reason());
        let (one, two) = (world.finding(), changed.finding());
        prop_assert_eq!(one.evidence.first(), two.evidence.first());
        prop_assert_eq!(one.because, two.because);

        // A second probe, on which there is no claim.
        let mut events = world.events();
        for event in &mut events {
            if let EventKind::Started { plan, .. } = &mut event.kind {
                let more = plan.probes[0].clone();
                plan.probes.push(more);
            }
        }
        let copies: Vec<Event> = events.iter().filter_map(|e| match &e.kind {
            EventKind::Sampled(s) if s.slot % 3 == other % 3 => {
                let mut s = s.clone();
                s.probe = 1;
                Some(Event { at: e.at, kind: EventKind::Sampled(s) })
            }
            _ => None,
        }).collect();
        events.extend(copies);
        prop_assert_eq!(finding(&events), world.finding());
    }

    /// P3
    #[test]
    fn the_order_of_records_and_repeated_records_change_nothing(
        world in any_world(), order in any::<u64>(), again in proptest::collection::vec(any::<Index>(), 0..9),
    ) {
        let events = world.events();
        let mut other = events.clone();
        other.extend(again.iter().map(|i| i.get(&events).clone()));
        // A permutation by a cheap hash.
        other.sort_by_key(|e| e.at.0.wrapping_mul(order | 1).rotate_left(17));
        prop_assert_eq!(findings(&other), findings(&events));
    }

    /// P3
    #[test]
    fn two_records_for_one_slot_are_no_choice(world in any_world(), at in any::<Index>()) {
        let mut events = world.events();
        let samples: Vec<usize> =
            events.iter().enumerate().filter(|(_, e)| matches!(e.kind, EventKind::Sampled(_))).map(|(i, _)| i).collect();
        let mut other = events[*at.get(&samples)].clone();
        if let EventKind::Sampled(s) = &mut other.kind { s.end = s.end + Duration::from_micros(1); }
        events.push(other);
        let refused = matches!(History::replay(&events), Err(IllegalHistory::Contradiction { .. }));
        prop_assert!(refused);
    }

    /// P4: byte for byte, since findings give times from the start of the run.
    #[test]
    fn when_the_run_took_place_changes_nothing(world in any_world(), origin in 0u64..1 << 50) {
        prop_assert_eq!(world.with(|w| w.origin = origin).finding(), world.finding());
    }

    /// P5
    #[test]
    fn names_change_nothing(world in any_world(), names in Just(vec!["zz", "yy", "xx"]).prop_shuffle()) {
        let renamed = world.with(|w| {
            for (series, name) in w.series.iter_mut().zip(&names) { series.0 = (*name).to_owned(); }
        });
        prop_assert_eq!(renamed.reason(), world.reason());
    }

    /// P6
    #[test]
    fn never_is_always_not(world in any_world()) {
        let always = world.with(|w| { w.spec = requests(); w.operator = Operator::Always(Expect::Answers(false)); });
        let never = world.with(|w| { w.spec = requests(); w.operator = Operator::Never(Expect::Answers(true)); });
        prop_assert_eq!(always.reason(), never.reason());
    }

    /// P6, on one series and in the baseline, whose cause is an instant: there both operators have the same window.
    #[test]
    fn eventually_is_the_swapped_verdict_of_always_not(world in any_world()) {
        let world = world.with(|w| { w.spec = requests(); w.phase = Phase::Baseline; w.series.truncate(1); });
        let eventually = world.with(|w| w.operator = Operator::Eventually(Expect::Answers(true))).verdict();
        let swapped = match world.with(|w| w.operator = Operator::Always(Expect::Answers(false))).verdict() {
            Verdict::Upheld => Verdict::Refuted,
            Verdict::Refuted => Verdict::Upheld,
            fixed => fixed,
        };
        prop_assert_eq!(eventually, swapped);
    }

    /// P7, P8: more information decides and less undecides, and neither turns upheld into refuted or back.
    #[test]
    fn verdicts_are_monotone_in_information(
        world in any_world(), at in any::<Index>(), known in prop_oneof![Just(Look::A), Just(Look::B), Just(Look::Refused)],
    ) {
        let places = world.places();
        let &(i, k) = at.get(&places);
        prop_assume!(k >= 22);
        let knows = world.edit(i, k, |s| s.look = known).verdict();
        let lost = world.edit(i, k, |s| s.look = Look::Missing).verdict();
        prop_assert!(may_turn_by_loss(&world, knows, lost), "{knows:?} → {lost:?}");
    }

    /// P8 for many samples at once, and A3: with no samples left, every operator is inconclusive.
    #[test]
    fn losing_samples_never_turns_a_verdict(world in any_world(), lost in proptest::collection::vec(any::<Index>(), 1..60)) {
        let places = world.places();
        let poorer = world.with(|w| for at in &lost {
            let &(i, k) = at.get(&places);
            if k >= 22 { w.series[i].2[k].look = Look::Missing; }
        });
        prop_assert!(may_turn_by_loss(&world, world.verdict(), poorer.verdict()));
        let empty = world.with(|w| for (_, _, slots) in &mut w.series { for s in slots { s.look = Look::Missing; } });
        prop_assert_eq!(empty.verdict(), Verdict::Inconclusive);
    }

    /// P9
    #[test]
    fn a_counterexample_and_an_occurrence_are_final(world in any_world(), rest in proptest::collection::vec(any::<bool>(), 95)) {
        let verdict = world.verdict();
        let is_final = if universal(&world) { Verdict::Refuted } else { Verdict::Upheld };
        prop_assume!(verdict == is_final);
        let inside = world.inside();
        let more = world.with(|w| for (i, (_, _, slots)) in w.series.iter_mut().enumerate() {
            for (k, slot) in slots.iter_mut().enumerate() {
                let undecided = matches!(slot.look, Look::Missing | Look::Unknown);
                if k >= 22 && undecided && !inside.contains(&(i, k)) {
                    slot.look = if rest[k] { Look::A } else { Look::B };
                }
            }
        });
        prop_assert_eq!(more.verdict(), is_final);
    }

    /// P10, P11
    #[test]
    fn a_wider_window_keeps_what_happened_and_a_narrower_one_what_held(
        world in any_world(), from in 0u64..1_000, width in 300u64..1_500, left in 0u64..200, right in 0u64..1_000,
    ) {
        let narrow = world.with(|w| (w.from, w.to) = (after(from + left), after(from + left + width)));
        let wide = world.with(|w| (w.from, w.to) = (after(from), after(from + left + width + right)));
        let kept = |v: Verdict| if universal(&world) { v == Verdict::Refuted } else { v == Verdict::Upheld };
        if kept(narrow.verdict()) { prop_assert_eq!(wide.verdict(), narrow.verdict()); }
        let needed = |v: Verdict| DECIDED.contains(&v) && !kept(v);
        // Where a sample may give no value, a narrower window may be left without any.
        if needed(wide.verdict()) && !matches!(world.spec, ProbeSpec::Token { .. }) && !narrow.inside().is_empty() {
            let at_least_one_each = (0..world.series.len()).all(|i| narrow.inside().iter().any(|(j, _)| *j == i));
            if at_least_one_each { prop_assert_eq!(narrow.verdict(), wide.verdict()); }
        }
    }

    /// P12
    #[test]
    fn a_window_is_as_good_as_its_parts(world in any_world(), from in 0u64..300, cut in 400u64..900, to in 1_200u64..1_900) {
        let world = world.with(|w| {
            (w.operator, w.spec) = (if universal(w) { Operator::Always(is_a()) } else { Operator::Eventually(is_a()) }, ready());
            w.phase = Phase::Baseline;
            w.series.truncate(1);
            for s in &mut w.series[0].2 { s.late = s.late.min(20); s.took = s.took.min(40); }
        });
        let part = |from, to| world.with(|w| (w.from, w.to) = (after(from), after(to))).verdict();
        let straddled = world.places().into_iter().any(|(i, k)| {
            let (due, _, end) = world.times(i, k);
            due <= BASELINE + cut + 1 && end >= BASELINE + cut
        });
        prop_assume!(!straddled);
        let (whole, parts) = (part(from, to), [part(from, cut), part(cut + 1, to)]);
        let good = |v: &Verdict| match v { Verdict::Refuted => 0, Verdict::Upheld => 2, _ => 1 };
        let expected = if universal(&world) { parts.iter().max().copied() } else { parts.into_iter().max_by_key(good) };
        prop_assert_eq!(Some(whole), expected);
    }

    /// P13
    #[test]
    fn a_summary_is_the_gravest_verdict(worlds in proptest::collection::vec(any_world(), 1..5)) {
        let all: Vec<_> = worlds.iter().map(World::finding).collect();
        let (one, two) = all.split_at(all.len() / 2);
        prop_assert_eq!(summary(&all), summary(one).max(summary(two)));
        let mut back = all.clone();
        back.reverse();
        prop_assert_eq!(summary(&back), summary(&all));
        prop_assert_eq!(summary(&[]), None);
        prop_assert_eq!(summary(&all) == Some(Verdict::Refuted), all.iter().any(|f| f.verdict == Verdict::Refuted));
    }

    /// P14
    #[test]
    fn each_single_contradiction_refutes_and_is_named(world in punctual_world(), at in any::<Index>()) {
        let world = world.with(|w| {
            (w.operator, w.spec) = (Operator::Always(Expect::Answers(true)), requests());
            for s in w.series.iter_mut().flat_map(|(_, _, s)| s) { s.look = Look::A; }
        });
        prop_assume!(world.is_closed());
        prop_assert_eq!(world.reason(), (Verdict::Upheld, Reason::Held));
        let inside = world.inside();
        let &(i, k) = at.get(&inside);
        let found = world.edit(i, k, |s| s.look = Look::Refused).finding();
        prop_assert_eq!((found.verdict, found.reason), (Verdict::Refuted, Reason::Counterexample));
        prop_assert_eq!((&found.evidence[0].series, found.evidence[0].slot), (&format!("node{i}"), k as u64));
    }

    /// P15
    #[test]
    fn the_evidence_alone_gives_the_same_verdict(world in any_world()) {
        let found = world.finding();
        prop_assume!(matches!(found.reason, Reason::Counterexample | Reason::Happened));
        let cited = |series: &str, slot| found.evidence.iter().any(|e| e.series == series && e.slot == slot);
        let mut events = world.events();
        events.retain(|e| !matches!(&e.kind, EventKind::Sampled(s) if !cited(&s.series, s.slot)));
        prop_assert_eq!(finding(&events).verdict, found.verdict);
    }

    /// P16
    #[test]
    fn what_a_broken_off_record_shows_is_never_taken_back(world in any_world()) {
        let events = world.events();
        let last = world.verdict();
        for n in (1..events.len()).step_by(3) {
            let verdict = finding(&events[..n]).verdict;
            prop_assert!(verdict == Verdict::Inconclusive || verdict == last, "{n}: {verdict:?}, then {last:?}");
        }
    }

    /// P17
    #[test]
    fn without_proof_of_the_effect_nothing_is_decided(
        world in any_world(), which in 0usize..4, wrong in prop_oneof![Just(None), Just(Some(vec![])), Just(Some(vec![None])), Just(Some(vec![Some(true), Some(false)]))],
    ) {
        let broken = world.with(|w| w.proofs[which].1 = wrong);
        let expected = if world.phase == Phase::Baseline { world.verdict() } else { Verdict::Inconclusive };
        prop_assert_eq!(broken.verdict(), expected);
    }

    /// P19
    #[test]
    fn a_deadline_has_one_threshold(world in any_world(), expect in prop_oneof![Just(is_a()), Just(Expect::Is("b".into()))]) {
        let world = world.with(|w| (w.operator, w.spec, w.from) = (Operator::Eventually(expect), ready(), Edge::PhaseStart));
        let upheld: Vec<bool> =
            (1..40).map(|d| world.with(|w| w.to = after(d * 100)).verdict() == Verdict::Upheld).collect();
        prop_assert!(upheld.is_sorted(), "{upheld:?}");
    }

    /// P20
    #[test]
    fn jitter_away_from_the_edges_changes_nothing(world in punctual_world(), jitter in proptest::collection::vec(0u64..15, 95)) {
        let (from, to) = world.window();
        let shaken = world.with(|w| for i in 0..w.series.len() {
            for (k, more) in jitter.iter().enumerate() {
                let (_, start, end) = world.times(i, k);
                // These are bad times to be late. The baseline's edges count too, because of the value to compare with.
                let near = |edge: u64| start <= edge + 20 && end + 20 >= edge;
                if ![from, to, BASELINE, 2_200, CLEANUP].into_iter().any(near) { w.series[i].2[k].late += more; }
            }
        });
        prop_assert_eq!(shaken.reason(), world.reason());
    }

    /// P22
    #[test]
    fn a_value_that_changes_and_changes_back_has_changed(world in punctual_world(), at in any::<Index>()) {
        let world = world.with(|w| {
            (w.operator, w.spec) = (Operator::Unchanged, ready());
            if w.phase == Phase::Baseline { w.phase = Phase::Fault; }
            for s in w.series.iter_mut().flat_map(|(_, _, s)| s) { s.look = Look::A; }
        });
        prop_assume!(world.is_closed());
        prop_assert_eq!(world.verdict(), Verdict::Upheld);
        let inside = world.inside();
        let &(i, k) = at.get(&inside);
        prop_assert_eq!(world.edit(i, k, |s| s.look = Look::B).verdict(), Verdict::Refuted);
        let restless = world.edit(0, 5, |s| s.look = Look::B);
        prop_assert_eq!(restless.reason(), (Verdict::Inconclusive, Reason::NoBaselineValue));
    }

    /// P23
    #[test]
    fn each_series_counts_and_one_without_samples_cannot_be_upheld(world in any_world()) {
        let each: Vec<Verdict> = (0..world.series.len()).map(|i| {
            world.with(|w| w.series = vec![world.series[i].clone()]).verdict()
        }).collect();
        prop_assert_eq!(Some(world.verdict()), each.into_iter().max());
        let silent = world.with(|w| w.series.push(("silent".into(), 0, vec![])));
        prop_assert_ne!(silent.verdict(), Verdict::Upheld);
    }

    /// P24
    #[test]
    fn one_history_for_both_arms_shows_no_mitigation(world in any_world()) {
        let mut plan = world.with(|w| (w.operator, w.spec) = (Operator::Always(Expect::Answers(true)), requests())).plan();
        let mut control = plan.claims[0].clone();
        (control.id, control.arm, control.operator) = ("control".into(), Some(Arm::Control), Operator::Never(Expect::Answers(true)));
        plan.claims.push(control);
        let mut events = world.events();
        for e in &mut events { if let EventKind::Started { plan: p, .. } = &mut e.kind { **p = plan.clone(); } }
        let found = mitigations(&findings(&events));
        prop_assert_eq!(found.len(), 1);
        prop_assert!(!found[0].shown, "{found:?}");
    }

    /// P25
    #[test]
    fn a_missing_capability_is_never_a_pass(world in any_world()) {
        let lacking = world.with(|w| w.unsupported = Some("no sch_netem".into()));
        prop_assert_eq!(lacking.reason(), (Verdict::Unsupported, Reason::LacksCapability));
    }

    /// P26
    #[test]
    fn the_same_record_gives_the_same_bytes(world in any_world()) {
        let events = world.events();
        let bytes = |events: &[Event]| serde_json::to_string(&findings(events)).unwrap();
        let lines: Vec<String> = events.iter().map(|e| serde_json::to_string(e).unwrap()).collect();
        let read: Vec<Event> = lines.iter().map(|l| serde_json::from_str(l).unwrap()).collect();
        let elsewhere = std::thread::spawn(move || bytes(&read)).join().unwrap();
        prop_assert_eq!(bytes(&events), elsewhere);
    }

    /// P27
    #[test]
    fn looking_less_often_keeps_what_needed_every_look(world in punctual_world(), every in 2u64..5) {
        let needed = if universal(&world) { Verdict::Upheld } else { Verdict::Refuted };
        prop_assume!(world.verdict() == needed && !matches!(world.spec, ProbeSpec::Token { .. }));
        let (from, to) = world.window();
        prop_assume!(to >= from + 2 * every * INTERVAL);
        let thin = world.with(|w| {
            w.interval *= every;
            for (_, _, slots) in &mut w.series {
                *slots = slots.iter().step_by(usize::try_from(every).unwrap()).copied().collect();
            }
        });
        // With a longer interval, recovery loses more of its end.
        prop_assume!(world.phase != Phase::Recovery);
        prop_assert_eq!(thin.verdict(), needed);
    }

    /// A claim that is settled while the phase goes on stays as it is at the end of the run.
    #[test]
    fn what_is_settled_is_decided_when_the_run_ends_then(world in any_world()) {
        let events = world.events();
        let phase_end = match world.phase { Phase::Baseline => 2_200, Phase::Fault => LAST_LOOK, _ => CLEANUP };
        let first = (1..=events.len()).find(|n| {
            let at = events[n - 1].at;
            at < world.at(phase_end) && settled(&History::replay(&events[..*n]).unwrap(), world.phase)
        });
        let Some(n) = first else { return Ok(()) };
        let looked = judge(&History::replay(&events).unwrap()).remove(0);
        // Waiting longer for a window that is over teaches nothing more.
        if let Edge::After(_) = world.to {
            let late = finding(&events).verdict;
            prop_assert_eq!(looked.verdict, late);
            if looked.verdict == Verdict::Inconclusive {
                let (_, to) = world.window();
                prop_assert!(events[n - 1].at >= world.at(to), "settled before the window was over");
            }
        }
    }
}
