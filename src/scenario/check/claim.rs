//! Checks of single claims: form, references, and whether the expectation fits what the probe gives.

use std::collections::HashMap;
use std::ops::Range;

use super::Checker;
use crate::component::{Component, Leader};
use crate::node::Role;
use crate::page::Page;
use crate::scenario::contradiction::{Statement, Stretch, exclude_each_other};
use crate::scenario::diagnostic::{Problem, listed, nearest, quoted};
use crate::scenario::tree::Node;
use crate::scenario::{
    ApiVerb, App, Claim, Expect, FaultSpec, Name, ProbeSource, ProbeSpec, Stage, Variant, WindowName, Workload,
    WorkloadKind,
};

/// What a probe gives, and so what it can be compared with.
#[derive(Debug, Clone, Copy)]
enum Gives {
    /// One of these words.
    Word(&'static [&'static str]),
    /// The name of a node.
    Name,
    /// A number.
    Number,
    /// Taints, as `key:Effect`.
    Taints,
    /// Something that can only be compared with its earlier value.
    Identity,
    /// An answer with a token, or none.
    Token,
    /// An answer, or none.
    Answer,
    /// An answer, a refusal, or none.
    ApiAnswer,
}

impl Gives {
    fn of(probe: &ProbeSpec) -> Self {
        match probe {
            ProbeSpec::NodeState(_) => {
                Self::Word(&["created", "running", "paused", "restarting", "removing", "exited", "dead"])
            }
            ProbeSpec::Leader(_) => Self::Name,
            ProbeSpec::NodeReady(_) => Self::Word(&["True", "False", "Unknown", "absent"]),
            ProbeSpec::NodeProcesses(_)
            | ProbeSpec::ComponentProcesses { .. }
            | ProbeSpec::NodesMissed { .. }
            | ProbeSpec::Pods { .. }
            | ProbeSpec::Containers { .. }
            | ProbeSpec::Restarts { .. }
            | ProbeSpec::Endpoints { .. }
            | ProbeSpec::KubeletComplaints(_)
            | ProbeSpec::Writes(_)
            | ProbeSpec::StaleWrites { .. } => Self::Number,
            ProbeSpec::NodeTaints(_) => Self::Taints,
            ProbeSpec::PodIdentities { .. }
            | ProbeSpec::ContainerIdentities { .. }
            | ProbeSpec::ComponentIdentities { .. } => Self::Identity,
            ProbeSpec::Token { .. } => Self::Token,
            ProbeSpec::KubeletAnswers(_)
            | ProbeSpec::ApiAnswers(_)
            | ProbeSpec::Requests { .. }
            | ProbeSpec::PodRequests { .. }
            | ProbeSpec::Log { .. }
            | ProbeSpec::Exec { .. }
            | ProbeSpec::Reach(_) => Self::Answer,
            ProbeSpec::Api(_) | ProbeSpec::ApiOf { .. } => Self::ApiAnswer,
        }
    }

    fn what(self) -> &'static str {
        match self {
            Self::Word(_) => "gives a word",
            Self::Name => "gives the name of a node, which no one knows beforehand",
            Self::Number => "gives a number",
            Self::Taints => "gives a set of taints",
            Self::Identity => "gives identities that no one knows beforehand",
            Self::Token => "gives a token that no one knows beforehand, or no answer",
            Self::Answer => "gives an answer or none",
            Self::ApiAnswer => "gives an answer, a refusal with a status, or nothing",
        }
    }

    /// Names of the expectations that fit.
    fn fitting(self) -> &'static [&'static str] {
        match self {
            Self::Word(_) => &["is", "as-before"],
            Self::Number => &["equals", "at-least", "at-most", "as-before"],
            Self::Taints => &["has", "lacks", "as-before"],
            Self::Name | Self::Identity => &["as-before"],
            Self::Token => &["answers", "as-before"],
            Self::Answer => &["answers"],
            Self::ApiAnswer => &["answers", "status"],
        }
    }
}

fn name_of(expect: &Expect) -> &'static str {
    match expect {
        Expect::Is(_) => "is",
        Expect::Equals(_) => "equals",
        Expect::AtLeast(_) => "at-least",
        Expect::AtMost(_) => "at-most",
        Expect::Has(_) => "has",
        Expect::Lacks(_) => "lacks",
        Expect::Answers(_) => "answers",
        Expect::Status(_) => "status",
        Expect::AsBefore(_) => "as-before",
    }
}

