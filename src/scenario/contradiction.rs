//! When two claims exclude each other: no samples at all could satisfy both.
//!
//! This is pure logic on claims. Two claims on the same probe that exclude each other can't both be upheld. The two
//! arms of a mitigation must exclude each other: otherwise the same behaviour could uphold both, and there would be no
//! difference to see.

use std::ops::{Range, RangeInclusive};

use super::{Claim, Expect, WindowName};

/// What a claim says about the samples in its window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Statement<'a> {
    /// It is about every sample, or else about some sample.
    every: bool,
    expect: &'a Expect,
    /// The claim says the opposite of `expect`.
    negated: bool,
}

const AS_BEFORE: Expect = Expect::AsBefore(true);

impl<'a> Statement<'a> {
    /// The statement of a claim that makes exactly one.
    pub(super) fn of(claim: &'a Claim) -> Option<Self> {
        match (&claim.always, &claim.never, &claim.eventually, claim.unchanged) {
            (Some(expect), None, None, None) => Some(Self { every: true, expect, negated: false }),
            (None, Some(expect), None, None) => Some(Self { every: true, expect, negated: true }),
            (None, None, Some(expect), None) => Some(Self { every: false, expect, negated: false }),
            (None, None, None, Some(_)) => Some(Self { every: true, expect: &AS_BEFORE, negated: false }),
            _ => None,
        }
    }

    /// What each sample is compared with.
    pub(super) fn expect(&self) -> &'a Expect {
        self.expect
    }

    /// Does no value at all satisfy both predicates?
    fn disjoint(&self, other: &Self) -> bool {
        use Expect::{Answers, AsBefore, Has, Is, Lacks, Status};
        // Of predicates that a single value satisfies, or all but that one.
        let single = |same: bool| match (self.negated, other.negated) {
            (false, false) => !same,
            (true, true) => false,
            _ => same,
        };
        match (self.expect, other.expect) {
            (Is(a), Is(b)) => single(a == b),
            (Status(a), Status(b)) => single(a == b),
            // Who is refused has no answer.
            (Answers(yes), Status(_)) => (*yes != self.negated) && !other.negated,
            (Status(_), Answers(yes)) => (*yes != other.negated) && !self.negated,
            (Has(a), Has(b)) | (Lacks(a), Lacks(b)) => a == b && self.negated != other.negated,
            (Has(a), Lacks(b)) | (Lacks(a), Has(b)) => a == b && self.negated == other.negated,
            (Answers(a), Answers(b)) | (AsBefore(a), AsBefore(b)) => (a ^ self.negated) != (b ^ other.negated),
            _ => match (self.numbers(), other.numbers()) {
                (Some(a), Some(b)) => !a.iter().any(|a| b.iter().any(|b| a.start() <= b.end() && b.start() <= a.end())),
                _ => false,
            },
        }
    }

    /// The numbers that satisfy the predicate, as ranges; `None` if the predicate is not about numbers.
    fn numbers(&self) -> Option<Vec<RangeInclusive<u64>>> {
        let range = match *self.expect {
            Expect::Equals(n) => n..=n,
            Expect::AtLeast(n) => n..=u64::MAX,
            Expect::AtMost(n) => 0..=n,
            _ => return None,
        };
        if !self.negated {
            return Some(vec![range]);
        }
        let below = range.start().checked_sub(1).map(|end| 0..=end);
        let above = range.end().checked_add(1).map(|start| start..=u64::MAX);
        Some(below.into_iter().chain(above).collect())
    }

    /// Does every number satisfy `expect`, so that the claim says nothing?
    pub(super) fn is_about_nothing(&self) -> bool {
        let plain = Self { negated: false, ..*self };
        plain.numbers().is_some_and(|n| n == [0..=u64::MAX])
    }
}

/// Where a claim's window lies in its phase, on a scale that keeps only the order of Kubernetes' reactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stretch {
    /// The window that is the whole phase.
    pub phase: WindowName,
    /// Start and end on the scale.
    pub span: Range<i8>,
}

/// End of the scale.
const END: i8 = 9;

impl WindowName {
    /// Whether the window is a whole phase.
    pub(super) fn is_phase(self) -> bool {
        let Range { start, end } = self.stretch().span;
        start <= 0 && end == END
    }

    /// The window's place in its phase.
    pub(super) fn stretch(self) -> Stretch {
        use WindowName::*;
        let (phase, span) = match self {
            Baseline | Fault | Remedy | Recovery => (self, 0..END),
            // The phase's cause comes before the phase.
            FromInjection => (Fault, -1..END),
            FromUndo => (Recovery, -1..END),
            NodeUnknown => (Fault, 1..2),
            NodeUnknownAfterFailover => (Fault, 1..6),
            Taint | EndpointsWithdrawn => (Fault, 1..3),
            Eviction => (Fault, 4..5),
            Replacement => (Fault, 4..6),
            // These have no fixed order relative to what happens to nodes.
            ApiFailover | LeaderFailover | ComponentRestarted => (Fault, 0..3),
            WorkResumed => (Fault, 0..6),
            Restored => (Remedy, 0..1),
            Released | RunningAgain => (Remedy, 0..2),
            NodeReturn | LeaderGivesUp => (Recovery, 0..1),
            Settled => (Recovery, 0..2),
            EvictionAfterReturn => (Recovery, 1..3),
        };
        Stretch { phase, span }
    }
}

