//! Resolving a scenario against a cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use rand::seq::IteratorRandom;

use super::window::{OBSERVED_AFTER, Reach, Use, end_of, outage_before, pods_of_a_node, start_of, window};
use super::{Edge, Operator, Phase, Plan, PlannedClaim, PlannedFault, PlannedProbe, PlannedRemedy, Span, reporting};
use crate::cluster::facts::{Facts, NodeFacts};
use crate::error::{Error, Exit, Result};
use crate::node::{NodeId, Role};
use crate::scenario::{
    CertificateOf, Claim, Dropped, FaultSpec, Name, ObjectName, Objects, Place, ProbeSpec, Remedy, Scenario, State,
    Target, Variant, Way, WindowName, Workload, WorkloadKind,
};

/// Resolves the named variant of a scenario (by default the first) against a cluster.
///
/// # Errors
/// If the scenario has no such variant, the variant has no claims, the cluster lacks the nodes that the variant needs,
/// or a window needs a setting that could not be read.
pub fn resolve(scenario: &Scenario, variant: Option<&str>, source: &str, facts: &Facts, seed: u64) -> Result<Plan> {
    let variant = scenario.variant(variant)?;
    fits(scenario, variant, facts)?;
    // A leader's node is unique, so it is chosen first. The other targets take other nodes.
    let (leading, others): (Vec<_>, Vec<_>) =
        scenario.targets_of(variant).partition(|(_, target)| target.leads.is_some());
    let wanted = leading.into_iter().chain(others);
    let targets = choose_targets(wanted, facts, seed).map_err(|error| error.next(where_it_fits(scenario)))?;
    let namespace = format!("kchaos-{}-{:08x}", scenario.scenario, seed & 0xffff_ffff);
    let faults = plan_faults(scenario, variant, &targets, facts, &namespace)?;
    partitions_have_another_end(&faults)?;
    let hidden = faults.iter().filter(|fault| fault.spec.hides_nodes()).map(|fault| &fault.node);
    let nodes = hidden.collect::<BTreeSet<_>>().len();
    let pods = pods_of_a_node(facts, scenario.workloads.values());
    let hides_api = variant.remedy == Some(Remedy::RestoreSnapshot)
        || faults
            .iter()
            .any(|fault| facts.nodes.get(&fault.node.name).is_some_and(|node| fault.spec.hides_api(node.role)));
    let reach = Reach { ends_before: variant.ends_before, nodes, remedy: variant.remedy, pods, hides_api };
    let claims: Vec<&Claim> = scenario.claims_about(&variant.name).collect();
    if claims.is_empty() {
        return Err(Error::with_exit(Exit::NothingSelected, format!("variant `{}` has no claims", variant.name)));
    }

    // A workload that is added once the API is broken is included only if a claim looks at it.
    let is_of_use = |name: &Name, workload: &Workload| {
        !workload.late || claims.iter().any(|claim| claim.probe.workload() == Some(name.as_str()))
    };
    let workloads = scenario.workloads.iter().filter(|(name, workload)| is_of_use(name, workload));
    let workloads = workloads.map(|(name, workload)| (name.to_string(), workload.clone())).collect();

    let mut probes: Vec<PlannedProbe> = Vec::new();
    let mut planned = Vec::new();
    for claim in claims {
        let probe = probes.iter().position(|p| p.spec == claim.probe).unwrap_or_else(|| {
            probes.push(plan_probe(&claim.probe));
            probes.len() - 1
        });
        planned.push(plan_claim(claim, probe, not_logged(&claim.probe, &targets, &faults, facts), &reach, facts)?);
    }

    let hit: BTreeSet<&NodeId> = variant.nodes().filter_map(|name| targets.get(name)).collect();
    let observers = facts
        .nodes
        .values()
        .filter(|n| n.role != Role::LoadBalancer && !hit.contains(&n.node))
        .map(|n| n.node.clone())
        .collect();
    let noticed_from = variant.ends_before.map(|name| start_of(name, facts)).transpose()?;
    let fault_for = match noticed_from.map(outage_before) {
        Some(outage) => Span { at_least: outage, at_most: outage },
        None => span(&planned, Phase::Fault),
    };
    let fault_for = match variant.lasts_beyond {
        Some(name) => {
            let at_least = fault_for.at_least.max(end_of(name, facts)? + OBSERVED_AFTER);
            Span { at_least, at_most: fault_for.at_most.max(at_least) }
        }
        None => fault_for,
    };
    Ok(Plan {
        scenario: scenario.scenario.to_string(),
        variant: variant.name.to_string(),
        other_arm: scenario.other_arm(variant).map(ToString::to_string),
        summary: scenario.summary.clone(),
        source: source.to_owned(),
        seed,
        facts: facts.clone(),
        namespace,
        targets,
        workloads,
        observers,
        faults,
        remedy: variant.remedy.map(|does| PlannedRemedy { does, watched_for: span(&planned, Phase::Remedy) }),
        recovery_for: recovery(&planned, variant.ends_before, facts)?,
        probes,
        claims: planned,
        fault_for,
        // A remedy is watched before the undo, so with one the outage is not meant to be short.
        over_within: noticed_from.filter(|_| variant.remedy.is_none()),
        majority_of: variant.majority_of,
        keep_alive: Vec::new(),
        manifests: None,
    })
}

