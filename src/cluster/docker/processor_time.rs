//! Processor time: what a node has used of it, and what its machine had.

use std::time::Duration;

use bollard::query_parameters::StatsOptionsBuilder;
use futures::StreamExt;

use super::{Engine, NodeId, READ, answer, failed};
use crate::error::{Error, Result};

/// A tick of `/proc/stat`, which has a hundred of them in a second on every architecture that has containers.
const TICK: Duration = Duration::from_millis(10);

/// Processor time of a machine since it was booted, of all its processors together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachineTime {
    /// All of it, with what a hypervisor gave to other machines.
    pub all: Duration,
    /// What was left over.
    pub idle: Duration,
}

impl MachineTime {
    /// Reads the content of `/proc/stat`. `None` if it is something else.
    #[must_use]
    pub fn read(stat: &str) -> Option<Self> {
        let line = stat.lines().next()?.strip_prefix("cpu ")?;
        // user, nice, system, idle, iowait, irq, softirq, steal; what follows is contained in these.
        let ticks: Vec<u32> = line.split_whitespace().take(8).map(|n| n.parse().ok()).collect::<Option<_>>()?;
        let [_, _, _, idle, waiting, ..] = ticks[..] else { return None };
        Some(Self { all: ticks.iter().map(|&n| TICK * n).sum(), idle: TICK * idle + TICK * waiting })
    }
}

impl Engine {
    /// Processor time that a node has used since it was started. `None` if it does not run.
    ///
    /// # Errors
    /// If the engine does not answer or the container is gone.
    pub async fn processor_time(&self, node: &NodeId) -> Result<Option<Duration>> {
        let options = StatsOptionsBuilder::default().stream(false).one_shot(true).build();
        let ask = async {
            let mut told = Box::pin(self.docker.stats(&node.id, Some(options)));
            told.next().await.transpose()
        };
        let stats = answer(READ, ask).await.map_err(|e| failed(&format!("ask for the use of {}", node.name), &e))?;
        let used = stats.and_then(|stats| stats.cpu_stats?.cpu_usage?.total_usage);
        let used = used.ok_or_else(|| Error::could_not_run(format!("the engine told no use of {}", node.name)))?;
        Ok((used > 0).then(|| Duration::from_nanos(used)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_machine_s_time_what_waits_for_a_disk_is_left_over() {
        let stat = "cpu  9181 14633 7436 21868 448 0 144 307 7 0\ncpu0 4000 7000 3000 11000 200 0 70 150 0 0\n";
        let time = MachineTime::read(stat).unwrap();
        assert_eq!(time.all, Duration::from_millis(540_170));
        assert_eq!(time.idle, Duration::from_millis(223_160));
        for other in ["", "cpu0 1 2 3 4 5", "cpu  1 2 3", "cpu  a b c d e f g h"] {
            assert_eq!(MachineTime::read(other), None, "{other}");
        }
    }
}