impl<'a> Checker<'a> {
    pub(super) fn claims(&mut self) {
        let (scenario, root) = (self.scenario, self.root);
        let mut seen: HashMap<&Name, usize> = HashMap::new();
        for (i, claim) in scenario.claims.iter().enumerate() {
            let node = root.field("claims").item(i);
            if let Some(first) = seen.insert(&claim.claim, i) {
                let first = root.field("claims").item(first).field("claim").span.clone();
                let problem =
                    Problem::new(node.field("claim").span.clone(), format!("two claims are called `{}`", claim.claim));
                self.push(
                    problem.label("again").also(first, "first given here").help("findings are told apart by this name"),
                );
            }
            self.sentence(claim, node);
            self.words("says", &claim.says, node);
            self.claim_variants(claim, node);
            self.exactly_one(claim, node, &["always", "never", "eventually", "unchanged"], "what must hold");
            self.exactly_one(claim, node, &["during", "before", "after"], "when it must hold");
            self.probe(claim, node);
            self.expectation(claim, node);
            self.window(claim, node);
            self.late_claim(claim, node);
        }
        self.excluding();
    }

    fn sentence(&mut self, claim: &Claim, node: &Node) {
        let at = node.field("sentence").span.clone();
        let page = Page::get();
        let Some(sentence) = page.sentence(&claim.sentence) else {
            let ids = || page.sentences().iter().map(|s| s.id.as_str());
            let problem = self.problem(&at, format!("unknown sentence {}", quoted(&claim.sentence)));
            let problem = problem.label("the page has no sentence of this id").did_you_mean(&claim.sentence, ids());
            let group = claim.sentence.split(['.', '/']).next().unwrap_or_default();
            let same: Vec<&str> = ids().filter(|id| !group.is_empty() && id.split('.').next() == Some(group)).collect();
            return self.push(match same.as_slice() {
                [] => problem.help("`kchaos schema` has the ids of all sentences of the page, with what they say"),
                same => problem.help(format!("sentences under `{group}`: {}", listed(same.iter().copied()))),
            });
        };
        match (sentence.is_mitigation(), claim.arm) {
            (true, None) => {
                let problem = Problem::new(at, format!("claim `{}` is on a mitigation and has no `arm`", claim.claim));
                self.push(
                    problem
                        .label("a mitigation")
                        .help("add `arm: treatment` (with the mitigation) or `arm: control` (without it)"),
                );
            }
            (false, Some(_)) => {
                let problem = Problem::new(
                    node.key("arm"),
                    format!("claim `{}` has an `arm`, but is not on a mitigation", claim.claim),
                );
                let problem = problem.label("nothing to compare").also(at, "a consequence, cause or procedure");
                self.push(problem.help("leave `arm` out; only sentences whose id begins with `m.` have arms"));
            }
            _ => {}
        }
    }

    fn claim_variants(&mut self, claim: &Claim, node: &Node) {
        let Some(variants) = &claim.variants else { return };
        let list = node.field("variants");
        if variants.is_empty() {
            let problem = Problem::new(list.span.clone(), format!("claim `{}` is made for no variant", claim.claim));
            self.push(problem.label("no variant").help("leave `variants` out to make it for all"));
        }
        for (i, name) in variants.iter().enumerate() {
            let at = &list.item(i).span;
            if variants[..i].contains(name) {
                self.push(Problem::new(at.clone(), format!("variant `{name}` is given twice")).label("again"));
            } else if !self.scenario.variants.iter().any(|v| v.name == *name) {
                self.unknown("variant", "variants", name, at, self.scenario.variants.iter().map(|v| &v.name));
            }
        }
    }

