//! The words that reports share: durations, faults, probes, verdicts. Everything here is plain text.

use std::collections::BTreeSet;
use std::time::Duration;

use super::fold::Clock;
use super::{
    AtLeast, Claim, Counts, Down, Evidence, Outage, Outcome, Recovery, Remedied, Seconds, Time, Window, Writes,
};
use crate::clock::Mono;
use crate::component::Component;
use crate::event::{Checkpoint, Disturbance, Phase};
use crate::node::Role;
use crate::page::Page;
use crate::plan::{KEEP_ALIVE, Plan};
use crate::rounding;
use crate::scenario::{
    ApiServerOfStore, ApiVerb, Arm, BadConfig, CertificateOf, Dropped, FaultSpec, PodState, ProbeSpec, Reclaim, Remedy,
    StoreLeft, StoreOfRestarted, Unanswered, Variant, VolumeLeft, WriteState,
};
use crate::verdict::Verdict;

/// A duration in seconds, to a tenth (below one second: in milliseconds).
pub(super) fn seconds(Seconds(d): Seconds) -> String {
    if d == Duration::ZERO { "0 s".into() } else { rounding::down(d) }
}

/// `12.9–13.2 s`.
fn range(Seconds(from): Seconds, Seconds(to): Seconds) -> String {
    rounding::range(from, to)
}

/// `12.9–13.2 s`, or `at least 56.1 s` where the end is unknown.
pub(super) fn at_least(a: AtLeast) -> String {
    match a.at_most {
        Some(at_most) => range(a.at_least, at_most),
        None => format!("at least {}", seconds(a.at_least)),
    }
}

/// When something is expected, from a reader's point of view.
pub(super) fn window(w: &Window) -> String {
    let (phase, cause) = match w.phase {
        Phase::Remedy => ("remedy", "the remedy"),
        Phase::Recovery => ("recovery", "the undo"),
        Phase::Fault => ("fault", "the fault"),
        _ => ("baseline", "the start"),
    };
    match (w.from, w.to) {
        (None, None) => format!("during the whole {phase}"),
        (None, Some(to)) => format!("up to {} after {cause}", seconds(to)),
        (Some(from), None) => format!("from {} after {cause} to the end of the {phase}", seconds(from)),
        (Some(from), Some(to)) => format!("{} after {cause}", range(from, to)),
    }
}

/// The first setting that bounds a window, without where it was read from.
pub(super) fn setting(w: &Window) -> Option<&str> {
    let first = w.bounded_by.first()?;
    Some(first.split(" (").next().unwrap_or(first))
}

/// Glyph of a verdict. It is the same everywhere, so that a verdict is never told by colour alone.
pub(super) fn glyph(verdict: Verdict) -> char {
    match verdict {
        Verdict::Upheld => '✓',
        Verdict::Refuted => '✗',
        Verdict::Inconclusive => '?',
        Verdict::Unsupported => '–',
    }
}

/// Name of a verdict.
pub(super) fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Upheld => "upheld",
        Verdict::Refuted => "refuted",
        Verdict::Inconclusive => "inconclusive",
        Verdict::Unsupported => "unsupported",
    }
}

/// Glyph of a whole run.
pub(super) fn outcome_glyph(outcome: Outcome) -> char {
    match outcome {
        Outcome::Upheld => '✓',
        Outcome::Refuted | Outcome::Dirty => '✗',
        Outcome::Inconclusive | Outcome::Interrupted => '?',
        Outcome::Unsupported | Outcome::NothingSelected => '–',
    }
}

/// Name of an outcome.
pub(super) fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Dirty => "left dirty",
        Outcome::Interrupted => "interrupted",
        Outcome::Refuted => "refuted",
        Outcome::Inconclusive => "inconclusive",
        Outcome::Unsupported => "unsupported",
        Outcome::Upheld => "upheld",
        Outcome::NothingSelected => "nothing selected",
    }
}

/// `14 claims: 12 upheld, 1 refuted, 1 inconclusive`.
pub(super) fn counts(c: Counts) -> String {
    let parts: Vec<String> = [
        (c.upheld, "upheld"),
        (c.refuted, "refuted"),
        (c.inconclusive, "inconclusive"),
        (c.unsupported, "unsupported"),
    ]
    .into_iter()
    .filter(|(n, _)| *n > 0)
    .map(|(n, word)| format!("{n} {word}"))
    .collect();
    match c.all() {
        0 => "no claims".into(),
        1 => format!("1 claim: {}", parts.join(", ")),
        n => format!("{n} claims: {}", parts.join(", ")),
    }
}