/// What to do on a cluster that a scenario does not fit.
fn where_it_fits(scenario: &Scenario) -> String {
    format!("run it on a cluster of its topology: `kchaos up {}`", scenario.topology)
}

/// Checks that the cluster has as many control planes as the scenario assumes, and that the variant breaks as many nodes
/// of a role (all, or a majority) as its claims assume.
///
/// # Errors
/// If the cluster has fewer control planes, or more nodes of that role.
pub fn fits(scenario: &Scenario, variant: &Variant, facts: &Facts) -> Result<()> {
    let there = |role| facts.nodes.values().filter(|n| n.role == role).count();
    let unfit = |told| Err(Error::could_not_run(told).next(where_it_fits(scenario)));
    let planes = there(Role::ControlPlane);
    if let Some(least) = scenario.more_control_planes_than(planes) {
        return unfit(format!(
            "scenario `{}` is about {least} control planes or more, and cluster `{}` has {planes}",
            scenario.scenario, facts.cluster
        ));
    }
    let broken = variant.nodes().collect::<BTreeSet<_>>().len();
    let too_few = variant.all_of.filter(|role| broken < there(*role)).map(|role| (role, "all"));
    let too_few = too_few
        .or_else(|| variant.majority_of.filter(|role| 2 * broken < there(*role)).map(|role| (role, "a majority")));
    let Some((role, wanted)) = too_few else { return Ok(()) };
    unfit(format!(
        "variant `{}` breaks {wanted} of the nodes of a role, {broken} of them, and cluster `{}` has {}",
        variant.name,
        facts.cluster,
        there(role)
    ))
}

/// Checks that no node is restarted that would lose what could not be put back.
///
/// # Errors
/// If one would.
pub fn loses_nothing_for_good(plan: &Plan) -> Result<()> {
    let restarts = |fault: &&PlannedFault| match fault.spec {
        FaultSpec::Pause { .. } => false,
        FaultSpec::Restart { .. } => true,
        _ => fault.spec.shuts_node(),
    };
    for PlannedFault { node, .. } in plan.faults.iter().filter(restarts) {
        if let Some(data) = plan.facts.nodes.get(&node.name).and_then(|of| of.store_in_memory.as_ref()) {
            return Err(Error::could_not_run(format!(
                "{} can't be restarted: its etcd keeps its data in memory ({data}), and nothing could put them back",
                node.name
            ))
            .next(
                "`kchaos run storage-lost/restarted-on-ephemeral` shows on another cluster what becomes of one like it",
            ));
        }
    }
    Ok(())
}

