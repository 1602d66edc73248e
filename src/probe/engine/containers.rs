//! The containers of workloads that run inside the nodes, whatever the API or a kubelet believes: each node's containerd is asked.
//!
//! One look into the nodes serves all probes of a slot. In a node that is down nothing runs; a node that is up and can't be looked into is
//! unknown.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::OnceCell;

use super::ASKED;
use crate::cluster::docker::{Engine, NodeId};
use crate::plan::Plan;
use crate::scenario::{ProbeSpec, Role};

/// Containers first: one that starts or ends meanwhile does not count. An empty line ends each list. Every node has containers of
/// Kubernetes itself: a look that does not find them is blind, and what it does not see counts for nothing.
const SCRIPT: &str = r#"set -e
[ -n "$(ctr -n k8s.io containers ls -q 'labels."io.kubernetes.pod.namespace"==kube-system')" ] || {
	echo 'probe-blind: no container of kube-system' >&2; exit 3; }
for filter; do ctr -n k8s.io containers ls -q "$filter"; echo; done
ctr -n k8s.io tasks ls"#;

/// Ids of running containers, by workload.
type Running = BTreeMap<String, BTreeSet<String>>;

/// A look into the nodes, taken when a probe first asks for it.
pub(super) struct Look<'a> {
    engine: &'a Engine,
    plan: &'a Plan,
    timeout: Duration,
    seen: OnceCell<BTreeMap<&'a NodeId, Result<Running, String>>>,
}

impl<'a> Look<'a> {
    pub(super) fn new(engine: &'a Engine, plan: &'a Plan, timeout: Duration) -> Self {
        Self { engine, plan, timeout, seen: OnceCell::new() }
    }

    /// Ids of the workload's containers that run on this target's node, or on any; or why they are not known.
    pub(super) async fn running(&self, of: &str, on: Option<&str>) -> Result<BTreeSet<String>, String> {
        let seen = self.seen.get_or_init(|| self.everywhere()).await;
        let mut ids = BTreeSet::new();
        for node in nodes(self.plan, on)? {
            let running = seen.get(node).ok_or_else(|| format!("nobody looked into {}", node.name))?;
            ids.extend(running.as_ref().map_err(Clone::clone)?.get(of).into_iter().flatten().cloned());
        }
        Ok(ids)
    }

    /// Into every node that some probe asks for.
    async fn everywhere(&self) -> BTreeMap<&'a NodeId, Result<Running, String>> {
        let (mut places, mut workloads) = (BTreeSet::new(), BTreeSet::new());
        for probe in &self.plan.probes {
            if let ProbeSpec::Containers { of, on } | ProbeSpec::ContainerIdentities { of, on } = &probe.spec {
                places.extend(nodes(self.plan, on.as_deref()).into_iter().flatten());
                workloads.insert(of.as_str());
            }
        }
        let workloads = &workloads;
        join_all(places.into_iter().map(|node| async move { (node, self.inside(node, workloads).await) }))
            .await
            .into_iter()
            .collect()
    }

    async fn inside(&self, node: &NodeId, workloads: &BTreeSet<&str>) -> Result<Running, String> {
        match self.ask(node, workloads).await {
            Ok(running) => Ok(running),
            Err(why) => match self.engine.state(node).await {
                Ok(state) if state.pid == 0 => Ok(Running::new()),
                _ => Err(why),
            },
        }
    }

    async fn ask(&self, node: &NodeId, workloads: &BTreeSet<&str>) -> Result<Running, String> {
        let limit = self.timeout.mul_f64(ASKED);
        let seconds = format!("{:.3}", limit.as_secs_f64());
        let filters: Vec<String> = workloads.iter().map(|workload| filter(&self.plan.namespace, workload)).collect();
        // An exec outlives its deadline: what runs in the node has one of its own.
        let mut argv = vec!["timeout", &seconds, "sh", "-c", SCRIPT, "sh"];
        argv.extend(filters.iter().map(String::as_str));
        let output = self.engine.exec(node, &argv, None, limit).await.map_err(|e| format!("the engine: {e}"))?;
        let name = &node.name;
        if output.code != 0 {
            return Err(format!("containerd of {name}: code {}: {}", output.code, output.stderr.trim()));
        }
        let printed = String::from_utf8_lossy(&output.stdout);
        running(&printed, workloads).ok_or_else(|| format!("containerd of {name} did not say what runs"))
    }
}

