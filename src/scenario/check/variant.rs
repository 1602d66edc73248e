//! Checks of variants: faults, what they are combined with, how long they last, and what is done about them.

use std::collections::HashMap;
use std::ops::Range;

use super::Checker;
use crate::node::Role;
use crate::scenario::diagnostic::{Problem, quoted};
use crate::scenario::tree::Node;
use crate::scenario::{
    Clash, Dropped, FaultSpec, Name, Remedy, Restart, Stage, State, Variant, VolumeLeft, WindowName, Workload,
    WorkloadKind,
};

impl<'a> Checker<'a> {
    pub(super) fn variants(&mut self) {
        let (scenario, root) = (self.scenario, self.root);
        let mut seen: HashMap<&Name, usize> = HashMap::new();
        for (i, variant) in scenario.variants.iter().enumerate() {
            let node = root.field("variants").item(i);
            let at = node.field("name").span.clone();
            if let Some(first) = seen.insert(&variant.name, i) {
                let first = root.field("variants").item(first).field("name").span.clone();
                let problem = Problem::new(at.clone(), format!("two variants are called `{}`", variant.name));
                self.push(problem.label("again").also(first, "first given here"));
            }
            self.broken(variant, node);
            self.ends_before(variant, node);
            self.lasts_beyond(variant, node);
            self.remedy(variant, node);
            self.control(variant, node);
            if scenario.claims_about(&variant.name).next().is_none() {
                let problem = Problem::new(at, format!("no claim is made about variant `{}`", variant.name));
                self.push(
                    problem
                        .label("running it would show nothing")
                        .help("add its name to a claim's `variants`, or remove it"),
                );
            }
        }
    }

    /// Checks what a variant breaks.
    fn broken(&mut self, variant: &Variant, node: &Node) {
        for (i, spec) in variant.faults().enumerate() {
            let given = match i {
                0 => node.field("fault"),
                _ => node.field("and").item(i - 1),
            };
            let Some(fault) = given.entries().first() else { continue };
            self.targets_of(spec, &fault.value);
            if matches!(spec, FaultSpec::DeleteNamespace {}) {
                self.nothing_comes_later(variant, &fault.at);
            }
            let mut earlier = variant.faults().take(i).enumerate();
            let Some((first, clash)) = earlier.find_map(|(at, other)| Some((at, other.clash_with(spec)?))) else {
                continue;
            };
            let first = if first == 0 { node.field("fault") } else { node.field("and").item(first - 1) };
            let (title, label, also, help) = told(clash);
            let problem = Problem::new(given.span.clone(), title).label(label);
            self.push(problem.also(first.span.clone(), also).help(help));
        }
    }

    /// Checks the targets that a fault breaks, or its workload.
    fn targets_of(&mut self, spec: &FaultSpec, fault: &Node) {
        match spec {
            FaultSpec::Partition { nodes, .. } | FaultSpec::Drain { nodes } => {
                let (of_none, done) = match spec {
                    FaultSpec::Drain { .. } => ("a drain of no node", "drained"),
                    _ => ("a partition of no node", "cut off"),
                };
                let list = fault.field("nodes");
                if nodes.is_empty() {
                    let problem = Problem::new(list.span.clone(), of_none).label(format!("nobody is {done}"));
                    self.push(problem.help(format!("name the targets that are {done}")));
                }
                let mut cut_off = None;
                for (i, name) in nodes.iter().enumerate() {
                    let at = &list.item(i).span;
                    if nodes[..i].contains(name) {
                        self.push(
                            Problem::new(at.clone(), format!("target {} is given twice", quoted(name))).label("again"),
                        );
                    } else if let Some(role) = self.target(name, at)
                        && let Some((label, why)) = stays(spec, role, *cut_off.get_or_insert(role))
                    {
                        let what = match role {
                            Role::Worker => "a worker",
                            Role::ControlPlane => "a control plane",
                            Role::LoadBalancer => "the load balancer",
                        };
                        let title = format!("target {} is {what}", quoted(name));
                        self.push(Problem::new(at.clone(), title).label(label).help(why));
                    }
                }
            }
            FaultSpec::Delete { workload, .. } => {
                let at = &fault.field("workload").span;
                if let Some(there) = self.there_before(workload, at, "nothing to delete") {
                    self.deleted_claim(spec, there, fault);
                }
            }
            FaultSpec::DeleteNamespace {} | FaultSpec::DeleteBinding { .. } | FaultSpec::DeadWebhook { .. } => {}
            FaultSpec::PacketLoss { node, .. } => {
                let at = &fault.field("node").span;
                if self.target(node, at) == Some(Role::LoadBalancer) {
                    let title = format!("target {} is the load balancer", quoted(node));
                    let problem = Problem::new(at.clone(), title).label("not a node of Kubernetes");
                    self.push(problem.help("name a worker, or a control plane"));
                }
            }
            FaultSpec::VolumeLoss { node, of, .. } => {
                if self.target(node, &fault.field("node").span).is_some() {
                    self.has_volume(of, node, &fault.field("of").span);
                }
            }
            FaultSpec::ContainerKill { node, of } => {
                if self.target(node, &fault.field("node").span).is_some() {
                    self.has_pods_on(of, node, &fault.field("of").span);
                }
            }
            _ => {
                let at = &fault.field("node").span;
                for name in spec.nodes() {
                    let role = self.target(name, at);
                    if spec.component().is_some() && role.is_some_and(|role| role != Role::ControlPlane) {
                        let problem =
                            self.problem(at, format!("target {} runs no component of the control plane", quoted(name)));
                        self.push(problem.label("not a control plane").help("give the target `role: control-plane`"));
                    }
                }
            }
        }
    }