/// Plans one fault for each node that a fault of the variant breaks.
fn plan_faults(
    scenario: &Scenario,
    variant: &Variant,
    targets: &BTreeMap<String, NodeId>,
    facts: &Facts,
    namespace: &str,
) -> Result<Vec<PlannedFault>> {
    let node = |name: &String| {
        let found = targets.get(name).cloned();
        found.ok_or_else(|| Error::usage(format!("the fault names `{name}`, which is no target")))
    };
    // A certificate is made with the authority's key, which only control planes have.
    let needs_operator = |spec: &FaultSpec| {
        spec.place() == Place::Api || matches!(spec, FaultSpec::CertificateExpired { of: CertificateOf::Kubelet, .. })
    };
    let by_operator = variant.remedy.is_some_and(Remedy::needs_operator) || variant.faults().any(needs_operator);
    let operator = match by_operator {
        true => Some(operators_node(variant, targets, facts)?),
        false => None,
    };
    if variant.remedy == Some(Remedy::RecoverFromSurvivor) {
        let broken: BTreeSet<_> = variant.nodes().filter_map(|name| targets.get(name)).collect();
        let planes = facts.nodes.values().filter(|n| n.role == Role::ControlPlane);
        let left = planes.filter(|n| !broken.contains(&n.node)).count();
        if left != 1 {
            return Err(Error::could_not_run(format!(
                "variant `{}` leaves {left} control planes of cluster `{}`, and is about recovering from the only one",
                variant.name, facts.cluster
            ))
            .next("run it on a cluster with three control planes: `kchaos up ha`"));
        }
    }
    let mut planned = Vec::new();
    for spec in variant.faults() {
        let mut broken = spec.nodes().iter().map(node).collect::<Result<Vec<_>>>()?;
        let peers = peers(spec, &broken, facts)?;
        if broken.is_empty() {
            broken.extend(operator.clone());
        }
        let objects = match spec {
            FaultSpec::Delete { workload, reclaim, .. } => {
                Some(objects_of(scenario, workload, namespace, reclaim.is_some())?)
            }
            FaultSpec::DeleteNamespace {} => Some(namespace_with_all(scenario, namespace)?),
            FaultSpec::VolumeLoss { of: workload, .. } | FaultSpec::ContainerKill { of: workload, .. } => {
                Some(objects_of(scenario, workload, namespace, false)?)
            }
            _ => None,
        };
        planned.extend(broken.into_iter().map(|node| PlannedFault {
            spec: spec.clone(),
            node,
            peers: peers.clone(),
            operator: operator.clone(),
            objects: objects.clone(),
        }));
    }
    Ok(planned)
}

/// The objects that a workload consists of, for a fault that deletes them; if it is wanted, with the claim of its volume.
fn objects_of(scenario: &Scenario, name: &str, namespace: &str, with_claim: bool) -> Result<Objects> {
    let workload = scenario.workloads.get(name);
    let workload = workload.ok_or_else(|| Error::usage(format!("a fault names `{name}`, which is no workload")))?;
    let kind = match workload.kind {
        WorkloadKind::Pod => "pod",
        WorkloadKind::Deployment => "deployment",
        WorkloadKind::StatefulSet => "statefulset",
        WorkloadKind::DaemonSet => "daemonset",
    };
    let kinds = [kind].into_iter().chain(workload.service.then_some("service")).map(|kind| (kind, name.to_owned()));
    let claim = with_claim.then(|| ("persistentvolumeclaim", Workload::claim_of(name)));
    let objects = kinds.chain(claim).map(|(kind, name)| Ok((word(kind)?, word(&name)?))).collect::<Result<_>>()?;
    Ok(Objects { namespace: word(namespace)?, objects })
}

/// The namespace of the workloads and what is in it, for a fault that deletes it, in an order in which it can be made
/// again.
fn namespace_with_all(scenario: &Scenario, namespace: &str) -> Result<Objects> {
    let mut objects = vec![(word("namespace")?, word(namespace)?), (word("serviceaccount")?, word(Workload::ACCOUNT)?)];
    for (name, workload) in scenario.workloads.iter().filter(|(_, workload)| !workload.late) {
        let shares_claim = workload.state == Some(State::Claim) && workload.kind != WorkloadKind::StatefulSet;
        let mut of = objects_of(scenario, name.as_str(), namespace, shares_claim)?.objects;
        if workload.min_available.is_some() {
            of.push((word("poddisruptionbudget")?, word(name.as_str())?));
        }
        if workload.kind == WorkloadKind::StatefulSet {
            of.push((word("service")?, word(&Workload::peers_of(name.as_str()))?));
        }
        // What a pod needs comes before it.
        objects.extend(of.into_iter().rev());
    }
    Ok(Objects { namespace: word(namespace)?, objects })
}

fn word(text: &str) -> Result<ObjectName> {
    text.parse().map_err(|_| Error::usage(format!("{text:?} can't be the name of an object")))
}

