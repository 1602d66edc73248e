//! How much of a node's processors a sampler asks for.
//!
//! It uses a few hundredths of one, but must get them at once: on a busy node, those who asked for more come first. So
//! it asks for what is to spare, and leaves as much to the pods that a fault may bring to the node.

use k8s_openapi::api::core::v1::{Container, Node, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::ListParams;
use kube::{Api, Client};

use super::failed;
use crate::error::Result;

/// Thousandths of a processor, which Kubernetes writes as `m`. A sampler runs on one thread.
const LEAST: u64 = 200;
const MOST: u64 = 1000;

/// What a sampler on this node should ask for.
///
/// # Errors
/// If the API does not say what the node has and what others have asked for.
pub(super) async fn of(client: &Client, node: &str) -> Result<String> {
    let there = ListParams::default().fields(&format!("spec.nodeName={node}"));
    let (nodes, pods) = (Api::<Node>::all(client.clone()), Api::<Pod>::all(client.clone()));
    let (found, pods) = tokio::join!(nodes.get(node), pods.list(&there));
    let said = found.and_then(|found| Ok((found, pods?)));
    let (found, pods) = said.map_err(|e| failed(&format!("look what {node} has to spare"), &e))?;
    Ok(format!("{}m", share(&found, &pods.items)))
}

fn share(node: &Node, pods: &[Pod]) -> u64 {
    let has = node.status.iter().flat_map(|status| &status.allocatable).filter_map(|has| has.get("cpu"));
    let has: u64 = has.filter_map(thousandths).sum();
    let asked: u64 = pods.iter().filter(|pod| !has_ended(pod)).map(asked_for).sum();
    (has.saturating_sub(asked) / 2).clamp(LEAST, MOST)
}

fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Init containers run one after another, before all others.
fn asked_for(pod: &Pod) -> u64 {
    let Some(spec) = &pod.spec else { return 0 };
    let each = |container: &Container| {
        let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        requests.and_then(|requests| requests.get("cpu")).and_then(thousandths).unwrap_or(0)
    };
    let first = spec.init_containers.iter().flatten().map(each).max().unwrap_or(0);
    first.max(spec.containers.iter().map(each).sum())
}

fn thousandths(quantity: &Quantity) -> Option<u64> {
    match quantity.0.strip_suffix('m') {
        Some(thousandths) => thousandths.parse().ok(),
        None => quantity.0.parse::<u64>().ok().map(|whole| whole * 1000),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn share_of(has: &str, pods: Value) -> u64 {
        let node = serde_json::from_value(json!({"metadata": {}, "status": {"allocatable": {"cpu": has}}})).unwrap();
        share(&node, &serde_json::from_value::<Vec<Pod>>(pods).unwrap())
    }

    fn asking(cpu: &[&str]) -> Value {
        let containers: Vec<Value> =
            cpu.iter().map(|cpu| json!({"name": "c", "resources": {"requests": {"cpu": cpu}}})).collect();
        json!({"metadata": {}, "spec": {"containers": containers}})
    }

    #[test]
    fn half_of_what_is_to_spare_within_bounds() {
        assert_eq!(share_of("2", json!([])), 1000);
        assert_eq!(share_of("2", json!([asking(&["250m", "200m"]), asking(&["100m"])])), 725);
        assert_eq!(share_of("1930m", json!([asking(&["1"])])), 465);
        assert_eq!(share_of("16", json!([asking(&["4"])])), 1000);
        assert_eq!(share_of("2", json!([asking(&["1900m"])])), 200);
        assert_eq!(share_of("2", json!([asking(&["3"])])), 200);
    }

    #[test]
    fn only_what_is_asked_for_now_counts() {
        let mut ended = asking(&["1"]);
        ended["status"] = json!({"phase": "Succeeded"});
        assert_eq!(share_of("2", json!([ended])), 1000);
        let mut with_init = asking(&["100m"]);
        with_init["spec"]["initContainers"] = asking(&["600m", "300m"])["spec"]["containers"].clone();
        assert_eq!(share_of("2", json!([with_init])), 700);
        assert_eq!(share_of("2", json!([{"metadata": {}, "spec": {"containers": [{"name": "c"}]}}])), 1000);
    }
}