    fn exactly_one(&mut self, claim: &Claim, node: &Node, fields: &[&str], what: &str) {
        let given: Vec<Range<usize>> =
            node.entries().iter().filter(|e| fields.contains(&e.key.as_str())).map(|e| e.at.clone()).collect();
        let help = format!("a claim has exactly one of {}", listed(fields.iter().copied()));
        match given.as_slice() {
            [_] => {}
            [] => {
                let at = node.field("claim").span.clone();
                let problem = Problem::new(at, format!("claim `{}` does not say {what}", claim.claim));
                self.push(problem.label(format!("has none of {}", listed(fields.iter().copied()))).help(help));
            }
            [first, second, ..] => {
                let problem = Problem::new(second.clone(), format!("claim `{}` says twice {what}", claim.claim));
                self.push(
                    problem
                        .label("and again")
                        .also(first.clone(), "said here")
                        .help(format!("{help}; make two claims of it")),
                );
            }
        }
    }

    fn probe(&mut self, claim: &Claim, node: &Node) {
        let Some(probe) = node.field("probe").entries().first() else { return };
        let body = &probe.value;
        match &claim.probe {
            ProbeSpec::NodeState(t) | ProbeSpec::NodeProcesses(t) => {
                self.target(t, &body.span);
            }
            ProbeSpec::KubeletAnswers(t)
            | ProbeSpec::ApiAnswers(t)
            | ProbeSpec::KubeletComplaints(t)
            | ProbeSpec::NodeReady(t)
            | ProbeSpec::NodeTaints(t) => {
                self.kubernetes_node(t, &body.span);
            }
            ProbeSpec::Pods { of, on, off, .. } => {
                self.workload(of, &body.field("of").span);
                for (field, target) in [("on", on), ("off", off)] {
                    if let Some(target) = target {
                        self.kubernetes_node(target, &body.field(field).span);
                    }
                }
                if on.is_some() && off.is_some() {
                    let problem = Problem::new(body.key("off"), "pods can't be chosen by both `on` and `off`");
                    self.push(
                        problem
                            .label("and not on this node")
                            .also(body.key("on"), "on this node")
                            .help("keep one of the two"),
                    );
                }
            }
            ProbeSpec::PodIdentities { of } | ProbeSpec::Restarts { of } => {
                self.workload(of, &body.field("of").span);
            }
            ProbeSpec::Containers { of, on } | ProbeSpec::ContainerIdentities { of, on } => {
                self.workload(of, &body.field("of").span);
                if let Some(target) = on {
                    self.kubernetes_node(target, &body.field("on").span);
                }
            }
            ProbeSpec::PodRequests { to, from } => {
                self.workload(to, &body.field("to").span);
                self.asked_from(from.as_deref(), body);
            }
            ProbeSpec::Log { of } | ProbeSpec::Exec { of } => {
                let at = &body.field("of").span;
                if self.workload(of, at).is_some_and(|w| w.kind != WorkloadKind::Pod) {
                    let problem = Problem::new(at.clone(), format!("workload {} is not one pod", quoted(of)));
                    self.push(
                        problem
                            .label("which of its pods?")
                            .help("only a bare pod (`kind: pod`) is the same pod all the time"),
                    );
                }
            }
            ProbeSpec::Endpoints { of, on } => {
                self.served(of, &body.field("of").span, &probe.key);
                if let Some(target) = on {
                    self.kubernetes_node(target, &body.field("on").span);
                }
            }
            ProbeSpec::Requests { to, from, .. } => {
                self.served(to, &body.field("to").span, &probe.key);
                self.asked_from(from.as_deref(), body);
            }
            ProbeSpec::Token { of } => {
                let at = &body.field("of").span;
                self.served(of, at, &probe.key);
                if self.scenario.workloads.get(of.as_str()).is_some_and(|w| w.app != App::Keeper) {
                    let problem =
                        Problem::new(at.clone(), format!("workload {} has no token", quoted(of))).label("not a keeper");
                    self.push(problem.help(format!("only `app: keeper` has one; add it to workload `{of}`")));
                }
            }
            ProbeSpec::NodesMissed { not_reporting_to } => {
                self.control_plane(not_reporting_to, &body.field("not-reporting-to").span, "API server");
            }
            ProbeSpec::ApiOf { node, .. }
            | ProbeSpec::ComponentProcesses { node, .. }
            | ProbeSpec::ComponentIdentities { node, .. } => {
                let at = &body.field("node").span;
                let runs = match &claim.probe {
                    ProbeSpec::ComponentProcesses { component, .. }
                    | ProbeSpec::ComponentIdentities { component, .. } => component.name(),
                    _ => "API server",
                };
                self.control_plane(node, at, runs);
            }
            ProbeSpec::Writes(_) => self.ledger(claim, &probe.at),
            ProbeSpec::Reach(_) | ProbeSpec::Api(_) | ProbeSpec::Leader(_) | ProbeSpec::StaleWrites { .. } => {}
        }
    }