/// The control plane that the operator is logged in to: one that no fault breaks.
///
/// If there are several, it is the one that kubeadm set up first, because that one has access that does not depend on
/// RBAC.
fn operators_node(variant: &Variant, targets: &BTreeMap<String, NodeId>, facts: &Facts) -> Result<NodeId> {
    let broken: BTreeSet<&NodeId> = variant.nodes().filter_map(|name| targets.get(name)).collect();
    let free = facts.nodes.values().filter(|n| n.role == Role::ControlPlane && !broken.contains(&n.node));
    // kind gives the first one no number.
    let first = free.min_by_key(|n| (n.node.name.len(), &n.node.name)).map(|n| n.node.clone());
    first.ok_or_else(|| {
        Error::could_not_run(format!(
            "cluster `{}` has no control plane that is left for an operator to act from",
            facts.cluster
        ))
        .next("run it where there are several: `kchaos up ha`")
    })
}

/// The nodes whose packets a fault drops, all or some of them. Of a partition from users, the nodes that are still let through.
fn peers(spec: &FaultSpec, broken: &[NodeId], facts: &Facts) -> Result<Vec<NodeId>> {
    let others = |roles: &[Role]| -> Vec<NodeId> {
        let of = facts.nodes.values().filter(|n| roles.contains(&n.role) && !broken.contains(&n.node));
        of.map(|n| n.node.clone()).collect()
    };
    let drops = match spec {
        FaultSpec::Partition { drops, .. } => *drops,
        FaultSpec::PacketLoss { .. } => Dropped::Everything,
        _ => return Ok(Vec::new()),
    };
    let peers = match drops {
        Dropped::Everything => others(&[Role::ControlPlane, Role::Worker, Role::LoadBalancer]),
        Dropped::ToApi => others(&[Role::ControlPlane, Role::LoadBalancer]),
        Dropped::ToKubelet | Dropped::ToEtcd => others(&[Role::ControlPlane]),
        Dropped::FromUsers => {
            if let Some(balancer) = facts.nodes.values().find(|node| node.role == Role::LoadBalancer) {
                let told = format!("the nodes of cluster `{}` reach its API as its users do", facts.cluster);
                let through = format!("both through {}, so that users can't be cut off alone", balancer.node.name);
                return Err(Error::could_not_run(format!("{told}, {through}"))
                    .next("run it on a cluster with one control plane: `kchaos up single`"));
            }
            facts.nodes.values().map(|node| node.node.clone()).collect()
        }
    };
    if peers.is_empty() {
        return Err(Error::could_not_run(format!("cluster `{}` has no node to be cut off from", facts.cluster))
            .next("run it on one with more nodes: `kchaos up`"));
    }
    Ok(peers)
}

/// Checks that, for each partition and each bad network, some peer is left whose packets it can drop. For packets to a
/// kubelet, only the witnesses' own are certain to be sent.
fn partitions_have_another_end(faults: &[PlannedFault]) -> Result<()> {
    for cut in faults {
        let drops = match cut.spec {
            FaultSpec::Partition { drops, .. } => drops,
            FaultSpec::PacketLoss { .. } => Dropped::Everything,
            _ => continue,
        };
        let silences = |fault: &FaultSpec| match drops {
            // The other end is outside of the cluster.
            Dropped::FromUsers => false,
            Dropped::ToKubelet => fault.place() != Place::Api,
            Dropped::Everything | Dropped::ToApi | Dropped::ToEtcd => fault.shuts_node(),
        };
        let silent = |peer: &NodeId| faults.iter().any(|fault| fault.node == *peer && silences(&fault.spec));
        if cut.peers.iter().all(silent) {
            let told =
                format!("whatever {} would be cut off from is broken by other faults of the variant", cut.node.name);
            return Err(Error::could_not_run(format!("{told}, so nobody could see it"))
                .next("run it where there are more nodes, or leave one of the faults out"));
        }
    }
    Ok(())
}

/// Whether this node qualifies as the target.
pub(super) fn could_be(target: &Target, node: &NodeFacts, facts: &Facts) -> bool {
    let leads = target.leads.is_none_or(|leader| facts.leaders.get(&leader) == Some(&node.node.name));
    node.role == target.role && leads
}

