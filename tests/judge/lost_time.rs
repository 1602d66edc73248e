//! A machine that lost too much time proves nothing about what came late.

use std::time::Duration;

use kchaos::plan::{Edge, Operator};
use kchaos::scenario::{Expect, Role};
use kchaos::verdict::{Finding, Reason, Verdict};

use super::world::*;

const FOUND: (Verdict, Reason) = (Verdict::Inconclusive, Reason::Starved);
const TOO_LATE: (Verdict, Reason) = (Verdict::Refuted, Reason::NeverHappened);
const CONTRADICTED: (Verdict, Reason) = (Verdict::Refuted, Reason::Counterexample);
/// The first slot that is due after the cause.
const SPELL: usize = 22;
/// What windows allow a busy machine.
const ALLOWED: u64 = 2_000;

fn after(ms: u64) -> Edge {
    Edge::After(Duration::from_millis(ms))
}

/// One observer has no time for so long, from just after the cause on.
fn lost(world: &World, series: usize, ms: u64) -> World {
    world.edit(series, SPELL, |s| (s.look, s.took) = (Look::Starved, ms))
}

fn reason(world: &World) -> (Verdict, Reason) {
    let Finding { verdict, reason, .. } = world.finding();
    (verdict, reason)
}

/// It never becomes “b”, though it should by 3.5 s after the cause.
fn never_b() -> World {
    World::uniform(Operator::Eventually(Expect::Is("b".into())), ready(), Look::A, &["node0", "node1"])
        .with(|w| (w.from, w.to) = (after(2_500), after(3_500)))
}

#[test]
fn what_did_not_happen_in_time_refutes_unless_too_much_time_was_lost() {
    assert_eq!(reason(&never_b()), TOO_LATE);
    assert_eq!(reason(&lost(&never_b(), 0, ALLOWED)), TOO_LATE);
    let found = lost(&never_b(), 0, ALLOWED + 1).finding();
    assert_eq!((found.verdict, found.reason), FOUND);
    assert!(found.because.contains("the machine had lost 2.1 s"), "{}", found.because);
    assert!(found.because.starts_with("it did not happen within 3.5 s"), "{}", found.because);
}

#[test]
fn time_counts_once_and_only_from_the_cause_to_the_end_of_the_window() {
    let both = lost(&lost(&never_b(), 0, ALLOWED - 10), 1, ALLOWED - 10);
    assert_eq!(reason(&both), TOO_LATE);
    let one_after_the_other = both.edit(1, SPELL + 10, |s| (s.look, s.took) = (Look::Starved, ALLOWED - 10));
    assert_eq!(reason(&one_after_the_other), FOUND);
    let before = never_b().edit(0, 1, |s| (s.look, s.took) = (Look::Starved, ALLOWED));
    assert_eq!(reason(&before), TOO_LATE);
    let later = never_b().edit(0, 58, |s| (s.look, s.took) = (Look::Starved, ALLOWED + 1));
    assert_eq!(reason(&later), TOO_LATE);
}

#[test]
fn what_must_hold_from_some_time_on_had_to_come_about_by_then() {
    let (from_then_on, contradicted) = (after(2_500), |w: &mut World| w.series[0].2[50].look = Look::Refused);
    let late = World::uniform(Operator::Always(Expect::Answers(true)), requests(), Look::A, &["node0", "node1"])
        .with(|w| w.from = from_then_on)
        .with(contradicted);
    assert_eq!(reason(&late), CONTRADICTED);
    assert_eq!(reason(&lost(&late, 1, ALLOWED + 1)), FOUND);
    // What must hold from the beginning has no deadline, and a refusal is one whenever it comes.
    let all_the_time = late.with(|w| w.from = Edge::PhaseStart);
    assert_eq!(reason(&lost(&all_the_time, 1, ALLOWED + 1)), CONTRADICTED);
}

#[test]
fn an_outage_may_have_been_long_because_of_lost_time() {
    let out =
        World::uniform(Operator::OutageAtMost(Duration::from_millis(500)), requests(), Look::A, &["node0", "node1"])
            .with(|w| w.series[0].2[45..55].iter_mut().for_each(|s| s.look = Look::Refused));
    assert_eq!(reason(&out), CONTRADICTED);
    // A third observer, which sees no outage and has no time.
    let beside = |ms| {
        let third = |w: &mut World| w.series.push(("node2".into(), 14, w.series[1].2.clone()));
        out.with(third).edit(2, SPELL, |s| (s.look, s.took) = (Look::Starved, ms))
    };
    assert_eq!(reason(&beside(ALLOWED)), CONTRADICTED);
    assert_eq!(reason(&beside(ALLOWED + 1)), FOUND);
}

/// If the API says nothing, the controllers that ask it do nothing either.
#[test]
fn a_silent_api_is_lost_time_if_nothing_was_done_to_it() {
    let silent = never_b().edit(0, SPELL, |s| (s.look, s.took) = (Look::Unknown, ALLOWED + 1));
    assert_eq!(reason(&silent), FOUND);
    for victim in [Role::ControlPlane, Role::LoadBalancer] {
        assert_eq!(reason(&silent.with(|w| w.victim = victim)), TOO_LATE, "{victim:?}");
    }
}
