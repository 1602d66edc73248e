//! Checks of workloads.

use super::{Checker, MAX_REPLICAS};
use crate::scenario::diagnostic::Problem;
use crate::scenario::tree::Node;
use crate::scenario::{App, Name, Remedy, Restart, State, Workload, WorkloadKind, Writes};

impl Checker<'_> {
    pub(super) fn workloads(&mut self) {
        let (scenario, root) = (self.scenario, self.root);
        for (name, workload) in &scenario.workloads {
            let node = root.field("workloads").field(name);
            self.placement(workload, node);
            self.starts_on(workload, node);
            self.replicas(name, workload, node);
            self.budget(name, workload, node);
            self.app(workload, node);
            self.late_workload(workload, node);
            self.late_spread(workload, node);
            if workload.after_snapshot && scenario.variants.iter().all(|v| v.remedy != Some(Remedy::RestoreSnapshot)) {
                let problem =
                    Problem::new(node.key("after-snapshot"), "no variant takes a snapshot").label("after which?");
                self.push(problem.help("give a variant `remedy: restore-snapshot`, or leave `after-snapshot` out"));
            }
            if workload.restart != Restart::Always && workload.kind != WorkloadKind::Pod {
                let at = node.field("restart").span.clone();
                let problem = Problem::new(at, "only a bare pod can have another restart policy than `Always`")
                    .label("controllers restart their pods always")
                    .also(node.field("kind").span.clone(), "not a bare pod");
                self.push(problem.help("write `kind: pod`, or leave `restart` out"));
            }
        }
    }

    fn starts_on(&mut self, workload: &Workload, node: &Node) {
        let Some(target) = &workload.starts_on else { return };
        self.kubernetes_node(target, &node.field("starts-on").span);
        let also = match workload {
            Workload { on: Some(_), .. } => Some((node.key("on"), "on that node for good")),
            Workload { spread: true, .. } => Some((node.key("spread"), "on different nodes")),
            Workload { kind: WorkloadKind::DaemonSet, .. } => Some((node.field("kind").span.clone(), "on every node")),
            Workload { late: true, .. } => Some((node.key("late"), "not there when that is verified")),
            Workload { after_snapshot: true, .. } => {
                Some((node.key("after-snapshot"), "not there when that is verified"))
            }
            _ => None,
        };
        if let Some((at, is)) = also {
            let problem = Problem::new(node.key("starts-on"), "pods can't only start on a node here").label("at first");
            self.push(problem.also(at, is).help("remove one of the two"));
        }
    }

    fn placement(&mut self, workload: &Workload, node: &Node) {
        let Some(target) = &workload.on else { return };
        let at = &node.field("on").span;
        self.kubernetes_node(target, at);
        if workload.kind == WorkloadKind::DaemonSet {
            self.push(
                Problem::new(node.key("on"), "a DaemonSet can't be placed on one node")
                    .label("it has a pod on every node"),
            );
        }
        if workload.spread {
            let problem = Problem::new(node.key("spread"), "replicas can't be on one node and spread")
                .label("on different nodes")
                .also(node.key("on"), "all on one node");
            self.push(problem.help("remove one of the two"));
        }
    }

    fn replicas(&mut self, name: &Name, workload: &Workload, node: &Node) {
        let given = node.entry("replicas").map(|e| e.value.span.clone());
        match (workload.kind, given) {
            (WorkloadKind::Pod, Some(at)) if workload.replicas != 1 => {
                let problem = Problem::new(at, "a bare pod is one pod").label("not one");
                self.push(problem.help("write `kind: deployment` for several"));
            }
            (WorkloadKind::DaemonSet, Some(_)) => {
                let problem = Problem::new(node.key("replicas"), "a DaemonSet has no `replicas`");
                self.push(problem.label("it has a pod on every node").help("leave `replicas` out"));
            }
            (_, Some(at)) if workload.replicas == 0 => {
                self.push(
                    Problem::new(at, format!("workload `{name}` has no pods")).label("there is nothing to look at"),
                );
            }
            (_, Some(at)) if workload.replicas > MAX_REPLICAS => {
                let title = format!("{} replicas, and {MAX_REPLICAS} are the most", workload.replicas);
                self.push(Problem::new(at, title).label("more than a kind node holds"));
            }
            _ => {}
        }
        let replicated = matches!(workload.kind, WorkloadKind::Deployment | WorkloadKind::StatefulSet);
        if workload.spread && !(replicated && workload.replicas > 1) {
            let problem = Problem::new(node.key("spread"), format!("workload `{name}` has nothing to spread"));
            self.push(problem.label("needs `replicas: 2` or more of a deployment or stateful-set"));
        }
    }

    fn budget(&mut self, name: &Name, workload: &Workload, node: &Node) {
        let Some(min) = workload.min_available else { return };
        let at = node.field("min-available").span.clone();
        let replicated = matches!(workload.kind, WorkloadKind::Deployment | WorkloadKind::StatefulSet);
        if !replicated {
            let problem = Problem::new(node.key("min-available"), "a budget of pods that nothing replaces")
                .label("keeps some available while others are replaced")
                .also(node.field("kind").span.clone(), "not replaced elsewhere");
            self.push(problem.help("write `kind: deployment` or `stateful-set`, or leave `min-available` out"));
        } else if min == 0 || min > workload.replicas {
            let title = format!("workload `{name}` can't keep {min} of {} pods available", workload.replicas);
            let label = if min == 0 { "forbids nothing" } else { "more than there are" };
            self.push(Problem::new(at, title).label(label));
        }
    }

    fn app(&mut self, workload: &Workload, node: &Node) {
        let chosen = workload.writes != Writes::default();
        if chosen && workload.app != App::Keeper {
            let problem = Problem::new(node.key("writes"), "`writes` without `app: keeper`");
            self.push(problem.label("only a keeper writes").help("add `app: keeper`, or leave `writes` out"));
        }
        if workload.app == App::Pause && workload.service {
            let problem = Problem::new(node.key("service"), "a Service in front of pods that answer nobody");
            let problem = problem.label("never answered").also(node.field("app").span.clone(), "does nothing");
            self.push(problem.help("leave `service` out, or `app`"));
        }
        match (workload.app, workload.state) {
            (App::Netexec | App::ApiClient | App::Pause, Some(_)) => {
                let problem =
                    Problem::new(node.key("state"), "`state` without `app: keeper`").label("only a keeper has state");
                self.push(problem.help("add `app: keeper`, or leave `state` out"));
            }
            (App::Keeper, None) => {
                let problem = Problem::new(node.field("app").span.clone(), "a keeper without `state`");
                self.push(
                    problem.label("where does it keep its token?").help("add `state: memory`, `empty-dir` or `claim`"),
                );
            }
            (App::Keeper, Some(State::Memory)) if chosen => {
                let problem = Problem::new(node.key("writes"), "a keeper that writes to a volume it does not have");
                self.push(problem.help("keep its state on a volume: `state: claim` or `empty-dir`"));
            }
            (App::Keeper, Some(_)) if workload.replicas > 1 || workload.kind == WorkloadKind::DaemonSet => {
                let at = if workload.replicas > 1 { node.key("replicas") } else { node.field("kind").span.clone() };
                let problem =
                    Problem::new(at, "a keeper of several pods").label("each pod would have a token of its own");
                self.push(problem.help("a keeper is one pod: its token tells whether state was lost"));
            }
            _ => {}
        }
    }
}