/// Chooses a different node for each target. The seed decides among equal nodes.
fn choose_targets<'a>(
    targets: impl Iterator<Item = (&'a Name, &'a Target)>,
    facts: &Facts,
    seed: u64,
) -> Result<BTreeMap<String, NodeId>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut taken = BTreeSet::new();
    let mut chosen = BTreeMap::new();
    for (name, target) in targets {
        let free = facts.nodes.values().filter(|n| could_be(target, n, facts) && !taken.contains(&n.node.name));
        let node = free.choose(&mut rng).ok_or_else(|| {
            let role = serde_json::to_string(&target.role).unwrap_or_default();
            let leading = target.leads.map(|l| format!(" on which {} leads", l.name())).unwrap_or_default();
            Error::could_not_run(format!(
                "target `{name}` needs a node of role {role}{leading}, and cluster `{}` has none left",
                facts.cluster
            ))
        })?;
        taken.insert(node.node.name.clone());
        chosen.insert(name.to_string(), node.node.clone());
    }
    Ok(chosen)
}

/// The resolution of a token probe: anything shorter may go unseen.
const TOKEN_RESOLUTION: Duration = Duration::from_secs(3);
/// The resolution of a look for nodes that are missed: later looks tell of it, too.
const MISSED_RESOLUTION: Duration = Duration::from_secs(5);

/// Sets the rate of a probe, as high as its source can bear.
///
/// Requests are cheap, and the outages they measure are short. The engine and the API are asked twice a second, and
/// containers inside the nodes once a second: well below the shortest timer that they are compared with.
pub(super) fn plan_probe(spec: &ProbeSpec) -> PlannedProbe {
    let (interval, timeout) = match spec {
        // Each sample asks the cluster's DNS several times, since its search path is tried. A packet of that may get lost
        // on a network that is in order, and is sent again after a second.
        ProbeSpec::Requests { by: Way::Name, .. } => (250, 3_000),
        ProbeSpec::Requests { .. } | ProbeSpec::PodRequests { .. } | ProbeSpec::Reach(_) => (50, 1_000),
        ProbeSpec::Token { .. } => (250, 1_000),
        ProbeSpec::NodeState(_)
        | ProbeSpec::NodeProcesses(_)
        | ProbeSpec::ComponentProcesses { .. }
        | ProbeSpec::ComponentIdentities { .. }
        | ProbeSpec::KubeletAnswers(_)
        | ProbeSpec::ApiAnswers(_) => (500, 2_000),
        // Each sample reads a log, and what it looks for stays there for ten seconds.
        ProbeSpec::KubeletComplaints(_) => (2_000, 4_000),
        // Each sample takes several commands in each node.
        ProbeSpec::Containers { .. } | ProbeSpec::ContainerIdentities { .. } => (1_000, 4_000),
        ProbeSpec::NodeReady(_)
        | ProbeSpec::NodeTaints(_)
        | ProbeSpec::NodesMissed { .. }
        | ProbeSpec::Pods { .. }
        | ProbeSpec::PodIdentities { .. }
        | ProbeSpec::Restarts { .. }
        | ProbeSpec::Endpoints { .. }
        | ProbeSpec::Log { .. }
        | ProbeSpec::Api(_)
        | ProbeSpec::ApiOf { .. }
        | ProbeSpec::Leader(_) => (500, 2_000),
        // Each sample starts a process in the pod.
        ProbeSpec::Exec { .. } => (1_000, 4_000),
        // Each sample lists everything that was written.
        ProbeSpec::Writes(_) => (1_000, 4_000),
        // Each sample reads a log of all that was written, in every control plane.
        ProbeSpec::StaleWrites { .. } => (2_000, 4_000),
    };
    let (interval, timeout) = (Duration::from_millis(interval), Duration::from_millis(timeout));
    PlannedProbe {
        spec: spec.clone(),
        interval,
        timeout,
        resolution: match spec {
            // A lost token never comes back: an application that answers with another token goes on doing so.
            ProbeSpec::Token { .. } => TOKEN_RESOLUTION,
            // Who was missed is told by later looks, too, and the API is away at times where this is asked.
            ProbeSpec::NodesMissed { .. } => MISSED_RESOLUTION,
            // Many requests are in flight at once: if the observer stalls for half a deadline, it loses all requests
            // that time out in that time.
            ProbeSpec::Requests { .. } | ProbeSpec::PodRequests { .. } | ProbeSpec::Reach(_) => timeout,
            // One lost sample is tolerated.
            _ => 2 * interval,
        },
    }
}

/// Why nothing can be said about writes that are logged nowhere.
const NO_AUDIT_LOG: &str =
    "its API servers keep no audit log in a file, or not all in the same place (--audit-log-path)";

