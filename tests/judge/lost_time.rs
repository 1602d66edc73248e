//! A machine that lost too much time proves nothing about what came late.

use std::time::{Duration, Instant};

use kchaos::event::EventKind;
use kchaos::node::Role;
use kchaos::plan::{Edge, Operator, PlannedRemedy};
use kchaos::sample::{Outcome, Sample};
use kchaos::scenario::{Expect, FaultSpec, Remedy, Unanswered};
use kchaos::verdict::{Finding, Reason, Verdict};

use super::world::*;

const FOUND: (Verdict, Reason) = (Verdict::Inconclusive, Reason::Starved);
const TOO_LATE: (Verdict, Reason) = (Verdict::Refuted, Reason::NeverHappened);
const CONTRADICTED: (Verdict, Reason) = (Verdict::Refuted, Reason::Counterexample);
/// The first slot that is due after the cause.
const SPELL: usize = 22;
/// What windows allow a busy machine.
const ALLOWED: u64 = 2_000;

/// One observer has no time for so long, from just after the cause on.
fn lost(world: &World, series: usize, ms: u64) -> World {
    world.edit(series, SPELL, |s| (s.look, s.took) = (Look::Starved, ms))
}

/// It never becomes “b”, though it should by 3.5 s after the cause.
fn never_b() -> World {
    World::uniform(Operator::Eventually(Expect::Is("b".into())), ready(), Look::A, &["node0", "node1"])
        .with(|w| (w.from, w.to) = (after(2_500), after(3_500)))
}

#[test]
fn what_did_not_happen_in_time_refutes_unless_too_much_time_was_lost() {
    assert_eq!(never_b().reason(), TOO_LATE);
    assert_eq!(lost(&never_b(), 0, ALLOWED).reason(), TOO_LATE);
    let found = lost(&never_b(), 0, ALLOWED + 1).finding();
    assert_eq!((found.verdict, found.reason), FOUND);
    assert!(found.because.contains("the machine had lost 2.1 s"), "{}", found.because);
    assert!(found.because.starts_with("it did not happen within 3.5 s"), "{}", found.because);
}

#[test]
fn time_counts_once_and_only_from_the_cause_to_the_end_of_the_window() {
    let both = lost(&lost(&never_b(), 0, ALLOWED - 10), 1, ALLOWED - 10);
    assert_eq!(both.reason(), TOO_LATE);
    let one_after_the_other = both.edit(1, SPELL + 10, |s| (s.look, s.took) = (Look::Starved, ALLOWED - 10));
    assert_eq!(one_after_the_other.reason(), FOUND);
    let before = never_b().edit(0, 1, |s| (s.look, s.took) = (Look::Starved, ALLOWED));
    assert_eq!(before.reason(), TOO_LATE);
    // Many short spells are what any machine is like.
    let short = |step| {
        never_b().with(|w| {
            (SPELL..60).step_by(step).for_each(|k| (w.series[0].2[k].look, w.series[0].2[k].took) = (Look::Starved, 90))
        })
    };
    assert_eq!(short(2).with(|w| w.may_be_lost = 3).reason(), TOO_LATE);
    assert_eq!(short(1).with(|w| w.may_be_lost = 99).reason(), FOUND);
    let later = never_b().edit(0, 58, |s| (s.look, s.took) = (Look::Starved, ALLOWED + 1));
    assert_eq!(later.reason(), TOO_LATE);
}

/// Others had this percentage of the machine's processors, from the cause on, for so long.
fn contended(world: &World, percent: u64, ms: u64) -> World {
    world.with(|w| w.contended.push((INJECTED, INJECTED + ms, percent)))
}

#[test]
fn what_others_took_of_the_processors_is_lost() {
    assert_eq!(contended(&never_b(), 60, 3_300).reason(), TOO_LATE);
    assert_eq!(contended(&never_b(), 60, 3_400).reason(), FOUND);
    // What the nodes did not want was left, and not taken from them.
    let (world, mut unwanted) = (contended(&never_b(), 60, 3_400), 0);
    let reason = changed(&world, |kind| {
        if let EventKind::Processors(usage) = kind {
            usage.idle = std::mem::take(&mut usage.nodes);
            unwanted += 1;
        }
    });
    assert_eq!((reason, unwanted), (TOO_LATE, 1));
    // Nor does it count if they took less than a third.
    assert_eq!(
        contended(&never_b(), 33, 3_400).with(|w| w.contended.push((INJECTED + 3_400, 9_000, 33))).reason(),
        TOO_LATE
    );
    // What an observer lost in that time is no further loss.
    let both = lost(&contended(&never_b(), 60, 3_200), 0, 1_900);
    assert_eq!(both.reason(), TOO_LATE);
    let one_after_the_other = both.edit(1, SPELL + 20, |s| (s.look, s.took) = (Look::Starved, 1_900));
    assert_eq!(one_after_the_other.reason(), FOUND);
}

