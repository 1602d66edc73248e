//! What earlier runs left: unfinished journals, helper containers, changes inside nodes, networks without a cluster.

use super::{Check, Status};
use crate::cluster::docker::Engine;
use crate::error::Result;
use crate::in_node;
use crate::journal::{self, Standing};
use crate::lock::{AtWork, Lock};
use crate::provision;
use crate::run_dir::StateDir;

pub(super) async fn checks(engine: Option<&Engine>) -> Vec<Check> {
    let mut checks = runs(unfinished());
    if let Some(engine) = engine {
        checks.push(containers(engine.made_containers().await));
        checks.push(changes(in_nodes(engine).await));
        checks.extend(clusters(engine).await.unwrap_or_else(|e| vec![Check::of("clusters", Err(e))]));
    }
    checks
}

/// A run that began but did not end.
struct Unfinished {
    id: String,
    at_work: Option<AtWork>,
}

fn unfinished() -> Result<Vec<Unfinished>> {
    let runs = journal::unfinished(StateDir::from_env()?.list()?)?;
    let mut unfinished = Vec::new();
    for run in &runs {
        let at_work = Lock::at_work(run)?;
        // It may have ended just now.
        if at_work.is_some() || journal::standing(run)? == Standing::Unfinished {
            unfinished.push(Unfinished { id: run.id().to_owned(), at_work });
        }
    }
    Ok(unfinished)
}

fn runs(unfinished: Result<Vec<Unfinished>>) -> Vec<Check> {
    let name = "runs";
    let unfinished = match unfinished {
        Ok(unfinished) => unfinished,
        Err(e) => {
            let found = format!("what became of them can't be read: {e}");
            return vec![Check::bad(name, Status::Problem, found, "see what is in the way")];
        }
    };
    let at_work = unfinished.iter().filter_map(|run| Some(format!("{} is {}", run.id, run.at_work?)));
    let mut checks: Vec<_> = at_work.map(|told| Check::ok(name, told)).collect();
    let left: Vec<_> = unfinished.iter().filter(|run| run.at_work.is_none()).map(|run| run.id.as_str()).collect();
    if !left.is_empty() {
        let found = format!("left unfinished: {}", left.join(", "));
        checks.push(Check::bad(name, Status::Warning, found, "put back what a killed run left: kchaos rollback --all"));
    }
    if checks.is_empty() {
        checks.push(Check::ok(name, "every run ended"));
    }
    checks
}

/// `made` holds the name, cluster and purpose of each container.
fn containers(made: Result<Vec<(String, String, String)>>) -> Check {
    let name = "containers";
    match made {
        Ok(made) if made.is_empty() => Check::ok(name, "no helper container is left"),
        Ok(made) => {
            let names: Vec<_> = made.iter().map(|(name, ..)| name.as_str()).collect();
            let told: Vec<_> =
                made.iter().map(|(name, cluster, purpose)| format!("{name} ({purpose}, cluster {cluster})")).collect();
            let remedy = format!("unless a run is going on: docker rm -f {}", names.join(" "));
            Check::bad(name, Status::Warning, format!("left over: {}", told.join(", ")), remedy)
        }
        Err(e) => Check::of(name, Err(e)),
    }
}

/// Commands that undo the changes inside running nodes, whoever made their cluster.
async fn in_nodes(engine: &Engine) -> Result<Vec<String>> {
    let mut left = Vec::new();
    for cluster in engine.clusters().await? {
        for node in engine.nodes(&cluster).await? {
            if engine.state(&node.id).await?.status == "running" {
                left.extend(in_node::left_in(engine, &node.id).await?);
            }
        }
    }
    Ok(left)
}

fn changes(left: Result<Vec<String>>) -> Check {
    let name = "nodes";
    match left {
        Ok(left) if left.is_empty() => Check::ok(name, "nothing is changed inside of a node"),
        Ok(left) => {
            let found = match left.len() {
                1 => "something is changed inside of a node".to_owned(),
                places => format!("something is changed inside of nodes, in {places} places"),
            };
            let next = format!("unless a run is going on there, whoever's it is: {}", left.join("; "));
            Check::bad(name, Status::Warning, found, next)
        }
        Err(e) => Check::of(name, Err(e)),
    }
}

