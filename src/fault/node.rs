//! Faults of a whole node: power off, stop, pause, restart, restart loop.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::cluster::docker::{ContainerState, Engine};
use crate::error::{Error, Result};
use crate::node::{NodeId, RestartPolicy};
use crate::plan::PlannedFault;
use crate::scenario::FaultSpec;
use crate::undo::Undo;
use crate::unwind::IN_FLIGHT;

/// Grace period of a clean stop; what has not shut down by then is killed. System pods may take all the time they are
/// given (CoreDNS takes 5 s, others as long as they may). With the 10 s of `docker stop`, the shortest node-monitor
/// grace period would be over before the node is seen to be down.
const STOP_GRACE: Duration = Duration::from_secs(5);
// The undo of a stop that was cut off waits for `IN_FLIGHT`, until the stop can no longer happen.
const _: () = assert!(STOP_GRACE.as_secs() + 2 <= IN_FLIGHT.as_secs());
/// How long a restart policy may take to bring a killed node back. The engine's own delay starts at 0.1 s and doubles.
const BACK_WITHIN: Duration = Duration::from_secs(20);

/// How long a node in a restart loop lives. Its kubelet must not get to report, or the node is never missed: of nodes
/// that lived for 2 s, one went on being Ready (docs/findings.md).
const LIFE: Duration = Duration::from_millis(300);
/// How long it may have lived in the end, as the start and the kill take their time as well. A kubelet's first report
/// takes longer: of 17 that lived for 2.2 s, not all came to it.
const LONGEST_LIFE: Duration = Duration::from_millis(1_500);
/// Pause after a step of a restart loop that failed: the engine may be away.
const FAILED_PAUSE: Duration = Duration::from_millis(500);

/// Returns the state of a node, which must be running: every fault needs that.
pub(super) async fn running(engine: &Engine, node: &NodeId) -> Result<ContainerState> {
    let state = engine.state(node).await?;
    if state.status != "running" {
        return Err(Error::could_not_run(format!(
            "{} can't be broken: it is {}, not running",
            node.name, state.status
        ))
        .next(match state.status.as_str() {
            "created" => {
                format!("it has never run; if it is no node of the cluster, remove it: docker rm {}", node.name)
            }
            _ => "bring it back first: kchaos rollback --all undoes what earlier runs have left".to_owned(),
        }));
    }
    Ok(state)
}

/// Returns what undoes a fault of the container; empty for any other fault.
pub(super) async fn prepare(engine: &Engine, fault: &PlannedFault, state: &ContainerState) -> Result<Vec<Undo>> {
    let node = &fault.node;
    let policy = Undo::SetRestartPolicy { node: node.clone(), policy: state.restart_policy };
    match fault.spec {
        FaultSpec::PowerOff { .. } | FaultSpec::RestartLoop { .. } => {
            keeps_address(engine, node, state).await?;
            // The start comes last: recovery is counted from it.
            Ok(vec![policy, start(node, state)])
        }
        FaultSpec::Stop { .. } => {
            keeps_address(engine, node, state).await?;
            Ok(vec![start(node, state)])
        }
        FaultSpec::Pause { .. } => Ok(vec![Undo::Unpause { node: node.clone() }]),
        FaultSpec::Restart { .. } => {
            keeps_address_by_policy(engine, node, state).await?;
            Ok(vec![policy, start(node, state)])
        }
        _ => Ok(Vec::new()),
    }
}

/// Injects the fault if it is one of the container.
pub(super) async fn inject(engine: &Engine, fault: &PlannedFault) -> Result<()> {
    let node = &fault.node;
    match fault.spec {
        FaultSpec::PowerOff { .. } | FaultSpec::RestartLoop { .. } => power_off(engine, node).await,
        FaultSpec::Stop { .. } => engine.stop(node, STOP_GRACE).await,
        FaultSpec::Pause { .. } => pause(engine, node).await,
        FaultSpec::Restart { .. } => restart(engine, node).await,
        _ => Ok(()),
    }
}