#[test]
fn what_must_hold_from_some_time_on_had_to_come_about_by_then() {
    let (from_then_on, contradicted) = (after(2_500), |w: &mut World| w.series[0].2[50].look = Look::Refused);
    let late = World::uniform(Operator::Always(Expect::Answers(true)), requests(), Look::A, &["node0", "node1"])
        .with(|w| w.from = from_then_on)
        .with(contradicted);
    assert_eq!(late.reason(), CONTRADICTED);
    assert_eq!(lost(&late, 1, ALLOWED + 1).reason(), FOUND);
    // What must hold from the beginning has no deadline, and a refusal is one whenever it comes.
    let all_the_time = late.with(|w| w.from = Edge::PhaseStart);
    assert_eq!(lost(&all_the_time, 1, ALLOWED + 1).reason(), CONTRADICTED);
}

#[test]
fn an_outage_may_have_been_long_because_of_lost_time() {
    let out =
        World::uniform(Operator::OutageAtMost(Duration::from_millis(500)), requests(), Look::A, &["node0", "node1"])
            .with(|w| w.series[0].2[45..55].iter_mut().for_each(|s| s.look = Look::Refused));
    assert_eq!(out.reason(), CONTRADICTED);
    // A third observer, which sees no outage and has no time.
    let beside = |ms| {
        let third = |w: &mut World| w.series.push(("node2".into(), 14, w.series[1].2.clone()));
        out.with(third).edit(2, SPELL, |s| (s.look, s.took) = (Look::Starved, ms))
    };
    assert_eq!(beside(ALLOWED).reason(), CONTRADICTED);
    assert_eq!(beside(ALLOWED + 1).reason(), FOUND);
}

/// The reason if the events are changed so.
fn changed(world: &World, mut change: impl FnMut(&mut EventKind)) -> (Verdict, Reason) {
    let mut events = world.events();
    events.iter_mut().for_each(|event| change(&mut event.kind));
    let Finding { verdict, reason, .. } = finding(&events);
    (verdict, reason)
}

#[test]
fn slots_for_which_an_observer_had_no_time_at_all_are_lost() {
    let lost = lost(&never_b(), 0, ALLOWED + 1);
    let says = |world: &World, why: &str| {
        changed(world, |kind| {
            if let EventKind::Sampled(Sample { outcome: outcome @ Outcome::Unknown(_), .. }) = kind {
                *outcome = Outcome::Unknown(why.into());
            }
        })
    };
    assert_eq!(says(&lost, "missed: the observer had no time"), FOUND);
    // An observer that was not there, as on a node that was down, says nothing of the machine.
    let world = lost.with(|w| w.victim = Role::ControlPlane);
    assert_eq!(says(&world, "missed: the sampler was not running"), TOO_LATE);
}

/// If the API says nothing, the controllers that ask it do nothing either.
#[test]
fn a_silent_api_is_lost_time_if_nothing_was_done_to_it() {
    let silent = never_b().edit(0, SPELL, |s| (s.look, s.took) = (Look::Unknown, ALLOWED + 1));
    assert_eq!(silent.reason(), FOUND);
    for victim in [Role::ControlPlane, Role::LoadBalancer] {
        assert_eq!(silent.with(|w| w.victim = victim).reason(), TOO_LATE, "{victim:?}");
    }
    // What an operator does through the API breaks no control plane, but for one that blocks it.
    let by_operator = |spec: FaultSpec, remedy: Option<Remedy>| {
        changed(&silent.with(|w| w.victim = Role::ControlPlane), |kind| {
            if let EventKind::Started { plan, .. } = kind {
                plan.faults[0].spec = spec.clone();
                plan.remedy = remedy.map(|does| PlannedRemedy { does, watched_for: plan.fault_for });
            }
        })
    };
    let deleted = || FaultSpec::Delete { workload: "web".into(), held: false, reclaim: None };
    assert_eq!(by_operator(deleted(), None), FOUND);
    assert_eq!(by_operator(deleted(), Some(Remedy::RestoreSnapshot)), TOO_LATE);
    assert_eq!(by_operator(FaultSpec::DeadWebhook { unanswered: Unanswered::Refuses }, None), TOO_LATE);
}

/// An API that refuses is as silent as one that says nothing.
#[test]
fn short_silences_in_a_row_are_one() {
    let refuses = |until| {
        never_b().with(|w| w.series[0].2[SPELL..until].iter_mut().for_each(|s| (s.look, s.took) = (Look::Unknown, 5)))
    };
    assert_eq!(refuses(SPELL + 20).reason(), TOO_LATE);
    assert_eq!(refuses(SPELL + 21).reason(), FOUND);
}

/// Where every series was silent for long, most is asked about the machine. A run asks twice a second whether it is
/// done, on a machine that has no time for it.
#[test]
fn a_starved_run_takes_little_longer_to_judge_than_another() {
    let names: Vec<String> = (0..200).map(|n| format!("node{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let silent = World::uniform(Operator::Never(Expect::Answers(true)), requests(), Look::Timeout, &names);
    let starved = contended(&silent, 60, 3_400);
    let took = |world: &World| {
        let events = world.events();
        let once = || {
            let begin = Instant::now();
            assert_eq!(finding(&events).verdict, Verdict::Upheld);
            begin.elapsed()
        };
        (0..5).map(|_| once()).min().unwrap()
    };
    let (usual, busy) = (took(&silent), took(&starved));
    assert!(busy < 3 * usual, "{busy:?}, and {usual:?} without");
}