    /// Checks that a workload that is deleted with its claim has one, and that nothing else holds it.
    fn deleted_claim(&mut self, spec: &FaultSpec, workload: &Workload, fault: &Node) {
        let FaultSpec::Delete { workload: name, held, reclaim: Some(_) } = spec else { return };
        let at = fault.key("reclaim");
        let one = matches!(workload.kind, WorkloadKind::Pod | WorkloadKind::Deployment);
        if workload.state != Some(State::Claim) || !one {
            let problem = Problem::new(at, format!("workload {} has no claim of its own to delete", quoted(name)));
            let declared = self.root.field("workloads").key(name);
            let problem = problem.label("of what claim?").also(declared, "declared here");
            self.push(problem.help("give it `kind: deployment, app: keeper, state: claim`, or leave `reclaim` out"));
        } else if *held {
            let problem = Problem::new(at, "a claim that is held does not go").label("goes with its claim, or stays");
            let problem = problem.also(fault.key("held"), "held here");
            self.push(problem.help("remove one of the two"));
        }
    }

    /// Checks that the workload has a volume on that target's node.
    fn has_volume(&mut self, name: &str, target: &str, at: &Range<usize>) {
        let Some(workload) = self.workload(name, at) else { return };
        let declared = self.root.field("workloads").key(name);
        if workload.state != Some(State::Claim) {
            let problem =
                Problem::new(at.clone(), format!("workload {} has no volume that could be lost", quoted(name)));
            let problem = problem.label("lives with its pod").also(declared, "declared here without `state: claim`");
            self.push(problem.help("give it `app: keeper, state: claim`"));
        } else if workload.on.as_deref() != Some(target) {
            self.may_be_anywhere("volume", name, target, at);
        }
    }

    /// Checks that the workload has pods on that target's node when the fault goes in.
    fn has_pods_on(&mut self, name: &str, target: &str, at: &Range<usize>) {
        let Some(workload) = self.there_before(name, at, "nothing to kill") else { return };
        let placed = [workload.on.as_deref(), workload.starts_on.as_deref()].contains(&Some(target));
        if workload.restart == Restart::Never {
            let title = format!("nothing starts a container of workload {} again", quoted(name));
            let problem = Problem::new(at.clone(), title).label("killed once, and gone");
            let declared = self.root.field("workloads").field(name).key("restart");
            self.push(problem.also(declared, "never restarted").help("remove `restart: Never`"));
        } else if !placed && workload.kind != WorkloadKind::DaemonSet {
            self.may_be_anywhere("pods", name, target, at);
        }
    }