async fn clusters(engine: &Engine) -> Result<Vec<Check>> {
    let name = "clusters";
    let (mut whole, mut empty, mut down) = (Vec::new(), Vec::new(), Vec::new());
    for cluster in provision::made_clusters(engine).await? {
        let nodes = engine.nodes(&cluster).await?;
        let mut states = Vec::new();
        for node in &nodes {
            states.push((node.id.name.clone(), engine.state(&node.id).await?.status));
        }
        down.extend(not_running(&states));
        if nodes.is_empty() { empty.push(cluster) } else { whole.push(format!("{cluster} ({} nodes)", nodes.len())) }
    }
    let found = match whole.join(", ") {
        none if none.is_empty() => "none that kchaos made".to_owned(),
        some => format!("kchaos made {some}"),
    };
    let mut checks = vec![Check::ok(name, found)];
    checks.extend(empty.iter().map(|cluster| {
        Check::bad(name, Status::Warning, format!("{cluster} was left half-made"), format!("kchaos down {cluster}"))
    }));
    checks.extend(down);
    Ok(checks)
}

/// The nodes of one cluster, by name and state, that do not run while others do. A cluster of which no node runs was shut
/// down as a whole, as with its engine.
fn not_running(nodes: &[(String, String)]) -> Vec<Check> {
    if nodes.iter().all(|(_, state)| state == "exited") {
        return Vec::new();
    }
    let down = nodes.iter().filter(|(_, state)| state != "running");
    let told = down.map(|(node, state)| {
        let call = if state == "paused" { "unpause" } else { "start" };
        let next = format!("unless a run is going on there, whoever's it is: docker {call} {node}");
        Check::bad("clusters", Status::Warning, format!("{node} is {state}"), next)
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn what_is_left_is_named_with_the_command_that_removes_it() {
        let run = |id: &str, at_work| Unfinished { id: id.into(), at_work };
        let other = run("other", Some(AtWork::Guardian(7)));
        let checks = runs(Ok(vec![run("20260101T000000Z-node-shutdown-1234", None), other]));
        let found: Vec<_> = checks.iter().map(|check| (check.status, check.found.as_str())).collect();
        let left = "left unfinished: 20260101T000000Z-node-shutdown-1234";
        let being_put_back = "other is being put back by its guardian: process 7";
        assert_eq!(found, [(Status::Ok, being_put_back), (Status::Warning, left)]);
        let check = changes(Ok(vec!["docker exec a sh b restore c".into()]));
        assert_eq!(check.status, Status::Warning);
        assert!(check.remedy.unwrap().ends_with("docker exec a sh b restore c"));
        let check = containers(Ok(vec![("sad_turing".into(), "ha".into(), "placeholder".into())]));
        assert_eq!(check.found, "left over: sad_turing (placeholder, cluster ha)");
        assert_eq!(check.remedy.as_deref(), Some("unless a run is going on: docker rm -f sad_turing"));
    }

    #[test]
    fn a_node_that_does_not_run_beside_others_is_named() {
        let nodes = |states: &[&str]| {
            let named = states.iter().enumerate().map(|(n, state)| (format!("n{n}"), (*state).to_owned()));
            not_running(&named.collect::<Vec<_>>()).into_iter().filter_map(|check| check.remedy).collect::<Vec<_>>()
        };
        assert_eq!(nodes(&["running", "running"]), [""; 0]);
        assert_eq!(nodes(&["exited", "exited"]), [""; 0]);
        let told = nodes(&["running", "paused", "exited"]);
        assert!(told[0].ends_with("docker unpause n1") && told[1].ends_with("docker start n2"), "{told:?}");
    }

    #[test]
    fn nothing_left_is_ok_and_what_cannot_be_read_is_not() {
        assert_eq!(runs(Ok(vec![])).first().map(|check| check.status), Some(Status::Ok));
        assert_eq!(runs(Err(Error::could_not_run("x"))).first().map(|check| check.status), Some(Status::Problem));
        assert_eq!(containers(Ok(vec![])).status, Status::Ok);
        assert_eq!(containers(Err(Error::could_not_run("x"))).status, Status::Problem);
    }
}