/// The claim that decides the outcome of a run: the first with the gravest verdict.
pub(super) fn deciding(claims: &[Claim]) -> Option<&Claim> {
    let gravest = claims.iter().map(|c| c.verdict).max()?;
    claims.iter().find(|c| c.verdict == gravest)
}

/// Name of an arm.
pub(super) fn arm(arm: Arm) -> &'static str {
    match arm {
        Arm::Treatment => "treatment",
        Arm::Control => "control",
    }
}

/// Name of a phase.
pub(super) fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Setup => "setup",
        Phase::Baseline => "baseline",
        Phase::Fault => "fault",
        Phase::Remedy => "remedy",
        Phase::Undo => "undo",
        Phase::Recovery => "recovery",
        Phase::Collect => "collect",
        Phase::Cleanup => "cleanup",
    }
}

/// When witnesses were asked.
pub(super) fn checkpoint(checkpoint: Checkpoint) -> &'static str {
    match checkpoint {
        Checkpoint::Baseline => "before the fault",
        Checkpoint::Injected => "after injection",
        Checkpoint::WindowEnd => "at the end of the fault phase",
        Checkpoint::Undone => "after the undo",
    }
}

/// What the plan breaks that a highly available set-up can't do without, if it does.
pub(super) fn exceeded(plan: &Plan) -> Option<String> {
    let broken = |name: &str| plan.faults.iter().any(|fault| fault.node.name == name);
    let of = |role| plan.facts.nodes.iter().filter(move |(_, node)| node.role == role);
    let lost = |role| (of(role).filter(|(name, _)| broken(name)).count(), of(role).count());
    let (what, (lost, all)) = match plan.majority_of {
        Some(Role::ControlPlane) => ("control planes", lost(Role::ControlPlane)),
        Some(Role::Worker) => ("workers", lost(Role::Worker)),
        Some(Role::LoadBalancer) => ("load balancers", lost(Role::LoadBalancer)),
        None => match lost(Role::LoadBalancer) {
            (0, _) => return None,
            _ => return Some("the load balancer".to_owned()),
        },
    };
    let components: BTreeSet<_> = plan.faults.iter().map(|fault| fault.spec.component().map(Component::name)).collect();
    Some(match components.first() {
        // Etcd has no majority then, so that control planes are lost with it.
        Some(Some(one)) if components.len() == 1 && *one != Component::Etcd.name() => {
            format!("{one} of {lost} of {all} {what}")
        }
        _ => format!("{lost} of {all} {what}"),
    })
}

/// The loss of what a set-up can't do without, so that nobody takes it for one that was carried.
pub(super) fn more_than_carried(lost: &str) -> String {
    format!("{lost}: more than the set-up is meant to survive")
}

/// What becomes of the API server when etcd is started again.
fn beside(api_server: ApiServerOfStore) -> &'static str {
    match api_server {
        ApiServerOfStore::Restarted => "with the API server",
        ApiServerOfStore::Kept => "beside the API server that there was",
    }
}