/// The node of the target, or every node of Kubernetes.
fn nodes<'a>(plan: &'a Plan, on: Option<&str>) -> Result<Vec<&'a NodeId>, String> {
    match on {
        Some(target) => plan.targets.get(target).map(|n| vec![n]).ok_or_else(|| format!("`{target}` names no target")),
        None => Ok(plan.facts.nodes.values().filter(|n| n.role != Role::LoadBalancer).map(|n| &n.node).collect()),
    }
}

/// A workload's containers are called as the workload.
fn filter(namespace: &str, workload: &str) -> String {
    format!(r#"labels."io.kubernetes.pod.namespace"=={namespace},labels."io.kubernetes.container.name"=={workload}"#)
}

/// What the script printed: for each workload the ids of its containers, then a table of tasks.
fn running(printed: &str, workloads: &BTreeSet<&str>) -> Option<Running> {
    let mut lines = printed.lines();
    let mut of = |workload: &&str| {
        let ids: BTreeSet<String> = lines.by_ref().take_while(|line| !line.is_empty()).map(str::to_owned).collect();
        ((*workload).to_owned(), ids)
    };
    let mut found: Running = workloads.iter().map(&mut of).collect();
    if lines.next()?.split_whitespace().ne(["TASK", "PID", "STATUS"]) {
        return None;
    }
    let task = |row: &str| {
        let mut cells = row.split_whitespace();
        let id = cells.next()?;
        (cells.nth(1) == Some("RUNNING")).then(|| id.to_owned())
    };
    let run: BTreeSet<String> = lines.filter_map(task).collect();
    for ids in found.values_mut() {
        ids.retain(|id| run.contains(id));
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASKS: &str = "TASK    PID     STATUS    \na1      4711    RUNNING\na2      0       STOPPED\nb1      4712    RUNNING\nb2      4713    PAUSED\nc1      4714    RUNNING\n";

    fn of(printed: &str) -> Option<Vec<(String, Vec<String>)>> {
        let found = running(printed, &["lone", "web"].into())?;
        Some(found.into_iter().map(|(workload, ids)| (workload, ids.into_iter().collect())).collect())
    }

    fn is(lone: &[&str], web: &[&str]) -> Option<Vec<(String, Vec<String>)>> {
        let owned = |ids: &[&str]| ids.iter().map(ToString::to_string).collect();
        Some(vec![("lone".into(), owned(lone)), ("web".into(), owned(web))])
    }

    #[test]
    fn a_container_counts_if_it_is_of_the_workload_and_its_task_runs() {
        // c1 runs and is nobody's who was asked for; a3 has no task.
        assert_eq!(of(&format!("a1\na2\na3\n\nb1\nb2\n\n{TASKS}")), is(&["a1"], &["b1"]));
        assert_eq!(of(&format!("\nb1\n\n{TASKS}")), is(&[], &["b1"]));
        assert_eq!(of(&format!("a1\n\n\n{TASKS}")), is(&["a1"], &[]));
        assert_eq!(of("\n\nTASK    PID    STATUS    \n"), is(&[], &[]));
    }

    #[test]
    fn what_is_cut_short_says_nothing() {
        for printed in ["", "a1", "a1\n\n", "a1\n\nb1\n\n", &format!("a1\n{TASKS}"), "\n\nb1      4712    RUNNING\n"] {
            assert_eq!(of(printed), None, "{printed:?}");
        }
    }

    #[test]
    fn the_filter_is_containerd_s() {
        assert_eq!(
            filter("kchaos-x-00000001", "web"),
            r#"labels."io.kubernetes.pod.namespace"==kchaos-x-00000001,labels."io.kubernetes.container.name"==web"#
        );
    }
}
