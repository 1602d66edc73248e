//! The containers of workloads that run inside the nodes, whatever the API or a kubelet believes: each node's
//! containerd is asked.
//!
//! One look into the nodes serves all probes of a slot. Nothing runs in a node that is down; a node that is up but
//! can't be looked into is unknown. A container's owner never changes, so owners are asked for only when a container
//! runs that was not there before: what a look costs the machine, other observers lose.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::OnceCell;

use super::ASKED;
use crate::cluster::docker::{Engine, Residents};
use crate::node::{NodeId, Role};
use crate::plan::Plan;
use crate::scenario::ProbeSpec;

const TASKS: &str = "ctr -n k8s.io tasks ls";
/// Shell: prints a list for each filter, ended by an empty line.
const CONTAINERS: &str = r#"set -e; for filter; do ctr -n k8s.io containers ls -q "$filter"; echo; done"#;
const OF_KUBERNETES: &str = r#"labels."io.kubernetes.pod.namespace"==kube-system"#;

/// Ids of running containers, by workload.
type Running = BTreeMap<String, BTreeSet<String>>;

/// Owners of a node's containers, by container id.
type Owners = HashMap<String, Owner>;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Owner {
    Workload(String),
    /// Kubernetes itself. Every node has some of its containers: a look that does not find them is blind, and what it
    /// does not see counts for nothing.
    Kubernetes,
    Other,
}

/// The nodes, and what is known about their containers from one look to the next.
pub(super) struct Insides {
    engine: Engine,
    residents: Residents,
    owners: Mutex<HashMap<NodeId, Owners>>,
}

impl Insides {
    pub(super) fn new(engine: Engine, residents: Residents) -> Self {
        Self { engine, residents, owners: Mutex::default() }
    }
}

/// A look into the nodes, taken when a probe first asks for it.
pub(super) struct Look<'a> {
    insides: &'a Insides,
    plan: &'a Plan,
    timeout: Duration,
    seen: OnceCell<BTreeMap<&'a NodeId, Result<Running, String>>>,
}

impl<'a> Look<'a> {
    pub(super) fn new(insides: &'a Insides, plan: &'a Plan, timeout: Duration) -> Self {
        Self { insides, plan, timeout, seen: OnceCell::new() }
    }

    /// Ids of the workload's containers that run on this target's node, or on any node; or why they are unknown.
    pub(super) async fn running(&self, of: &str, on: Option<&str>) -> Result<BTreeSet<String>, String> {
        let seen = self.seen.get_or_init(|| self.everywhere()).await;
        let mut ids = BTreeSet::new();
        for node in nodes(self.plan, on)? {
            let running = seen.get(node).ok_or_else(|| format!("nobody looked into {}", node.name))?;
            ids.extend(running.as_ref().map_err(Clone::clone)?.get(of).into_iter().flatten().cloned());
        }
        Ok(ids)
    }

    /// Looks into every node that some probe asks about.
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
            Err(why) => match self.insides.engine.state(node).await {
                Ok(state) if state.pid == 0 => Ok(Running::new()),
                _ => Err(why),
            },
        }
    }

    async fn ask(&self, node: &NodeId, workloads: &BTreeSet<&str>) -> Result<Running, String> {
        let unclear = || format!("containerd of {} did not say what runs", node.name);
        let run = running(&self.containerd(node, TASKS, &[]).await?).ok_or_else(unclear)?;
        let known =
            |owners: &HashMap<NodeId, Owners>| owners.get(node).and_then(|owners| owned(&run, owners, workloads));
        if let Some(running) = known(&self.insides.owners.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(running);
        }
        let mut filters = vec![OF_KUBERNETES.to_owned()];
        filters.extend(workloads.iter().map(|workload| filter(&self.plan.namespace, workload)));
        let owners =
            owners(&self.containerd(node, CONTAINERS, &filters).await?, &run, workloads).ok_or_else(unclear)?;
        if !owners.values().any(|owner| *owner == Owner::Kubernetes) {
            return Err(format!("probe-blind: no container of kube-system in {}", node.name));
        }
        let running = of_workloads(&run, &owners, workloads);
        self.insides.owners.lock().unwrap_or_else(PoisonError::into_inner).insert(node.clone(), owners);
        Ok(running)
    }

    /// Standard output of a script in the node, run with these arguments.
    async fn containerd(&self, node: &NodeId, script: &str, args: &[String]) -> Result<String, String> {
        let limit = self.timeout.mul_f64(ASKED);
        let seconds = format!("{:.3}", limit.as_secs_f64());
        // A command outlives the engine call's deadline, so it gets a deadline of its own inside the node.
        let mut argv = vec!["timeout", &seconds, "sh", "-c", script, "sh"];
        argv.extend(args.iter().map(String::as_str));
        let asked = self.insides.residents.run(node, &argv, limit).await;
        let output = asked.map_err(|e| format!("the engine: {e}"))?;
        match output.code {
            0 => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            code => Err(format!("containerd of {}: code {code}: {}", node.name, output.stderr.trim())),
        }
    }
}

/// The node of the target, or every node of Kubernetes.
fn nodes<'a>(plan: &'a Plan, on: Option<&str>) -> Result<Vec<&'a NodeId>, String> {
    match on {
        Some(target) => plan.targets.get(target).map(|n| vec![n]).ok_or_else(|| format!("`{target}` names no target")),
        None => Ok(plan.facts.nodes.values().filter(|n| n.role != Role::LoadBalancer).map(|n| &n.node).collect()),
    }
}

