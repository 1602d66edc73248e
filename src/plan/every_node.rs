//! One plan for each node that a variant could break, where otherwise the seed decides.

use crate::cluster::facts::Facts;
use crate::error::{Error, Result};
use crate::scenario::{Scenario, Variant};

use super::Plan;
use super::resolve::could_be;

/// So many seeds are tried for a node. Of a dozen nodes any is hit within a few dozen.
const SEEDS: u64 = 10_000;

/// Names of the nodes that some target which the variant breaks could stand for, in order.
pub fn breakable(scenario: &Scenario, variant: &Variant, facts: &Facts) -> Vec<String> {
    let broken: Vec<_> = variant.nodes().filter_map(|name| scenario.targets.get(name.as_str())).collect();
    let breakable = facts.nodes.iter().filter(|(_, node)| broken.iter().any(|target| could_be(target, node, facts)));
    breakable.map(|(name, _)| name.clone()).collect()
}

/// The plan that breaks this node, with the first seed from `seed` on that leads to it; so that the seed alone is enough to repeat it.
///
/// # Errors
/// If no plan can be made, or none breaks this node.
pub fn breaking(node: &str, seed: u64, resolve: impl Fn(u64) -> Result<Plan>) -> Result<Plan> {
    for nth in 0..SEEDS {
        let plan = resolve(seed.wrapping_add(nth))?;
        if plan.breaks(node) {
            return Ok(plan);
        }
    }
    Err(Error::could_not_run(format!("no choice of targets breaks node {node}")))
}
