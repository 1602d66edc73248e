//! A plan for each node that a variant could break, instead of only the node that the seed chooses.

use crate::cluster::facts::Facts;
use crate::error::{Error, Result};
use crate::scenario::{Scenario, Variant};

use super::Plan;
use super::resolve::could_be;

/// How many seeds are tried for a node. With a dozen nodes, any node is hit within a few dozen seeds.
const SEEDS: u64 = 10_000;

/// Names of the nodes that qualify for a target that the variant breaks, in order.
pub fn breakable(scenario: &Scenario, variant: &Variant, facts: &Facts) -> Vec<String> {
    let broken: Vec<_> = variant.nodes().filter_map(|name| scenario.targets.get(name.as_str())).collect();
    let breakable = facts.nodes.iter().filter(|(_, node)| broken.iter().any(|target| could_be(target, node, facts)));
    breakable.map(|(name, _)| name.clone()).collect()
}

/// The plan that breaks this node. It uses the first seed from `seed` on that does so, so the seed alone is enough to
/// repeat it.
///
/// # Errors
/// If a plan can't be made, or no seed tried leads to one that breaks this node.
pub fn breaking(node: &str, seed: u64, resolve: impl Fn(u64) -> Result<Plan>) -> Result<Plan> {
    for nth in 0..SEEDS {
        let plan = resolve(seed.wrapping_add(nth))?;
        if plan.breaks(node) {
            return Ok(plan);
        }
    }
    Err(Error::could_not_run(format!("no choice of targets breaks node {node}")))
}