/// Containerd's filter for a workload's containers, which have the workload's name.
fn filter(namespace: &str, workload: &str) -> String {
    format!(r#"labels."io.kubernetes.pod.namespace"=={namespace},labels."io.kubernetes.container.name"=={workload}"#)
}

/// Ids of the running tasks in a table of tasks; `None` if it is no such table.
fn running(printed: &str) -> Option<BTreeSet<String>> {
    let mut lines = printed.lines();
    if lines.next()?.split_whitespace().ne(["TASK", "PID", "STATUS"]) {
        return None;
    }
    let task = |row: &str| {
        let mut cells = row.split_whitespace();
        let id = cells.next()?;
        (cells.nth(1) == Some("RUNNING")).then(|| id.to_owned())
    };
    Some(lines.filter_map(task).collect())
}

/// Owners of the running containers, from lists of ids: those of Kubernetes itself, then those of each workload. `None`
/// if the lists are cut short.
fn owners(printed: &str, run: &BTreeSet<String>, workloads: &BTreeSet<&str>) -> Option<Owners> {
    // A container that is in no list belongs to none of the workloads asked for, or has gone meanwhile.
    let mut owners: Owners = run.iter().map(|id| (id.clone(), Owner::Other)).collect();
    let mut lines = printed.lines();
    let lists = std::iter::once(Owner::Kubernetes).chain(workloads.iter().map(|&of| Owner::Workload(of.to_owned())));
    for owner in lists {
        loop {
            match lines.next()? {
                "" => break,
                id => owners.insert(id.to_owned(), owner.clone()),
            };
        }
    }
    Some(owners)
}

/// The workloads' running containers, if `owners` suffices: it knows every running container, and one of them is of
/// Kubernetes itself.
fn owned(run: &BTreeSet<String>, owners: &Owners, workloads: &BTreeSet<&str>) -> Option<Running> {
    let sighted = run.iter().any(|id| owners.get(id) == Some(&Owner::Kubernetes));
    let told = sighted && run.iter().all(|id| owners.contains_key(id));
    told.then(|| of_workloads(run, owners, workloads))
}

fn of_workloads(run: &BTreeSet<String>, owners: &Owners, workloads: &BTreeSet<&str>) -> Running {
    let mut found: Running = workloads.iter().map(|&of| (of.to_owned(), BTreeSet::new())).collect();
    for id in run {
        if let Some(Owner::Workload(of)) = owners.get(id)
            && let Some(ids) = found.get_mut(of)
        {
            ids.insert(id.clone());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "TASK    PID     STATUS    \n";
    const TASKS: &str = "k1      1       RUNNING\na1      4711    RUNNING\na2      0       STOPPED\nb1      4712    RUNNING\nb2      4713    PAUSED\nc1      4714    RUNNING\n";
    const LISTS: &str = "k1\nk2\n\na1\na2\na3\n\nb1\nb2\n\n";

    fn workloads() -> BTreeSet<&'static str> {
        ["lone", "web"].into()
    }

    fn run() -> BTreeSet<String> {
        running(&format!("{HEADER}{TASKS}")).unwrap()
    }

    fn is(lone: &[&str], web: &[&str]) -> Running {
        let owned = |ids: &[&str]| ids.iter().map(ToString::to_string).collect();
        [("lone".to_owned(), owned(lone)), ("web".to_owned(), owned(web))].into()
    }

    #[test]
    fn a_container_counts_if_it_is_of_the_workload_and_its_task_runs() {
        // c1 runs but belongs to no workload that was asked for; a3 has no task.
        let of = |lists: &str| of_workloads(&run(), &owners(lists, &run(), &workloads()).unwrap(), &workloads());
        assert_eq!(of(LISTS), is(&["a1"], &["b1"]));
        assert_eq!(of("k1\n\n\nb1\n\n"), is(&[], &["b1"]));
        assert_eq!(of("k1\n\na1\n\n\n"), is(&["a1"], &[]));
        assert_eq!(running(HEADER), Some(BTreeSet::new()));
    }

    #[test]
    fn whose_it_is_is_asked_again_if_one_is_not_known_or_none_is_of_kubernetes() {
        let known = owners(LISTS, &run(), &workloads()).unwrap();
        assert_eq!(owned(&run(), &known, &workloads()), Some(is(&["a1"], &["b1"])));
        // Fewer containers run, and one runs that had stopped.
        let some = |ids: &[&str]| ids.iter().map(ToString::to_string).collect();
        assert_eq!(owned(&some(&["k2", "a2"]), &known, &workloads()), Some(is(&["a2"], &[])));
        assert_eq!(owned(&some(&["k1", "d1"]), &known, &workloads()), None);
        assert_eq!(owned(&some(&["a1", "c1"]), &known, &workloads()), None);
        assert_eq!(owned(&some(&[]), &known, &workloads()), None);
    }

    #[test]
    fn what_is_cut_short_says_nothing() {
        for cut in 0..LISTS.len() {
            assert_eq!(owners(&LISTS[..cut], &run(), &workloads()), None, "{cut}");
        }
        for printed in ["", TASKS] {
            assert_eq!(running(printed), None, "{printed:?}");
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
