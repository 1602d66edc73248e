//! What is, from below: containers and processes as the engine reports them, kubelets as another node sees them, and
//! what runs inside nodes as their containerd reports it.
//!
//! An engine that does not answer says nothing about the node, so its errors are `Unknown`. Beside the targets, each
//! look asks for the state of an observer, which must be running, and of a container that does not exist, which must be
//! an error.

mod containers;

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use self::containers::{Insides, Look};
use super::{Pace, Source, Taken, blind};
use crate::cluster::API_OF_KUBELET;
use crate::cluster::docker::{Engine, Residents};
use crate::node::NodeId;
use crate::plan::Plan;
use crate::sample::{Failure, Outcome, Value};
use crate::scenario::ProbeSpec;

const KUBELET_PORT: u16 = 10250;
const OWN_KUBELET: &str = "https://127.0.0.1:10250/healthz";
const CLOSED_PORT: &str = "https://127.0.0.1:1/";
/// Shell: prints the target, then a line for each question.
const ASK: &str = r#"target=${4:-$api}
echo "$target"
exec curl --silent --insecure --noproxy '*' --max-time "$3" --parallel --write-out '%{url_effective} %{http_code} %{exitcode}\n' \
	--output /dev/null "$1" --output /dev/null "$2" --output /dev/null "$target""#;
/// Shell: prints how many lines there are about a lease or a status that could not be sent. These are the messages of
/// Kubernetes' lease controller (`component-helpers`) and of the kubelet's `kubelet_node_status.go`.
const COMPLAINTS: &str = r#"of='journalctl --unit=kubelet --output=cat --quiet'
[ -n "$($of --lines=1)" ] && lately=$($of --since=-10s) || exit 1
echo "$lately" | grep -c -e 'Failed to update lease' -e 'Failed to ensure lease exists' -e 'Error updating node status'"#;
/// Share of the deadline that is left for the questions themselves; the rest is for the engine.
const ASKED: f64 = 0.75;
/// curl's exit code for a timeout.
const TIMED_OUT: u8 = 28;

/// Looks at the probed nodes at its pace, forever.
pub(super) async fn poll(plan: Arc<Plan>, probes: Vec<usize>, pace: Pace, engine: Engine, source: Source) {
    let residents = Residents::new(engine.clone());
    let insides = Insides::new(engine.clone(), residents.clone());
    let observer = Arc::new(Observer { engine, residents, insides, plan, timeout: pace.timeout });
    let probes = Arc::new(probes);
    super::poll(pace, source, &Arc::clone(&probes), move |slot| {
        let (observer, probes) = (Arc::clone(&observer), Arc::clone(&probes));
        async move {
            let inside = Look::new(&observer.insides, &observer.plan, pace.timeout);
            let looks = probes.iter().map(|&probe| {
                let look = observer.look(&observer.plan.probes[probe].spec, &inside);
                Taken::take(&slot, within(pace.timeout, look))
            });
            let (seen, canaries) = tokio::join!(join_all(looks), within(pace.timeout, observer.canaries()));
            let honest = |outcome| match &canaries {
                Outcome::Saw(_) => outcome,
                bad => bad.clone(),
            };
            probes.iter().zip(seen).map(|(&probe, (taken, outcome))| (probe, taken, honest(outcome))).collect()
        }
    })
    .await;
}

async fn within(timeout: Duration, look: impl Future<Output = Outcome>) -> Outcome {
    let late = |_| Outcome::Unknown("the engine did not answer in time".into());
    tokio::time::timeout(timeout, look).await.unwrap_or_else(late)
}

/// What this source looks with.
struct Observer {
    engine: Engine,
    residents: Residents,
    insides: Insides,
    plan: Arc<Plan>,
    timeout: Duration,
}