    /// Checks that the target is one on which such a component runs.
    fn control_plane(&mut self, target: &str, at: &Range<usize>, runs: &str) {
        if self.target(target, at).is_some_and(|role| role != Role::ControlPlane) {
            let problem = self.problem(at, format!("target {} has no {runs}", quoted(target)));
            self.push(problem.label("not a control plane").help("give the target `role: control-plane`"));
        }
    }

    /// Checks that every variant of the claim also makes writes: otherwise nothing could be lost.
    fn ledger(&mut self, claim: &Claim, at: &Range<usize>) {
        let scenario = self.scenario;
        let writes = |c: &&Claim| matches!(c.probe.source(), ProbeSource::Api { of: None, verb: ApiVerb::Write });
        let without = scenario.variants.iter().map(|v| &v.name).filter(|v| claim.is_about(v));
        let without: Vec<&str> =
            without.filter(|v| !scenario.claims_about(v).any(|c| writes(&c))).map(Name::as_str).collect();
        if !without.is_empty() {
            let title = format!("in {}, nothing is written that could be lost", listed(without));
            let problem = Problem::new(at.clone(), title).label("counts what `api: write` and `api-of` have written");
            self.push(problem.help("make a claim on `api: write` there, too"));
        }
    }

    fn asked_from(&mut self, from: Option<&str>, probe: &Node) {
        if let Some(target) = from {
            self.kubernetes_node(target, &probe.field("from").span);
        }
    }