impl Stretch {
    /// The stretch of a claim that names exactly one window.
    pub(super) fn of(claim: &Claim) -> Option<Self> {
        let (window, whole) = match (claim.during, claim.before, claim.after) {
            (Some(w), None, None) => return Some(w.stretch()),
            (None, Some(w), None) => (w.stretch(), true),
            (None, None, Some(w)) => (w.stretch(), false),
            _ => return None,
        };
        let span = if whole { 0..window.span.start } else { window.span.end..END };
        Some(Self { phase: window.phase, span })
    }

    fn covers(&self, other: &Self) -> bool {
        self.phase == other.phase && self.span.start <= other.span.start && other.span.end <= self.span.end
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.phase == other.phase && self.span.start < other.span.end && other.span.start < self.span.end
    }
}

/// Would no samples satisfy both claims, if the claims were about the same thing?
pub(super) fn exclude_each_other(a: &Claim, b: &Claim) -> bool {
    let (Some(s), Some(t), Some(u), Some(v)) = (Statement::of(a), Statement::of(b), Stretch::of(a), Stretch::of(b))
    else {
        return false;
    };
    s.disjoint(&t)
        && match (s.every, t.every) {
            (true, true) => u.overlaps(&v),
            (true, false) => u.covers(&v),
            (false, true) => v.covers(&u),
            (false, false) => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(text: &str) -> Claim {
        let yaml = format!("{{claim: c, sentence: s, says: s, probe: {{node-ready: v}}, {text}}}");
        serde_saphyr::from_str(&yaml).unwrap()
    }

    fn exclude(a: &str, b: &str) -> bool {
        let (a, b) = (claim(a), claim(b));
        let answer = exclude_each_other(&a, &b);
        assert_eq!(answer, exclude_each_other(&b, &a), "symmetric");
        answer
    }

    #[test]
    fn every_and_no_sample_exclude_each_other_in_the_same_window() {
        assert!(exclude("always: {answers: true}, during: fault", "never: {answers: true}, during: fault"));
        assert!(exclude("always: {answers: true}, after: eviction", "always: {answers: false}, during: replacement"));
        assert!(!exclude("always: {answers: true}, after: replacement", "always: {answers: false}, during: eviction"));
        assert!(exclude("always: {answers: true}, after: node-unknown", "never: {answers: true}, after: eviction"));
        assert!(!exclude("always: {answers: true}, during: fault", "never: {answers: true}, during: recovery"));
        assert!(!exclude(
            "always: {answers: true}, before: node-unknown",
            "never: {answers: true}, during: node-unknown"
        ));
    }

    #[test]
    fn a_phase_with_its_cause_is_wider_than_the_phase() {
        assert!(exclude(
            "always: {answers: true}, during: from-injection",
            "eventually: {answers: false}, during: fault"
        ));
        assert!(!exclude(
            "always: {answers: true}, during: fault",
            "eventually: {answers: false}, during: from-injection"
        ));
        assert!(exclude("always: {answers: true}, during: recovery", "never: {answers: true}, during: from-undo"));
    }

    #[test]
    fn some_sample_excludes_only_what_covers_its_window() {
        assert!(exclude("eventually: {answers: true}, during: settled", "never: {answers: true}, during: recovery"));
        assert!(!exclude("eventually: {answers: true}, during: recovery", "never: {answers: true}, during: settled"));
        assert!(!exclude("eventually: {answers: true}, during: fault", "eventually: {answers: false}, during: fault"));
    }

    #[test]
    fn numbers_are_ranges() {
        let both = |a: &str, b: &str| exclude(&format!("{a}, during: fault"), &format!("{b}, during: fault"));
        assert!(both("always: {equals: 2}", "eventually: {at-most: 1}"));
        assert!(both("always: {at-least: 2}", "never: {at-least: 2}"));
        assert!(both("never: {at-least: 2}", "eventually: {at-least: 3}"));
        assert!(!both("always: {at-least: 2}", "always: {at-most: 2}"));
        assert!(!both("never: {equals: 2}", "never: {equals: 3}"));
        assert!(both("never: {at-least: 1}", "never: {equals: 0}"));
    }

    #[test]
    fn words_and_sets() {
        let both = |a: &str, b: &str| exclude(&format!("{a}, during: fault"), &format!("{b}, during: fault"));
        assert!(both("always: {is: a}", "always: {is: b}"));
        assert!(both("always: {is: a}", "never: {is: a}"));
        assert!(!both("never: {is: a}", "never: {is: b}"));
        assert!(both("always: {has: a}", "eventually: {lacks: a}"));
        assert!(!both("always: {has: a}", "always: {has: b}"));
        assert!(!both("always: {has: a}", "never: {lacks: a}"));
        assert!(both("always: {status: 403}", "eventually: {status: 401}"));
        assert!(both("always: {answers: true}", "eventually: {status: 403}"));
        assert!(both("always: {status: 403}", "never: {answers: false}"));
        assert!(!both("always: {answers: false}", "always: {status: 403}"));
        assert!(!both("never: {status: 403}", "never: {status: 401}"));
        assert!(both("unchanged: true", "eventually: {as-before: false}"));
        assert!(!both("unchanged: true", "always: {is: a}"));
    }
}