    /// The workload, if it is there before the fault.
    fn there_before(&mut self, name: &str, at: &Range<usize>, missed: &str) -> Option<&'a Workload> {
        let workload = self.workload(name, at)?;
        if workload.stage() != Stage::WithTheFault {
            return Some(workload);
        }
        let title = format!("workload {} is not there yet", quoted(name));
        let declared = self.root.field("workloads").field(name).key("late");
        let problem = Problem::new(at.clone(), title).label(missed);
        self.push(problem.also(declared, "comes with the fault").help("remove `late`"));
        None
    }

    fn may_be_anywhere(&mut self, what: &str, name: &str, target: &str, at: &Range<usize>) {
        let title = format!("the {what} of workload {} may be anywhere", quoted(name));
        let problem = Problem::new(at.clone(), title).label(format!("not known to be on {}", quoted(target)));
        let declared = self.root.field("workloads").key(name);
        self.push(problem.also(declared, "declared here").help(format!("give it `on: {target}`")));
    }

    fn ends_before(&mut self, variant: &Variant, node: &Node) {
        let Some(window) = variant.ends_before else { return };
        let stretch = window.stretch();
        if variant.heals_itself() {
            let problem =
                Problem::new(node.key("ends-before"), "this fault ends by itself").label("nothing is left to end");
            self.push(problem.help("leave `ends-before` out, or use a fault that lasts"));
        } else if stretch.phase != WindowName::Fault || stretch.span.start <= 0 {
            let title = "a fault can only end before something that happens while it lasts";
            let problem =
                Problem::new(node.field("ends-before").span.clone(), title).label("does not happen during the fault");
            self.push(problem.help("`node-unknown`, `taint`, `endpoints-withdrawn`, `eviction` and `replacement` do"));
        }
    }

    fn lasts_beyond(&mut self, variant: &Variant, node: &Node) {
        let Some(window) = variant.lasts_beyond else { return };
        let stretch = window.stretch();
        if variant.ends_before.is_some() {
            let problem = Problem::new(node.key("lasts-beyond"), "a fault can't both end early and last on")
                .label("lasts on")
                .also(node.key("ends-before"), "ends early");
            self.push(problem.help("remove one of the two"));
        } else if stretch.phase != WindowName::Fault || window.is_phase() {
            let title = "a fault can only last beyond something that happens while it lasts";
            let problem =
                Problem::new(node.field("lasts-beyond").span.clone(), title).label("does not happen during the fault");
            self.push(problem.help("`node-unknown`, `taint`, `endpoints-withdrawn`, `eviction`, `replacement`, `api-failover`, `component-restarted`, `leader-failover` and `work-resumed` do"));
        }
    }

    fn control(&mut self, variant: &Variant, node: &Node) {
        let Some(control) = &variant.control else { return };
        let at = &node.field("control").span;
        let variants = &self.scenario.variants;
        if *control == variant.name {
            let problem =
                Problem::new(at.clone(), "a variant can't be its own control").label("nothing to compare with");
            self.push(problem.help("name the variant that lacks what this one has"));
        } else if !variants.iter().any(|v| v.name == *control) {
            self.unknown("variant", "variants", control.as_str(), at, variants.iter().map(|v| &v.name));
        }
    }

    fn remedy(&mut self, variant: &Variant, node: &Node) {
        let Some(remedy) = variant.remedy else { return };
        let helps = |spec: &FaultSpec| match remedy {
            Remedy::RestoreSnapshot => {
                matches!(spec, FaultSpec::StoreLoss { .. } | FaultSpec::Delete { .. } | FaultSpec::DeleteNamespace {})
            }
            Remedy::RestoreCopy => {
                matches!(spec, FaultSpec::VolumeLoss { left: VolumeLeft::Nothing | VolumeLeft::Empty, .. })
            }
            Remedy::ReplaceMember | Remedy::RecoverFromSurvivor => matches!(spec, FaultSpec::MemberLoss { .. }),
            Remedy::OutOfService | Remedy::DeleteNode => {
                matches!(spec, FaultSpec::PowerOff { .. } | FaultSpec::Stop { .. })
            }
        };
        if remedy.is_by_api()
            && let Some(balancer) = variant.nodes().find(|name| self.is_of(name, Role::LoadBalancer))
        {
            let problem = Problem::new(node.key("remedy"), "Kubernetes knows no load balancer that could be given up");
            let title = format!("{} is one", quoted(balancer));
            return self.push(problem.label(title).help("it is kind's own: leave `remedy` out"));
        }
        if remedy == Remedy::RestoreSnapshot && !variant.and.is_empty() {
            let problem =
                Problem::new(node.key("remedy"), "a snapshot can be restored once only").label("of one fault");
            return self.push(problem.also(node.key("and"), "several faults").help("leave one of the two out"));
        }
        let loses_majority = variant.majority_of == Some(Role::ControlPlane);
        if remedy == Remedy::ReplaceMember && loses_majority {
            let problem = Problem::new(node.key("remedy"), "no majority is left that could remove a member")
                .label("is done by the others")
                .also(node.key("majority-of"), "most of them are lost");
            return self.push(problem.help("use `remedy: recover-from-survivor`"));
        }
        if remedy == Remedy::RecoverFromSurvivor && !loses_majority {
            let problem = Problem::new(node.key("remedy"), "nobody is a survivor as long as there is a majority");
            let help = "use `remedy: replace-member`, or break a majority and say so: `majority-of: control-plane`";
            return self.push(problem.label("gives up all members but one").help(help));
        }
        let Some(unhelped) = variant.faults().position(|spec| !helps(spec)) else { return };
        let at = if unhelped == 0 { node.field("fault") } else { node.field("and").item(unhelped - 1) };
        let (title, label, also, help) = match remedy {
            Remedy::RestoreSnapshot => (
                "a snapshot of the API server's storage does not help here",
                "restores what was lost",
                "loses nothing that is in it",
                "use `fault: {store-loss: …}` or `{delete: …}`, or leave `remedy` out",
            ),
            Remedy::RestoreCopy => (
                "a copy of a volume does not help here",
                "fills a volume that is empty or gone",
                "leaves none",
                "use `fault: {volume-loss: …}` with `left: empty` or `nothing`, or leave `remedy` out",
            ),
            Remedy::ReplaceMember | Remedy::RecoverFromSurvivor => (
                "no member of etcd is to be replaced here",
                "replaces one that has lost what it had stored",
                "leaves each what it has",
                "use `fault: {member-loss: …}`, or leave `remedy` out",
            ),
            Remedy::OutOfService | Remedy::DeleteNode => (
                "only a node that is off may be given up",
                "gives up what runs there",
                "does not turn it off",
                "use `fault: {power-off: …}` or `{stop: …}`, or leave `remedy` out: what ran on would run twice",
            ),
        };
        let problem = Problem::new(node.key("remedy"), title).label(label).also(at.span.clone(), also);
        self.push(problem.help(help));
    }
}