/// Why nothing can be said about kubelets of which it is not known what they report to.
const NO_RENEWALS_LOGGED: &str = "the audit logs of its API servers don't tell which of them each kubelet reports to";
/// Why nothing can be said about kubelets that report elsewhere.
const NOBODY_ELSEWHERE: &str = "the kubelets of all nodes that are not broken report to that one API server";

/// What the audit logs lack that a claim with this probe needs.
fn not_logged(
    probe: &ProbeSpec,
    targets: &BTreeMap<String, NodeId>,
    faults: &[PlannedFault],
    facts: &Facts,
) -> Option<&'static str> {
    match probe {
        ProbeSpec::StaleWrites { .. } => facts.audit_log.is_none().then_some(NO_AUDIT_LOG),
        ProbeSpec::NodesMissed { .. } if facts.reporting.is_empty() => Some(NO_RENEWALS_LOGGED),
        ProbeSpec::NodesMissed { not_reporting_to } => {
            let plane = targets.get(not_reporting_to)?;
            let elsewhere = reporting(facts, faults).any(|(_, to)| to != plane.name);
            (!elsewhere).then_some(NOBODY_ELSEWHERE)
        }
        _ => None,
    }
}

fn plan_claim(
    claim: &Claim,
    probe: usize,
    not_logged: Option<&str>,
    reach: &Reach,
    facts: &Facts,
) -> Result<PlannedClaim> {
    let operator = claim
        .operator()
        .ok_or_else(|| malformed(claim, "exactly one of `always`, `never`, `eventually`, `unchanged`"))?;
    let usage = match (claim.during, claim.before, claim.after) {
        (Some(w), None, None) => Use::During(w),
        (None, Some(w), None) => Use::Before(w),
        (None, None, Some(w)) => Use::After(w),
        _ => return Err(malformed(claim, "exactly one of `during`, `before`, `after`")),
    };
    let (window, no_window) = window(usage, reach, facts)?;
    let unsupported = no_window.or(not_logged.map(str::to_owned));
    Ok(PlannedClaim {
        id: claim.claim.to_string(),
        sentence: claim.sentence.clone(),
        says: claim.says.clone(),
        arm: claim.arm,
        line: claim.line,
        probe,
        operator,
        window,
        unsupported,
    })
}

impl Claim {
    /// What the claim says of the samples in its window; `None` unless it says exactly one thing.
    pub(crate) fn operator(&self) -> Option<Operator> {
        match (&self.always, &self.never, &self.eventually, &self.unchanged) {
            (Some(e), None, None, None) => Some(Operator::Always(e.clone())),
            (None, Some(e), None, None) => Some(Operator::Never(e.clone())),
            (None, None, Some(e), None) => Some(Operator::Eventually(e.clone())),
            (None, None, None, Some(_)) => Some(Operator::Unchanged),
            _ => None,
        }
    }
}

fn malformed(claim: &Claim, needs: &str) -> Error {
    Error::usage(format!("claim `{}` needs {needs}", claim.claim))
}

/// How long the recovery must last. A fault that ended before Kubernetes could notice is shown to be unnoticed only once
/// Kubernetes would have noticed one that went on.
fn recovery(claims: &[PlannedClaim], ends_before: Option<WindowName>, facts: &Facts) -> Result<Span> {
    let mut recovery = span(claims, Phase::Recovery);
    if let Some(window) = ends_before {
        recovery.at_least = recovery.at_least.max(end_of(window, facts)? + OBSERVED_AFTER);
        recovery.at_most = recovery.at_most.max(recovery.at_least);
    }
    Ok(recovery)
}

/// How long a phase must last so that every window in it is watched to its end.
fn span(claims: &[PlannedClaim], phase: Phase) -> Span {
    let mut span = Span { at_least: OBSERVED_AFTER, at_most: OBSERVED_AFTER };
    for window in claims.iter().map(|c| &c.window).filter(|w| w.phase == phase) {
        if let Edge::After(d) = window.to {
            span.at_most = span.at_most.max(d);
        }
        if let (Edge::After(d), Edge::PhaseEnd) = (window.from, window.to) {
            span.at_least = span.at_least.max(d + OBSERVED_AFTER);
        }
    }
    span.at_most = span.at_most.max(span.at_least);
    span
}