/// What a fault does to a node.
pub(super) fn fault(spec: &FaultSpec, node: &str) -> String {
    match spec {
        FaultSpec::PowerOff { .. } => format!("{node} loses its power"),
        FaultSpec::Stop { .. } => format!("{node} is shut down"),
        FaultSpec::Pause { .. } => format!("{node} freezes"),
        FaultSpec::Restart { store: StoreOfRestarted::Kept, .. } => format!("{node} is killed and restarts"),
        FaultSpec::Restart { store: StoreOfRestarted::Lost, .. } => {
            format!("{node} is killed and restarts, without what its etcd had stored")
        }
        FaultSpec::RestartLoop { .. } => format!("{node} crashes and restarts over and over"),
        FaultSpec::KubeletStop { .. } => format!("the kubelet of {node} is stopped"),
        FaultSpec::KubeletFreeze { watchdog: false, .. } => format!("the kubelet of {node} freezes"),
        FaultSpec::KubeletFreeze { watchdog: true, .. } => {
            format!("the kubelet of {node} freezes, and systemd watches over it")
        }
        FaultSpec::KubeletKill { restart: true, .. } => {
            format!("the kubelet of {node} is killed, and its unit starts another")
        }
        FaultSpec::KubeletKill { restart: false, .. } => {
            format!("the kubelet of {node} is killed, and its unit starts none")
        }
        FaultSpec::KubeletCrash { .. } => format!("the kubelet of {node} crashes again and again"),
        FaultSpec::KubeletConfig { file: BadConfig::Invalid, .. } => {
            format!("the kubelet of {node} gets a configuration that it can't read")
        }
        FaultSpec::KubeletConfig { file: BadConfig::Removed, .. } => {
            format!("the kubelet of {node} loses its configuration")
        }
        FaultSpec::ComponentDown { component, .. } => format!("{} of {node} is down", component.name()),
        FaultSpec::ComponentKill { component, .. } => {
            format!("{} of {node} is killed, and its kubelet starts another", component.name())
        }
        FaultSpec::ComponentFreeze { component, .. } => format!("{} of {node} freezes", component.name()),
        FaultSpec::ComponentFlag { component, flag, .. } => {
            format!("{} of {node} is started anew with {flag}", component.name())
        }
        FaultSpec::StoreLoss { left: StoreLeft::Nothing, api_server, .. } => {
            format!("etcd of {node} loses all that it has stored, and is started again {}", beside(*api_server))
        }
        FaultSpec::StoreLoss { left: StoreLeft::Garbage, api_server, .. } => {
            format!("what etcd of {node} has stored is spoilt, and it is started again {}", beside(*api_server))
        }
        FaultSpec::Partition { drops: Dropped::Everything, nodes } => {
            let verb = if node.contains(" and ") { "are" } else { "is" };
            let from = if nodes.len() > 1 { "the other side" } else { "the other nodes" };
            format!("{node} {verb} cut off from {from}")
        }
        FaultSpec::Partition { drops: Dropped::ToApi, .. } => format!("{node} can't reach any API server"),
        FaultSpec::Partition { drops: Dropped::ToKubelet, .. } => {
            format!("no control plane can reach the kubelet of {node}")
        }
        FaultSpec::Partition { drops: Dropped::ToEtcd, .. } => {
            format!("etcd of {node} can't reach any other member, though they can reach it")
        }
        FaultSpec::Partition { drops: Dropped::FromUsers, .. } => {
            format!("nobody outside of the cluster can reach the API server of {node}")
        }
        FaultSpec::PacketLoss { percent, .. } => {
            format!("{percent} of the packets between {node} and the other nodes get lost")
        }
        FaultSpec::MemberLoss { .. } => {
            format!("etcd of {node}, one member of several, is lost with all that it had stored")
        }
        FaultSpec::CertificateExpired { of: CertificateOf::KubeApiserver, .. } => {
            format!("the certificate of the API server of {node} has expired, and it is started anew with it")
        }
        FaultSpec::CertificateExpired { of: CertificateOf::EtcdPeer, .. } => {
            format!(
                "the certificate that etcd of {node} shows to other members has expired, and it is started anew with it"
            )
        }
        FaultSpec::CertificateExpired { of: CertificateOf::Kubelet, .. } => {
            format!("the certificate of the kubelet of {node} has expired, and it is started anew with it")
        }
        FaultSpec::VolumeLoss { of, left: VolumeLeft::Nothing, .. } => {
            format!("the volume of {of} on {node} is gone, and its container killed")
        }
        FaultSpec::VolumeLoss { of, left: VolumeLeft::Empty, .. } => {
            format!("the volume of {of} on {node} is emptied, and its container killed")
        }
        FaultSpec::VolumeLoss { of, left: VolumeLeft::ReadOnly, .. } => {
            format!("the volume of {of} on {node} can only be read, and its container is killed")
        }
        FaultSpec::VolumeLoss { of, left: VolumeLeft::Full, .. } => {
            format!("the volume of {of} on {node} is full, and its container killed")
        }
        FaultSpec::ContainerKill { of, .. } => {
            format!("the containers of {of} on {node} are killed once, and its kubelet starts others")
        }
        FaultSpec::Drain { .. } => format!("an operator drains {node} of this scenario's pods"),
        FaultSpec::Delete { workload, reclaim: Some(Reclaim::Delete), .. } => {
            format!("an operator deletes {workload} and the claim of its volume, which goes with it")
        }
        FaultSpec::Delete { workload, reclaim: Some(Reclaim::Retain), .. } => {
            format!("an operator deletes {workload} and the claim of its volume, which is retained")
        }
        FaultSpec::DeleteNamespace {} => "an operator deletes the namespace of the workloads".to_owned(),
        FaultSpec::Delete { workload, held: false, .. } => format!("an operator deletes {workload}"),
        FaultSpec::Delete { workload, held: true, .. } => {
            format!("an operator deletes {workload}, which a finalizer holds that nobody removes")
        }
        FaultSpec::DeleteBinding { name } => format!("an operator deletes the ClusterRoleBinding {name}"),
        FaultSpec::DeadWebhook { unanswered: Unanswered::Refuses } => {
            "an operator has every write approved by a webhook that nobody serves, and refused without it".to_owned()
        }
        FaultSpec::DeadWebhook { unanswered: Unanswered::LetsThrough } => {
            "an operator has every write approved by a webhook that nobody serves, and let through without it"
                .to_owned()
        }
    }
}

