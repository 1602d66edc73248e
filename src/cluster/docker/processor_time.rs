//! Processor time: what a node has used of it, and what its machine had.

use std::time::Duration;

use bollard::query_parameters::StatsOptionsBuilder;
use futures::StreamExt;

use super::{Engine, NodeId, READ, answer, failed};
use crate::error::{Error, Result};

/// Milliseconds of a tick of `/proc/stat`, on every architecture that has containers.
const TICK: u64 = 10;

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
        let ticks: Vec<u64> = line.split_whitespace().take(8).map(|n| n.parse().ok()).collect::<Option<_>>()?;
        let [_, _, _, idle, waiting, ..] = ticks[..] else { return None };
        let time = |ticks: u64| Duration::from_millis(ticks.saturating_mul(TICK));
        Some(Self { all: time(ticks.iter().sum()), idle: time(idle + waiting) })
    }
}

impl Engine {
    /// Processor time that a node has used since it was started, which it must have been.
    ///
    /// # Errors
    /// If the engine does not answer or tells no time, or the container is gone.
    pub async fn processor_time(&self, node: &NodeId) -> Result<Duration> {
        let options = StatsOptionsBuilder::default().stream(false).one_shot(true).build();
        let ask = async {
            let mut told = Box::pin(self.docker.stats(&node.id, Some(options)));
            told.next().await.transpose()
        };
        let stats = answer(READ, ask).await.map_err(|e| failed(&format!("ask what {} has used", node.name), &e))?;
        let used = stats.and_then(|stats| stats.cpu_stats?.cpu_usage?.total_usage);
        let untold = || Error::could_not_run(format!("the engine does not tell what {} has used", node.name));
        used.map(Duration::from_nanos).ok_or_else(untold)
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
        // 64 processors for a year.
        let long = MachineTime::read("cpu  0 0 0 201830400000 0 0 0 0").unwrap();
        assert_eq!(long.idle, Duration::from_secs(2_018_304_000));
        for other in ["", "cpu0 1 2 3 4 5", "cpu  1 2 3", "cpu  a b c d e f g h"] {
            assert_eq!(MachineTime::read(other), None, "{other}");
        }
    }
}
