//! Checks of workloads that are created late.
//!
//! A workload that comes with the fault can't be looked at before it. Which pods ask, and whom, is settled before the
//! snapshot is taken: what is created later is gone when the snapshot is restored.

use std::ops::Range;

use super::Checker;
use crate::scenario::contradiction::{Statement, Stretch};
use crate::scenario::diagnostic::{Problem, quoted};
use crate::scenario::tree::Node;
use crate::scenario::{Claim, Expect, ProbeSpec, Stage, Variant, WindowName, Workload};

impl Checker<'_> {
    pub(super) fn late_workload(&mut self, workload: &Workload, node: &Node) {
        let Some((field, comes)) = stage(workload) else { return };
        if workload.service && workload.after_snapshot {
            let problem = Problem::new(node.key("service"), "a workload that comes later can't have a Service")
                .label("nobody would ask it: who is asked is settled before it comes")
                .also(node.key(field), comes);
            self.push(problem.help("remove one of the two"));
        }
        if workload.late && workload.after_snapshot {
            let problem = Problem::new(node.key("late"), "a workload comes once").label(comes);
            self.push(problem.also(node.key("after-snapshot"), "comes before it").help("remove one of the two"));
        }
    }

    /// Refuses a claim on a workload that comes with a fault which deletes its namespace.
    pub(super) fn nothing_comes_later(&mut self, variant: &Variant, fault: &Range<usize>) {
        let workloads = &self.scenario.workloads;
        let looked_at = self.scenario.claims_about(&variant.name).filter_map(|claim| claim.probe.workload());
        let Some(name) = looked_at.into_iter().find(|name| workloads.get(*name).is_some_and(|w| w.late)) else {
            return;
        };
        let problem = Problem::new(fault.clone(), format!("workload `{name}` can't be made where no namespace is"));
        let declared = self.root.field("workloads").field(name).key("late");
        let problem = problem.label("deleted with its namespace").also(declared, "comes with the fault");
        self.push(problem.help("leave this variant out of the claims on it"));
    }

    /// Refuses a late workload with `spread`: where replicas are is verified before anything breaks, which is too early
    /// for it.
    pub(super) fn late_spread(&mut self, workload: &Workload, node: &Node) {
        let Some((field, comes)) = stage(workload) else { return };
        if workload.spread {
            let problem = Problem::new(node.key("spread"), "a late workload can't be spread")
                .label("where its replicas are would not be verified")
                .also(node.key(field), comes);
            self.push(problem.help("remove one of the two"));
        }
    }

    /// Checks that a claim on a late workload does not need the workload before the fault.
    pub(super) fn late_claim(&mut self, claim: &Claim, node: &Node) {
        let workloads = &self.scenario.workloads;
        let late = claim.probe.workload().and_then(|name| Some((name, workloads.get(name)?)));
        let Some((name, workload, (field, comes))) = late.and_then(|(name, w)| Some((name, w, stage(w)?))) else {
            return;
        };
        let Some(probe) = node.field("probe").entries().first() else { return };
        let first_of = |fields: &[&str]| fields.iter().find_map(|f| node.entry(f)).unwrap_or(probe).at.clone();
        let problem = if needs_a_baseline(&claim.probe, workload) {
            Problem::new(probe.at.clone(), format!("{} can't look at a late workload", quoted(&probe.key)))
                .label("looks at what is there before it comes")
                .help(format!("look at the `pods` or `containers` of `{name}`"))
        } else if !workload.late {
            return;
        } else if Stretch::of(claim).is_some_and(|s| s.phase == WindowName::Baseline) {
            let at = first_of(&["during", "before", "after"]);
            Problem::new(at, format!("workload `{name}` is not there in the baseline")).label("before the fault")
        } else if matches!(Statement::of(claim).map(|s| s.expect()), Some(Expect::AsBefore(_))) {
            let at = first_of(&["unchanged", "always", "never", "eventually"]);
            Problem::new(at, format!("workload `{name}` was not there before"))
                .label("nothing to compare with")
                .help("look at the number of its `pods` or `containers`, and say what it must be")
        } else {
            return;
        };
        let late = self.root.field("workloads").field(name).key(field);
        self.push(problem.also(late, comes));
    }
}

/// The field that makes a workload come later, and when it comes; `None` if it comes first.
fn stage(workload: &Workload) -> Option<(&'static str, &'static str)> {
    match workload.stage() {
        Stage::First => None,
        Stage::AfterSnapshot => Some(("after-snapshot", "comes once the snapshot is taken")),
        Stage::WithTheFault => Some(("late", "comes with the fault")),
    }
}

/// Is the probe about addresses or a Service that must exist before the fault? A late workload that is not there yet has 0
/// endpoints, which is a value.
fn needs_a_baseline(probe: &ProbeSpec, workload: &Workload) -> bool {
    match probe {
        ProbeSpec::Endpoints { .. } => !workload.late,
        ProbeSpec::Log { .. } | ProbeSpec::Exec { .. } => true,
        _ => probe.is_data_plane(),
    }
}
