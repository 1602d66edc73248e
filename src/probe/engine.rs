//! What is, from below: containers and processes as the engine says, kubelets as another node's sees them.
//!
//! An engine that does not answer says nothing about the node, so its errors are `Unknown`. Beside the targets, each look asks for
//! the state of an observer, which must be running, and of a container that does not exist, which must be an error.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use super::slots::Slots;
use super::{Pace, Source, Taken, blind};
use crate::clock::Mono;
use crate::cluster::docker::{Engine, NodeId};
use crate::event::{Failure, Outcome, Value};
use crate::plan::Plan;
use crate::scenario::ProbeSpec;

const KUBELET_PORT: u16 = 10250;
/// Of the three questions that one look asks a kubelet's port and its canaries, each may take this share of the deadline.
const ASKED: u32 = 4;

/// Looks at the probed nodes, at its pace, for ever.
pub(super) async fn poll(plan: Arc<Plan>, probes: Vec<usize>, pace: Pace, engine: Engine, source: Source) {
    let mut slots = Slots::new(Mono::now(), pace.interval);
    let probes = Arc::new(probes);
    loop {
        let slot = slots.next().await;
        let (plan, probes, engine, source) = (Arc::clone(&plan), Arc::clone(&probes), engine.clone(), source.clone());
        tokio::spawn(async move {
            let looks = probes.iter().map(|&probe| {
                let look = look(&engine, &plan, &plan.probes[probe].spec, pace.timeout);
                Taken::take(&slot, within(pace.timeout, look))
            });
            let (seen, canaries) = tokio::join!(join_all(looks), within(pace.timeout, canaries(&engine, &plan)));
            for (&probe, (taken, outcome)) in probes.iter().zip(seen) {
                let outcome = match &canaries {
                    Outcome::Saw(_) => outcome,
                    bad => bad.clone(),
                };
                source.send(&taken, pace.timeout, probe, "", outcome).await;
            }
        });
    }
}

async fn within(timeout: Duration, look: impl Future<Output = Outcome>) -> Outcome {
    let late = |_| Outcome::Unknown("the engine did not answer in time".into());
    tokio::time::timeout(timeout, look).await.unwrap_or_else(late)
}

async fn look(engine: &Engine, plan: &Plan, spec: &ProbeSpec, timeout: Duration) -> Outcome {
    let (ProbeSpec::NodeState(target) | ProbeSpec::NodeProcesses(target) | ProbeSpec::KubeletAnswers(target)) = spec
    else {
        return Outcome::Unknown("not a probe of the engine".into());
    };
    let Some(node) = plan.targets.get(target) else {
        return Outcome::Unknown(format!("`{target}` names no target"));
    };
    let seen = match spec {
        ProbeSpec::NodeState(_) => engine.state(node).await.map(|s| Outcome::Saw(Value::Text(s.status))),
        ProbeSpec::NodeProcesses(_) => engine.processes(node).await.map(|n| Outcome::Saw(Value::Count(n))),
        _ => return kubelet(engine, plan, node, timeout).await,
    };
    seen.unwrap_or_else(|error| Outcome::Unknown(format!("the engine: {error}")))
}

async fn canaries(engine: &Engine, plan: &Plan) -> Outcome {
    let nobody = NodeId { id: "kchaos-canary-absent".into(), name: "kchaos-canary-absent".into() };
    if let Ok(state) = engine.state(&nobody).await {
        return blind(format!("the engine knows a container that does not exist ({})", state.status));
    }
    for observer in plan.observers.iter().take(1) {
        match engine.state(observer).await {
            Ok(state) if state.status == "running" => {}
            Ok(state) => return blind(format!("observer {} is {}", observer.name, state.status)),
            Err(error) => return Outcome::Unknown(format!("the engine: {error}")),
        }
    }
    Outcome::Saw(Value::Text("good".into()))
}

/// Asks the kubelet from an observer; any HTTP answer is one.
async fn kubelet(engine: &Engine, plan: &Plan, node: &NodeId, timeout: Duration) -> Outcome {
    let Some(peer) = plan.observers.first() else { return Outcome::Unknown("no node to ask from".into()) };
    let address = plan.facts.nodes.get(&node.name).and_then(|n| n.addresses.values().next());
    let Some(address) = address else { return Outcome::Unknown(format!("the address of {} is not known", node.name)) };
    let limit = format!("{:.3}", (timeout / ASKED).as_secs_f64());
    // Its own kubelet, which must answer, and a closed port, which must not, come first.
    let urls = [
        format!("https://127.0.0.1:{KUBELET_PORT}/healthz"),
        "https://127.0.0.1:1/".to_owned(),
        format!("https://{address}:{KUBELET_PORT}/healthz"),
    ];
    let mut argv =
        vec!["curl", "--silent", "--insecure", "--noproxy", "*", "--max-time", &limit, "--write-out", "%{http_code}\n"];
    for url in &urls {
        argv.extend(["--output", "/dev/null", url]);
    }
    match engine.exec(peer, &argv, None, timeout).await {
        Ok(output) => answered(&String::from_utf8_lossy(&output.stdout), output.code),
        Err(error) => Outcome::Unknown(format!("the engine: {error}")),
    }
}

/// What three `http_code`s and curl's exit code, which is that of the last transfer, say of the third.
fn answered(codes: &str, exit: i64) -> Outcome {
    const NONE: &str = "000";
    match codes.split_whitespace().collect::<Vec<_>>()[..] {
        [NONE, ..] => blind("the observer's own kubelet does not answer"),
        [_, bad, ..] if bad != NONE => blind("a closed port answers"),
        [_, _, NONE] => Outcome::Failed(match exit {
            7 => Failure::Refused,
            28 => Failure::Timeout,
            35 | 52 | 56 => Failure::Reset,
            other => Failure::Other(format!("curl exit code {other}")),
        }),
        [_, _, status] => Outcome::Saw(Value::Text(status.to_owned())),
        _ => Outcome::Unknown(format!("curl ended early with exit code {exit}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_http_answer_of_a_kubelet_is_an_answer() {
        assert_eq!(answered("401\n000\n401\n", 0), Outcome::Saw(Value::Text("401".into())));
        assert_eq!(answered("401\n000\n000\n", 7), Outcome::Failed(Failure::Refused));
        assert_eq!(answered("401\n000\n000\n", 28), Outcome::Failed(Failure::Timeout));
    }

    #[test]
    fn a_peer_that_sees_nothing_or_everything_proves_nothing() {
        assert!(matches!(answered("000\n000\n000\n", 28), Outcome::Unknown(why) if why.starts_with("probe-blind")));
        assert!(matches!(answered("401\n200\n200\n", 0), Outcome::Unknown(why) if why.starts_with("probe-blind")));
        assert!(matches!(answered("401\n", 137), Outcome::Unknown(_)));
    }
}