impl Observer {
    async fn look(&self, spec: &ProbeSpec, inside: &Look<'_>) -> Outcome {
        let target = match spec {
            ProbeSpec::NodeState(target)
            | ProbeSpec::NodeProcesses(target)
            | ProbeSpec::ComponentProcesses { node: target, .. }
            | ProbeSpec::ComponentIdentities { node: target, .. }
            | ProbeSpec::KubeletAnswers(target)
            | ProbeSpec::ApiAnswers(target)
            | ProbeSpec::KubeletComplaints(target) => target,
            ProbeSpec::Containers { of, on } => {
                let count = inside.running(of, on.as_deref()).await.map(|ids| Value::Count(ids.len() as u64));
                return count.map_or_else(Outcome::Unknown, Outcome::Saw);
            }
            ProbeSpec::ContainerIdentities { of, on } => {
                let ids = inside.running(of, on.as_deref()).await.map(Value::Set);
                return ids.map_or_else(Outcome::Unknown, Outcome::Saw);
            }
            _ => return Outcome::Unknown("not a probe of the engine".into()),
        };
        let Some(node) = self.plan.targets.get(target) else {
            return Outcome::Unknown(format!("`{target}` names no target"));
        };
        let seen = match spec {
            ProbeSpec::NodeState(_) => self.engine.state(node).await.map(|s| Outcome::Saw(Value::Text(s.status))),
            ProbeSpec::NodeProcesses(_) => {
                self.engine.processes(node, None).await.map(|pids| Outcome::Saw(Value::Count(pids.len() as u64)))
            }
            ProbeSpec::ComponentProcesses { component, .. } => {
                let pids = self.engine.processes(node, Some(component.comm())).await;
                pids.map(|pids| Outcome::Saw(Value::Count(pids.len() as u64)))
            }
            ProbeSpec::ComponentIdentities { component, .. } => {
                let pids = self.engine.processes(node, Some(component.comm())).await;
                pids.map(|pids| Outcome::Saw(Value::Set(pids)))
            }
            ProbeSpec::ApiAnswers(_) => return ask(&self.residents, node, None, self.timeout).await,
            ProbeSpec::KubeletComplaints(_) => return complaints(&self.residents, node, self.timeout).await,
            _ => return self.kubelet(node).await,
        };
        seen.unwrap_or_else(|error| Outcome::Unknown(format!("the engine: {error}")))
    }

    async fn canaries(&self) -> Outcome {
        // A full-length id: the engine is not even asked about any other.
        let nobody = NodeId { id: "0".repeat(64), name: "kchaos-canary-absent".into() };
        if let Ok(state) = self.engine.state(&nobody).await {
            return blind(format!("the engine knows a container that does not exist ({})", state.status));
        }
        for observer in self.plan.observers.iter().take(1) {
            match self.engine.state(observer).await {
                Ok(state) if state.status == "running" => {}
                Ok(state) => return blind(format!("observer {} is {}", observer.name, state.status)),
                Err(error) => return Outcome::Unknown(format!("the engine: {error}")),
            }
        }
        Outcome::Saw(Value::Text("good".into()))
    }

    /// Asks the node's kubelet from another node.
    async fn kubelet(&self, node: &NodeId) -> Outcome {
        let Some(peer) = self.plan.observers.first() else { return Outcome::Unknown("no node to ask from".into()) };
        let address = self.plan.facts.nodes.get(&node.name).and_then(|n| n.addresses.values().next());
        let Some(address) = address else {
            return Outcome::Unknown(format!("the address of {} is not known", node.name));
        };
        let kubelet = format!("https://{address}:{KUBELET_PORT}/healthz");
        ask(&self.residents, peer, Some(&kubelet), self.timeout).await
    }
}

/// Counts what the node's kubelet could not report to the API lately. A log in which nothing is of the kubelet is not the
/// one that it writes.
async fn complaints(residents: &Residents, node: &NodeId, timeout: Duration) -> Outcome {
    match residents.run(node, &["sh", "-c", COMPLAINTS], timeout).await {
        Ok(output) => match String::from_utf8_lossy(&output.stdout).trim().parse() {
            Ok(count) => Outcome::Saw(Value::Count(count)),
            Err(_) => blind(format!("the journal of {} has nothing of its kubelet", node.name)),
        },
        Err(error) => Outcome::Unknown(format!("the engine: {error}")),
    }
}