/// What the faults of a variant do, with targets named as in the scenario.
pub(super) fn faults(variant: &Variant) -> String {
    let told: Vec<String> = variant.faults().map(|spec| fault(spec, &spec.nodes().join(" and "))).collect();
    told.join(", and ")
}

/// What a remedy does.
pub(super) fn remedy(remedy: Remedy) -> &'static str {
    match remedy {
        Remedy::RestoreSnapshot => {
            "the API server's storage is restored from the snapshot that was taken before the fault"
        }
        Remedy::RestoreCopy => "the volume is filled from the copy that was taken before the fault",
        Remedy::ReplaceMember => "the member of etcd is removed, and added anew with nothing stored",
        Remedy::RecoverFromSurvivor => {
            "the member of etcd that is left goes on alone, and the lost one is added anew with nothing stored"
        }
        Remedy::OutOfService => "the node is tainted as out of service",
        Remedy::DeleteNode => "the node is deleted from the API",
    }
}

/// Whose kubelets may be taken for down with the API server that they report to.
pub(super) fn kubelets(nodes: &[impl AsRef<str>], plane: &str) -> Option<String> {
    let names: Vec<&str> = nodes.iter().map(AsRef::as_ref).collect();
    let those = names.join(", ");
    let told = || format!("of {those} report to the API server of {plane}: these nodes may be taken for down with it");
    (!names.is_empty()).then(told)
}

/// What became of writes.
pub(super) fn writes(writes: Writes) -> String {
    format!("{} of {} acknowledged writes lost", writes.lost, writes.acknowledged)
}

/// A remedy and its result.
pub(super) fn remedied(remedy: &Remedied) -> String {
    let became = match (&remedy.error, remedy.done) {
        (Some(error), _) => format!("NOT done: {error}"),
        (None, Some(done)) => format!("done in {}", seconds(Seconds(done.to.0.saturating_sub(done.from.0)))),
        (None, None) => "not begun".to_owned(),
    };
    let saved = remedy.saved.as_ref().map(|saved| format!(" ({saved})")).unwrap_or_default();
    format!("{}{saved}: {became}", remedy.what)
}

/// How far others set the cluster back, if it is worth a word.
pub(super) fn contended(time: &Time) -> Option<String> {
    let behind = time.contended.filter(|behind| behind.0 >= Duration::from_secs(1))?;
    Some(format!("the cluster may be {} behind, since its processors were busy elsewhere", seconds(behind)))
}

/// What a recovery by hand took and lost.
pub(super) fn recovery(recovery: &Recovery) -> Vec<String> {
    let time = recovery.time.map(|took| {
        format!("recovery time (RTO): writes are acknowledged {} after the remedy was begun", at_least(took))
    });
    let point = recovery.point.map(|age| {
        format!("recovery point (RPO): the store had taken writes for {} since the snapshot", at_least(age))
    });
    let lost = recovery.writes_lost.map(|n| match n {
        0 => "no acknowledged write is lost".to_owned(),
        1 => "1 acknowledged write is lost".to_owned(),
        n => format!("{n} acknowledged writes are lost"),
    });
    [time, point, lost].into_iter().flatten().collect()
}

/// What a probe looks at, with targets named as in the scenario.
pub(super) fn probe(spec: &ProbeSpec) -> String {
    probe_on(spec, &|target| target.to_owned())
}

/// What a probe of a plan looks at, with targets replaced by their nodes' names.
pub(super) fn planned_probe(plan: &Plan, probe: usize) -> String {
    let node = |target: &str| plan.targets.get(target).map_or_else(|| target.to_owned(), |node| node.name.clone());
    plan.probes.get(probe).map(|p| probe_on(&p.spec, &node)).unwrap_or_default()
}