/// Why a node of this role can't be drained, or can't be cut off together with a node of the role that comes first in
/// the list.
fn stays(spec: &FaultSpec, role: Role, first: Role) -> Option<(&'static str, &'static str)> {
    match (spec, role) {
        (_, Role::LoadBalancer) => Some(("not a node of Kubernetes", "name workers, or control planes")),
        (FaultSpec::Partition { drops: Dropped::ToEtcd, .. }, Role::Worker) => {
            Some(("etcd runs on control planes only", "name control planes"))
        }
        (FaultSpec::Partition { drops: Dropped::FromUsers, .. }, Role::Worker) => {
            Some(("users ask API servers, which run on control planes only", "name control planes"))
        }
        (FaultSpec::Partition { drops: Dropped::ToApi | Dropped::ToKubelet, .. }, Role::ControlPlane) => Some((
            "only workers can be cut off from API servers, or from those who ask kubelets",
            "a control plane's kubelet asks the API server beside it",
        )),
        (FaultSpec::Partition { .. }, _) if first != Role::LoadBalancer && role != first => Some((
            "of another role than the first",
            "cut off workers, or control planes: what is seen of both at once, no window knows",
        )),
        (FaultSpec::Drain { .. }, Role::ControlPlane) => {
            Some(("only workers can be drained yet", "static pods stay where they are, so nothing would be drained"))
        }
        _ => None,
    }
}

/// What is wrong with a fault after another: a title, what this fault does, what the other one has done, and what to do
/// about it.
fn told(clash: Clash) -> (String, &'static str, &'static str, &'static str) {
    let (title, label, also, help) = match clash {
        Clash::Same(what) => {
            return (
                format!("two faults change the same: {what}"),
                "again",
                "changed here first",
                "remove one of the two: neither could be undone beside the other",
            );
        }
        Clash::Shut => (
            "nothing can be put into a node that does not run",
            "inside of the node",
            "does not run any more, or not yet again",
            "name the fault of the node itself last",
        ),
        Clash::EndsTheOther => (
            "this fault would end the one before it",
            "the node loses its power",
            "lasts as long as the node runs",
            "remove one of the two, or write `pause`: a node that is frozen keeps what is in it",
        ),
        Clash::NoKubelet => (
            "this fault needs the kubelet, which another one has broken",
            "in effect once the kubelet has started something anew",
            "leaves no kubelet that would",
            "name the fault of the kubelet last",
        ),
        Clash::NoEnd => (
            "a node that is lost can't be drained, nor its pods go with their namespace",
            "waits for pods to end",
            "nobody is heard there any more who would end them",
            "name the drain, or the deletion, first",
        ),
        Clash::Refused => (
            "nothing can be done through the API once all writes are refused",
            "a write",
            "refuses it",
            "name the webhook last",
        ),
    };
    (title.to_owned(), label, also, help)
}