    pub(super) fn workload(&mut self, name: &str, at: &Range<usize>) -> Option<&'a Workload> {
        let workloads = &self.scenario.workloads;
        if !workloads.contains_key(name) {
            self.unknown("workload", "workloads", name, at, workloads.keys());
        }
        workloads.get(name)
    }

    /// Checks that a workload has a Service. One that comes after a snapshot can't have one; another check reports that.
    fn served(&mut self, name: &str, at: &Range<usize>, probe: &str) {
        if self.workload(name, at).is_some_and(|w| !w.service && w.stage() != Stage::AfterSnapshot) {
            let declared = self.root.field("workloads").key(name);
            let problem = Problem::new(at.clone(), format!("workload {} has no Service", quoted(name)))
                .label(format!("{} goes through its Service", quoted(probe)))
                .also(declared, "declared here without `service: true`");
            self.push(problem.help(format!("add `service: true` to workload `{name}`")));
        }
    }

    fn expectation(&mut self, claim: &Claim, node: &Node) {
        let Some(statement) = Statement::of(claim) else { return };
        let (gives, expect) = (Gives::of(&claim.probe), statement.expect());
        let probe = node.field("probe").entries().first().map_or_else(|| node.key("probe"), |e| e.at.clone());
        if claim.unchanged.is_some_and(|whole| !whole.0) {
            let problem = Problem::new(node.field("unchanged").span.clone(), "`unchanged` can only be `true`")
                .label("says nothing");
            return self.push(problem.help("write `eventually: {as-before: false}` for a value that must change"));
        }
        let operator = ["always", "never", "eventually"].into_iter().find_map(|o| node.entry(o));
        let (word, at) = match operator {
            Some(o) => o.value.entries().first().map_or(("", o.at.clone()), |e| (e.key.as_str(), e.at.clone())),
            None => ("unchanged", node.key("unchanged")),
        };
        if !gives.fitting().contains(&name_of(expect)) {
            let mut fitting = gives.fitting().to_vec();
            if fitting.contains(&"as-before") {
                fitting.push("unchanged");
            }
            let problem = Problem::new(at, format!("{} does not fit this probe", quoted(word)))
                .label("can't be held against it")
                .also(probe, gives.what());
            return self.push(problem.help(format!("what fits is {}", listed(fitting))));
        }
        let value = operator.and_then(|o| o.value.entries().first()).map_or(at.clone(), |e| e.value.span.clone());
        match (gives, expect) {
            (Gives::Word(words), Expect::Is(word)) if !words.contains(&word.as_str()) => {
                let problem =
                    self.problem(&value, format!("this probe never gives {}", quoted(word))).label("never seen");
                let near = nearest(word, words.iter().copied());
                let problem = near.map_or(problem.clone(), |n| problem.label(format!("did you mean \"{n}\"?")));
                self.push(problem.help(format!("it gives {}", listed(words.iter().copied()))));
            }
            (Gives::Taints, Expect::Has(taint) | Expect::Lacks(taint)) if !is_taint(taint) => {
                let problem =
                    self.problem(&value, format!("{} is not a taint", quoted(taint))).label("expected `key:Effect`");
                self.push(problem.help("for example `node.kubernetes.io/unreachable:NoExecute`; effects are NoSchedule, PreferNoSchedule and NoExecute"));
            }
            (_, Expect::Status(status)) if !(400..600).contains(status) => {
                let problem = Problem::new(value, format!("an API that refuses does not answer {status}"));
                self.push(problem.label("no refusal").help("from 400 to 599; for an answer, write `answers: true`"));
            }
            (Gives::Number, _) if statement.is_about_nothing() => {
                let problem = Problem::new(value, "every number satisfies this").label("says nothing");
                self.push(problem.help("could never fail, or never hold; did you mean `at-least: 1` or `equals: 0`?"));
            }
            (_, Expect::AsBefore(_)) if Stretch::of(claim).is_some_and(|s| s.phase == WindowName::Baseline) => {
                let window = ["during", "before", "after"].into_iter().find_map(|w| node.entry(w));
                let problem =
                    Problem::new(at, "the baseline is compared with itself").label("what it was in the baseline");
                self.push(match window {
                    Some(w) => problem.also(w.value.span.clone(), "the baseline"),
                    None => problem,
                });
            }
            _ => {}
        }
    }

    fn window(&mut self, claim: &Claim, node: &Node) {
        for (field, window) in [("before", claim.before), ("after", claim.after)] {
            let Some(window) = window else { continue };
            let span = window.stretch().span;
            let at = node.field(field).span.clone();
            let phase = window.stretch().phase;
            if field == "before" && span.start <= 0 {
                let problem =
                    Problem::new(at, "no part of the phase is before this window").label("begins with its phase");
                self.push(match phase {
                    WindowName::Baseline => problem,
                    WindowName::Fault => problem.help("the phase before it is `during: baseline`"),
                    _ => problem.help("the phase before it is `during: fault`"),
                });
            } else if field == "after" && window.is_phase() {
                let problem = Problem::new(at, "no part of the phase is after this window").label("is the whole phase");
                self.push(match phase {
                    WindowName::Baseline => problem.help("the phase after it is `during: fault`"),
                    WindowName::Fault => problem.help("the phase after it is `during: recovery`"),
                    _ => problem,
                });
            }
        }
        let Some((field, window)) = [("during", claim.during), ("before", claim.before), ("after", claim.after)]
            .into_iter()
            .find_map(|(f, w)| Some((f, w?)))
        else {
            return;
        };
        for (i, variant) in self.scenario.variants.iter().enumerate() {
            if claim.variants.as_ref().is_some_and(|v| !v.contains(&variant.name)) {
                continue;
            }
            let Some((why, part)) = self.lacks(variant, field, window) else { continue };
            let variant_node = self.root.field("variants").item(i);
            let title = format!("variant `{}` does not have the window of claim `{}`", variant.name, claim.claim);
            let problem = Problem::new(node.field(field).span.clone(), title)
                .label("never begins in that variant")
                .also(variant_node.field(part).span.clone(), why);
            let others = self
                .scenario
                .variants
                .iter()
                .filter(|v| self.lacks(v, field, window).is_none())
                .map(|v| v.name.as_str());
            let others: Vec<&str> = others.collect();
            self.push(match others.as_slice() {
                [] => problem,
                others => {
                    problem.help(format!("make the claim for the others only: `variants: [{}]`", others.join(", ")))
                }
            });
        }
    }

    /// Why a variant lacks a window, and the field of the variant that says so.
    fn lacks(&self, variant: &Variant, field: &str, window: WindowName) -> Option<(&'static str, &'static str)> {
        let stretch = window.stretch();
        if stretch.phase == WindowName::Remedy && variant.remedy.is_none() {
            return Some(("nothing is remedied", "name"));
        }
        if window.is_phase() {
            return None;
        }
        let starts_anew = |fault: &FaultSpec| {
            matches!(fault, FaultSpec::ComponentFlag { .. } | FaultSpec::CertificateExpired { .. })
                && fault.component().is_some()
        };
        let of_a_plane = match window {
            WindowName::ApiFailover
            | WindowName::LeaderFailover
            | WindowName::WorkResumed
            | WindowName::NodeUnknownAfterFailover => {
                let broken = variant.nodes().any(|name| self.is_of(name, Role::ControlPlane));
                Some((broken, "no control plane is broken"))
            }
            WindowName::LeaderGivesUp => {
                let of_a_leader =
                    |component| Leader::ALL.iter().any(|leader| leader.name() == Component::name(component));
                let is_frozen = |fault: &FaultSpec| matches!(fault, FaultSpec::ComponentFreeze { component, .. } if of_a_leader(*component));
                Some((variant.faults().any(is_frozen), "nothing that leads is frozen"))
            }
            WindowName::ComponentRestarted => {
                let changed = variant.faults().any(starts_anew);
                Some((changed, "no flag or certificate of a component is changed"))
            }
            _ => None,
        };
        if let Some((happens, why_not)) = of_a_plane {
            return match variant.ends_before {
                Some(_) => Some(("the fault has ended before", "ends-before")),
                None => (!happens).then_some((why_not, "fault")),
            };
        }
        let cuts_planes = |spec: &FaultSpec| {
            matches!(spec, FaultSpec::Partition { .. })
                && spec.nodes().iter().any(|name| self.is_of(name, Role::ControlPlane))
        };
        if stretch.phase == WindowName::Fault && variant.faults().any(cuts_planes) {
            return Some(("a control plane is cut off: what is left of the others' view, no window knows", "fault"));
        }
        let is_balancer = |name: &String| self.is_of(name, Role::LoadBalancer);
        // The windows of the recovery still apply: a load balancer comes back, too.
        if stretch.phase != WindowName::Recovery && variant.nodes().next().is_some() && variant.nodes().all(is_balancer)
        {
            return Some(("breaks no node of Kubernetes", "fault"));
        }
        // A fault that lasts beyond a window reaches the end of that window even if no node is lost, since it lasts at
        // least that long.
        if field == "after" && variant.lasts_beyond == Some(window) {
            return None;
        }
        if stretch.phase == WindowName::Fault && !variant.hides_nodes() {
            return Some(("Kubernetes does not lose sight of the node", "fault"));
        }
        let end = variant.ends_before?.stretch().span.start;
        let beyond = match field {
            "before" => stretch.span.start > end,
            _ => stretch.span.end > end,
        };
        (stretch.phase == WindowName::Fault && beyond).then_some(("the fault has ended before", "ends-before"))
    }

    /// Reports claims on one probe that can't both hold.
    fn excluding(&mut self) {
        let claims = &self.scenario.claims;
        for (i, claim) in claims.iter().enumerate() {
            let together = |other: &Claim| match (&claim.variants, &other.variants) {
                (Some(a), Some(b)) => a.iter().any(|v| b.contains(v)),
                _ => true,
            };
            let first = claims[..i].iter().position(|o| {
                o.probe == claim.probe
                    && Stretch::of(o) == Stretch::of(claim)
                    && together(o)
                    && exclude_each_other(o, claim)
            });
            let Some(first) = first else { continue };
            let at = |i: usize| self.root.field("claims").item(i).field("claim").span.clone();
            let problem = Problem::new(
                at(i),
                format!("claims `{}` and `{}` can never both hold", claims[first].claim, claim.claim),
            );
            self.push(problem.label("the opposite, of the same probe in the same window").also(at(first), "this"));
        }
    }
}

/// Is the text a taint as Kubernetes writes it, `key:Effect`?
fn is_taint(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(key, effect)| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "./_-=".contains(c);
        !key.is_empty() && key.chars().all(plain) && matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute")
    })
}