fn probe_on(spec: &ProbeSpec, node: &dyn Fn(&str) -> String) -> String {
    let from =
        |from: &Option<String>| from.as_ref().map_or_else(String::new, |target| format!(" from {}", node(target)));
    let place = |on: &Option<String>| on.as_ref().map_or_else(String::new, |target| format!(" on {}", node(target)));
    match spec {
        ProbeSpec::NodeState(target) => format!("container state of {}", node(target)),
        ProbeSpec::NodeProcesses(target) => format!("processes on {}", node(target)),
        ProbeSpec::ComponentProcesses { node: target, component } => {
            format!("processes of {} on {}", component.name(), node(target))
        }
        ProbeSpec::ComponentIdentities { node: target, component } => {
            format!("identities of the processes of {} on {}", component.name(), node(target))
        }
        ProbeSpec::KubeletAnswers(target) => format!("answers from the kubelet of {}", node(target)),
        ProbeSpec::ApiAnswers(target) => format!("answers from the API server to {}", node(target)),
        ProbeSpec::KubeletComplaints(target) => {
            format!("what the kubelet of {} could not report to the API in 10 s", node(target))
        }
        ProbeSpec::Containers { of, on } => format!("running containers of {of}{}", place(on)),
        ProbeSpec::ContainerIdentities { of, on } => {
            format!("identities of the running containers of {of}{}", place(on))
        }
        ProbeSpec::NodeReady(target) => format!("Ready condition of {}", node(target)),
        ProbeSpec::NodeTaints(target) => format!("taints of {}", node(target)),
        ProbeSpec::NodesMissed { not_reporting_to } => {
            format!("nodes not Ready whose kubelets do not report to {}", node(not_reporting_to))
        }
        ProbeSpec::Pods { of, that, on, off } => {
            let that = match that {
                PodState::Existing => "",
                PodState::Ready => "ready ",
                PodState::Terminating => "terminating ",
                PodState::Live => "live ",
                PodState::Ended => "ended ",
                PodState::Unstarted => "unstarted ",
            };
            let place = match off {
                Some(target) if on.is_none() => format!(" off {}", node(target)),
                _ => place(on),
            };
            format!("{that}pods of {of}{place}")
        }
        ProbeSpec::PodIdentities { of } => format!("identities of the pods of {of}"),
        ProbeSpec::Restarts { of } => format!("container restarts of {of}"),
        ProbeSpec::Endpoints { of, on } => format!("endpoints of {of}{}", place(on)),
        ProbeSpec::Requests { to, from: there, by } => {
            format!("requests to {to}{}{}", by.words(), from(there))
        }
        ProbeSpec::PodRequests { to, from: there } => format!("requests to the pods of {to}{}", from(there)),
        ProbeSpec::Reach(address) => format!("requests to {address}"),
        ProbeSpec::Log { of } => format!("log of {of}"),
        ProbeSpec::Exec { of } => format!("command in {of}"),
        ProbeSpec::Token { of } => format!("token kept by {of}"),
        ProbeSpec::Api(ApiVerb::Read) => "reads from the API".into(),
        ProbeSpec::Api(ApiVerb::ReadCached) => "reads from the API's memory".into(),
        ProbeSpec::Api(ApiVerb::ReadDefault) => "reads of the namespace `default` from the API".into(),
        ProbeSpec::Api(ApiVerb::ReadByOperator) => "reads from the API with the key for the last resort".into(),
        ProbeSpec::Api(ApiVerb::Write) => "writes to the API".into(),
        ProbeSpec::ApiOf { node: target, verb } => {
            let asked = match verb {
                ApiVerb::Read => "reads from",
                ApiVerb::ReadCached => "reads from the memory of",
                ApiVerb::ReadDefault => "reads of the namespace `default` from",
                ApiVerb::ReadByOperator => "reads with the key for the last resort from",
                ApiVerb::Write => "writes to",
            };
            format!("{asked} the API server of {} alone", node(target))
        }
        ProbeSpec::Writes(WriteState::Lost) => "acknowledged writes that are lost".into(),
        ProbeSpec::Writes(WriteState::Refused) => "refused writes that are there".into(),
        ProbeSpec::Leader(leader) => format!("node on which {} leads", leader.name()),
        ProbeSpec::StaleWrites { by, that } => {
            format!("{} writes by a {} while another one leads", that.name(), by.name())
        }
    }
}