/// Asks the target from a node, or without a target the API server that the node's kubelet talks to.
///
/// It also asks that node's own kubelet, which must answer, and a closed port, which must not. Any HTTP answer counts
/// as an answer.
async fn ask(residents: &Residents, from: &NodeId, target: Option<&str>, timeout: Duration) -> Outcome {
    let limit = format!("{:.3}", timeout.as_secs_f64() * ASKED);
    let script = [API_OF_KUBELET, ASK].concat();
    let argv = ["sh", "-c", &script, "sh", OWN_KUBELET, CLOSED_PORT, &limit, target.unwrap_or_default()];
    match residents.run(from, &argv, timeout).await {
        Ok(output) => answered(&String::from_utf8_lossy(&output.stdout)),
        Err(error) => Outcome::Unknown(format!("the engine: {error}")),
    }
}

/// Reads the target's outcome from curl's output, given the outcomes of the two canaries. The first line names the
/// target; the others are `URL STATUS EXITCODE`.
fn answered(printed: &str) -> Outcome {
    let (target, lines) = printed.split_once('\n').unwrap_or_default();
    let of = |url: &str| {
        let mut line = lines.lines().find_map(|l| l.strip_prefix(url)?.strip_prefix(' '))?.split(' ');
        let status = line.next().filter(|status| *status != "000").map(str::to_owned);
        Some(status.ok_or(line.next().and_then(|code| code.parse::<u8>().ok())))
    };
    match (of(OWN_KUBELET), of(CLOSED_PORT), of(target)) {
        (Some(Err(Some(TIMED_OUT))), _, _) => Outcome::Unknown("the asking node's own kubelet is slow".into()),
        (Some(Err(_)), _, _) => blind("the asking node's own kubelet does not answer"),
        (_, Some(Ok(_)), _) => blind("a closed port answers"),
        (Some(Ok(_)), Some(Err(_)), Some(Ok(status))) => Outcome::Saw(Value::Text(status)),
        (Some(Ok(_)), Some(Err(_)), Some(Err(code))) => Outcome::Failed(match code {
            Some(7) => Failure::Refused,
            Some(TIMED_OUT) => Failure::Timeout,
            Some(35 | 52 | 56) => Failure::Reset,
            Some(other) => Failure::Other(format!("curl exit code {other}")),
            None => Failure::Other("no answer".into()),
        }),
        _ => Outcome::Unknown("curl did not say what became of its questions".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: &str = "https://172.18.0.3:10250/healthz";

    fn of(own: &str, closed: &str, target: &str) -> Outcome {
        // curl prints its lines in the order in which its questions end.
        answered(&format!("{TARGET}\n{TARGET} {target}\n{CLOSED_PORT} {closed}\n{OWN_KUBELET} {own}\n"))
    }

    #[test]
    fn any_http_answer_of_a_kubelet_is_an_answer() {
        assert_eq!(of("401 0", "000 7", "401 0"), Outcome::Saw(Value::Text("401".into())));
        assert_eq!(of("401 0", "000 7", "000 7"), Outcome::Failed(Failure::Refused));
        assert_eq!(of("401 0", "000 7", "000 28"), Outcome::Failed(Failure::Timeout));
    }

    #[test]
    fn a_peer_that_sees_nothing_or_everything_proves_nothing() {
        let blind = |o: Outcome| matches!(o, Outcome::Unknown(why) if why.starts_with("probe-blind"));
        assert!(blind(of("000 7", "000 7", "000 28")));
        assert!(blind(of("401 0", "200 0", "200 0")));
        assert!(matches!(of("000 28", "000 7", "000 28"), Outcome::Unknown(why) if why.contains("slow")));
        assert!(matches!(answered(""), Outcome::Unknown(_)));
    }
}
