//! Follows a sampler's output from outside its pod: through the engine, in the file to which the node's container
//! runtime logs it.
//!
//! This needs neither an API server nor the cluster's network. The file is followed by name, so it may be rotated. A
//! stream that breaks is taken up again from the file's beginning, and samples that were taken before are skipped; what
//! was lost meanwhile is missing.

use std::collections::HashSet;
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::mpsc;

use crate::agent::sampler::line::Line;
use crate::cluster::docker::Engine;
use crate::event::EventKind;
use crate::sample::Sample;
use crate::workload::Sampler;

/// Shell: `tail` would outlive its reader, so it is ended once the file is gone, which goes with the pod.
const FOLLOW: &str = r#"tail -q -n +1 -F -- "$0" & t=$!; while [ -e "$0" ] && kill -0 $t; do sleep 1; done; kill $t"#;
const AGAIN_AFTER: Duration = Duration::from_millis(250);

/// Forwards the sampler's samples as they come, until nobody takes them.
pub(super) async fn follow(engine: Engine, sampler: Sampler, observed: mpsc::Sender<EventKind>) {
    let mut log = Log::default();
    let mut told = None;
    loop {
        let trouble = match engine.exec_stream(&sampler.node, &["sh", "-c", FOLLOW, &sampler.log]).await {
            Ok(mut stream) => {
                log.partial.clear();
                while let Some(Ok(chunk)) = stream.next().await {
                    for sample in log.take(&chunk, &sampler) {
                        if observed.send(EventKind::Sampled(sample)).await.is_err() {
                            return;
                        }
                    }
                }
                format!("the samples from {} broke off after {}", sampler.node.name, log.taken.len())
            }
            Err(error) => format!("no samples from {}: {error}", sampler.node.name),
        };
        // Warn once, however often it is tried in vain: a sampler may be gone for good.
        if told.replace(log.taken.len()) != Some(log.taken.len()) {
            tracing::warn!("{trouble}");
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

/// A log as the container runtime writes it: `TIME STREAM TAG TEXT`.
#[derive(Debug, Default)]
struct Log {
    partial: Vec<u8>,
    /// Target and slot of each sample taken. Not the lines' times: the node's clock may be set back.
    taken: HashSet<(usize, u64)>,
}

impl Log {
    /// The samples that this chunk completes.
    fn take(&mut self, chunk: &[u8], sampler: &Sampler) -> Vec<Sample> {
        self.partial.extend_from_slice(chunk);
        let whole = self.partial.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        let lines: Vec<u8> = self.partial.drain(..whole).collect();
        String::from_utf8_lossy(&lines).lines().filter_map(|line| self.sample(line, sampler)).collect()
    }

    fn sample(&mut self, line: &str, sampler: &Sampler) -> Option<Sample> {
        let mut fields = line.splitn(4, ' ');
        let (_time, stream, text) = (fields.next()?, fields.next()?, fields.nth(1)?);
        if stream != "stdout" {
            tracing::warn!("sampler on {}: {text}", sampler.node.name);
            return None;
        }
        // A line that can't be read is a slot without a sample: a gap, which the judge sees.
        let line: Line = serde_json::from_str(text)
            .inspect_err(|e| tracing::warn!("a line of the sampler on {} can't be read: {e}", sampler.node.name))
            .ok()?;
        let watched = sampler.watches.get(line.target)?;
        if !self.taken.insert((line.target, line.slot)) {
            return None;
        }
        Some(Sample {
            probe: watched.probe,
            series: watched.series.clone(),
            slot: line.slot,
            due: line.due,
            start: line.start,
            end: line.end,
            outcome: watched.take(line.outcome),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::sampler::Target;
    use crate::node::NodeId;
    use crate::workload::Watched;

    fn sampler() -> Sampler {
        let target: Target = "10.0.0.1:80/50/500".parse().unwrap();
        let watch = |probe, series: &str| Watched {
            probe,
            series: series.into(),
            target: target.clone(),
            asked: Some("web".into()),
            token: false,
        };
        let node = NodeId { id: "0".into(), name: "worker2".into() };
        Sampler { node, log: "/log".into(), watches: vec![watch(3, "worker2"), watch(5, "worker2→web-1")] }
    }

    fn line(second: u32, target: usize, slot: u64) -> String {
        let text =
            format!(r#"{{"t":{target},"k":{slot},"due":10,"start":11,"end":12,"o":{{"saw":{{"text":"web-1"}}}}}}"#);
        format!("2026-11-24T09:00:{second:02}.000000000Z stdout F {text}\n")
    }

    #[test]
    fn lines_become_samples_of_the_watched_series_however_they_are_cut() {
        let text = line(1, 0, 7) + &line(2, 1, 8);
        for cut in 0..text.len() {
            let mut log = Log::default();
            let mut samples = log.take(&text.as_bytes()[..cut], &sampler());
            samples.extend(log.take(&text.as_bytes()[cut..], &sampler()));
            let got: Vec<_> = samples.iter().map(|s| (s.probe, s.series.as_str(), s.slot)).collect();
            assert_eq!(got, [(3, "worker2", 7), (5, "worker2→web-1", 8)], "cut at {cut}");
        }
    }

    #[test]
    fn a_log_read_again_from_its_beginning_gives_only_what_is_new() {
        let mut log = Log::default();
        assert_eq!(log.take((line(1, 0, 7) + &line(2, 0, 8)).as_bytes(), &sampler()).len(), 2);
        let again = line(1, 0, 7) + &line(2, 0, 8) + &line(3, 0, 9);
        let new = log.take(again.as_bytes(), &sampler());
        assert_eq!(new.iter().map(|s| s.slot).collect::<Vec<_>>(), [9]);
    }

    #[test]
    fn a_clock_that_is_set_back_hides_no_sample() {
        let mut log = Log::default();
        assert_eq!(log.take((line(9, 0, 7) + &line(1, 0, 8)).as_bytes(), &sampler()).len(), 2);
    }

    #[test]
    fn what_is_no_sample_gives_none() {
        let mut log = Log::default();
        for text in ["", "2026 stderr F error: x\n", "2026-1 stdout F {}\n", &line(9, 2, 1), "\u{0}\u{0}\n"] {
            assert_eq!(log.take(text.as_bytes(), &sampler()), [], "{text}");
        }
    }
}