/// The page sentence with this id, if there is one.
pub(super) fn sentence(id: &str) -> Option<String> {
    if id == KEEP_ALIVE {
        return Some("what you want kept alive, beside what the page says".into());
    }
    let sentence = Page::get().sentence(id)?;
    Some(match &sentence.of {
        Some(failure) if sentence.is_mitigation() => format!("{} (against: {failure})", sentence.says),
        Some(failure) => format!("{failure}: {}", sentence.says),
        None => sentence.says.clone(),
    })
}

/// A deciding sample: when, from where, what.
pub(super) fn evidence(e: &Evidence) -> String {
    let series = if e.series.is_empty() { String::new() } else { format!("{}, ", e.series) };
    format!("at {} of the run: {series}sample {}: {}", range(e.from, e.to), e.slot, e.outcome)
}

/// The outages of one series of requests.
pub(super) fn outage(o: &Outage) -> String {
    let series = if o.series.is_empty() { String::new() } else { format!(" from {}", o.series) };
    format!("{}{series}: {}", o.probe, outages(&[o]).join(", "))
}

/// The outages of the requests of one probe, over all its series: the worst counts.
pub(super) fn outages(series: &[&Outage]) -> Vec<String> {
    let (failed, samples) = series.iter().fold((0, 0), |(f, s), o| (f + o.failed, s + o.samples));
    let worst = |of: fn(&Outage) -> Option<&Down>| {
        series.iter().filter_map(|o| of(o)).max_by_key(|d| (d.to.is_none(), d.took.at_least))
    };
    let Some(failing) = worst(|o| o.failing.as_ref()) else {
        return vec![format!("no outage: all {samples} answered")];
    };
    let end = if failing.to.is_none() { ", to the end" } else { "" };
    let mut lines = vec![format!("failing for {}{end}: {failed} of {samples} unanswered", at_least(failing.took))];
    if let Some(longest) = worst(|o| o.longest.as_ref()).filter(|l| l.took != failing.took) {
        lines.push(format!(
            "at most {} in a row",
            longest.took.at_most.map_or_else(|| at_least(longest.took), |Seconds(d)| rounding::up(d))
        ));
    }
    lines
}

/// Whether a claim is stated in a line of a file.
pub(super) fn has_line(claim: &Claim) -> bool {
    claim.sentence != KEEP_ALIVE && is_file(&claim.file)
}

/// Where a claim is stated. A built-in scenario has a name but no file; a claim from the command line has neither.
pub(super) fn place(claim: &Claim) -> String {
    if claim.sentence == KEEP_ALIVE {
        "the command line (--keep-alive)".into()
    } else if has_line(claim) {
        format!("{}:{}", claim.file, claim.line)
    } else {
        format!("built-in scenario {}, line {}", claim.file, claim.line)
    }
}

/// Whether a scenario's source is a file. Names contain neither slash nor dot.
pub(super) fn is_file(source: &str) -> bool {
    source.contains(['/', '.'])
}

/// Each item once, in the order of first occurrence.
pub(super) fn unique<'a>(items: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut unique = Vec::new();
    for item in items {
        if !unique.contains(&item) {
            unique.push(item);
        }
    }
    unique
}

/// The part as a percentage of the whole.
pub(super) fn percent(Seconds(part): Seconds, Seconds(whole): Seconds) -> u128 {
    (part.as_micros() * 100).checked_div(whole.as_micros()).unwrap_or(0)
}

/// What an audit that found no difference says. Nodes that somebody removed during the run are not looked for.
pub(super) fn as_before(removed: &[String]) -> String {
    match removed {
        [] => "the cluster is as it was before".to_owned(),
        removed => {
            format!("the cluster is as it was before, but for {}, which somebody has removed", removed.join(", "))
        }
    }
}

/// What disturbed a run.
pub(super) fn disturbance(d: &Disturbance, at: Mono, clock: Clock) -> String {
    let when = seconds(clock.at(at));
    match d {
        Disturbance::NodeRemoved(node) => {
            format!("at {when}: {node} was found to be removed, so nothing can be put back there")
        }
        Disturbance::GoneOff(node) => {
            format!("at {when}: the dead man's switch in {node} had gone off: it had undone the fault by itself")
        }
    }
}

/// The name of a unit variant as it is written in files.
pub(super) fn kebab(name: impl serde::Serialize) -> String {
    match serde_json::to_value(name) {
        Ok(serde_json::Value::String(s)) => s,
        other => unreachable!("only unit variants are named, not {other:?}"),
    }
}