/// Starts and kills the node by turns, until `stop` says so or `may` is false. Does not stop in the midst of a step. The
/// engine's own restart policy would not do: it waits for longer each time.
///
/// If a life lasts too long to be one of a node that does not get through its boot, the node is left running, and the
/// witnesses see that the loop is over.
pub(super) async fn restart_over_and_over(
    engine: &Engine,
    undo: &[Undo],
    may: impl Fn() -> bool,
    stop: &CancellationToken,
) {
    let Some((node, addresses)) = undo.iter().find_map(|undo| match undo {
        Undo::Start { node, addresses } => Some((node, addresses)),
        _ => None,
    }) else {
        return;
    };
    let (mut is_up, mut over) = (false, false);
    while !stop.is_cancelled() && may() {
        let step = if is_up { kill(engine, node).await } else { engine.start_at(node, addresses).await.map(|()| None) };
        let pause = match step {
            Ok(lived) => {
                is_up = !is_up;
                if let Some(lived) = lived.filter(|lived| *lived > LONGEST_LIFE) {
                    let lived = lived.as_secs_f64();
                    tracing::warn!("{} lived for {lived:.1} s in its restart loop, so that ends", node.name);
                    over = true;
                }
                if over && is_up {
                    return;
                }
                if is_up { LIFE } else { Duration::ZERO }
            }
            // It may be up or down, if an answer did not come. A step that is out of place is refused or changes nothing.
            Err(error) => {
                tracing::debug!("{error}");
                is_up = !is_up;
                FAILED_PAUSE
            }
        };
        let _ = tokio::time::timeout(pause, stop.cancelled()).await;
    }
}

/// Kills the node, and returns how long it had lived.
async fn kill(engine: &Engine, node: &NodeId) -> Result<Option<Duration>> {
    engine.kill_init(node).await?;
    Ok(engine.state(node).await?.lived)
}

fn start(node: &NodeId, state: &ContainerState) -> Undo {
    Undo::Start { node: node.clone(), addresses: state.addresses.clone().into_iter().collect() }
}

async fn keeps_address(engine: &Engine, node: &NodeId, state: &ContainerState) -> Result<()> {
    match engine.address_at_risk(state).await? {
        None => Ok(()),
        Some(why) => Err(address_lost(node, &why)),
    }
}

async fn keeps_address_by_policy(engine: &Engine, node: &NodeId, state: &ContainerState) -> Result<()> {
    match engine.address_after_restart(state).await? {
        None => Ok(()),
        Some(other) => {
            Err(address_lost(node, &format!("its restart policy would start it at {other}, which is lower and free")))
        }
    }
}

fn address_lost(node: &NodeId, why: &str) -> Error {
    Error::could_not_run(format!("{} would not get its address back: {why}", node.name))
        .next("use a cluster made by kchaos up, which fixes the addresses of its nodes")
}

async fn power_off(engine: &Engine, node: &NodeId) -> Result<()> {
    engine.set_restart_policy(node, RestartPolicy::No).await?;
    match engine.state(node).await?.pid {
        0 => Ok(()),
        _ => engine.kill_init(node).await,
    }
}

async fn pause(engine: &Engine, node: &NodeId) -> Result<()> {
    match engine.state(node).await?.status.as_str() {
        "paused" => Ok(()),
        _ => engine.pause(node).await,
    }
}

/// Kills the node, and lets its restart policy start it again. The policy is set first, because the existing one may be
/// used up: kind's nodes are restarted once, and then not until somebody has started them.
async fn restart(engine: &Engine, node: &NodeId) -> Result<()> {
    engine.set_restart_policy(node, RestartPolicy::Always).await?;
    engine.kill_init(node).await?;
    back(engine, node).await
}

async fn back(engine: &Engine, node: &NodeId) -> Result<()> {
    let give_up = tokio::time::Instant::now() + BACK_WITHIN;
    loop {
        let state = engine.state(node).await?;
        if state.status == "running" && state.pid != 0 {
            return Ok(());
        }
        if tokio::time::Instant::now() > give_up {
            let (status, policy) = (state.status, state.restart_policy);
            return Err(Error::could_not_run(format!(
                "{} was killed and is {status} (restart policy {policy})",
                node.name
            )));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
