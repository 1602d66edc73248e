//! A claim's window on the clock of one run.
//!
//! Takes the edges that the plan gives and the history, gives two moments and whether the window is over. The cause of a phase is an
//! interval, so an edge that counts from it is uncertain by the length of that interval. The uncertainty always goes against the
//! judge: a window in which something must happen *once* is as wide as the edge may lie, one in which something must hold *throughout* is
//! as narrow. So no claim is refuted by the time that a call to the engine took.

use std::time::Duration;

use crate::clock::Mono;
use crate::event::Phase;
use crate::history::{Ended, History, Interval};
use crate::plan::{Edge, Operator, PlannedClaim, PlannedProbe};

/// A window on the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Resolved {
    /// First moment.
    pub from: Mono,
    /// Last moment; for a window that is not over, the last moment that is known about.
    pub to: Mono,
    /// Is it over, so that what has not happened has not happened?
    pub closed: bool,
    /// What times are counted from.
    pub cause: Interval,
    /// Where the phase ends, as far as is known.
    pub phase_until: Mono,
}

/// The window of a claim; `None` as long as its phase has not begun.
pub(super) fn resolve(history: &History, claim: &PlannedClaim) -> Option<Resolved> {
    let window = &claim.window;
    let span = history.span(window.phase)?;
    let cause = history.cause(window.phase)?;
    let throughout = !matches!(claim.operator, Operator::Eventually(_));
    let from = match window.from {
        // What must hold throughout holds while the remedy is being done, too; what comes of it comes after.
        Edge::PhaseStart if throughout && window.phase == Phase::Remedy => cause.start,
        Edge::PhaseStart => span.start,
        Edge::PhaseEnd => span.until,
        // What must hold throughout the fault must do so where the fault is proven.
        Edge::After(d) if throughout => (cause.end + d).max(span.start),
        Edge::After(d) => cause.start + d,
    };
    let (to, closed) = match window.to {
        Edge::PhaseStart => (span.start, true),
        Edge::PhaseEnd => (span.until, span.ended == Ended::InOrder),
        Edge::After(d) => {
            let to = if throughout { cause.start + d } else { cause.end + d };
            (to.min(span.until), to <= span.until)
        }
    };
    Some(Resolved { from, to, closed, cause, phase_until: span.until })
}

/// How long after it was due a sample may still be on its way: late by an interval, and out of time then.
pub(super) fn tail(probe: &PlannedProbe) -> Duration {
    probe.interval + probe.timeout
}

/// Until when samples of the window may still come in.
pub(super) fn complete_at(history: &History, claim: &PlannedClaim, window: &Resolved) -> Mono {
    window.to + 2 * tail(&history.plan().probes[claim.probe])
}
