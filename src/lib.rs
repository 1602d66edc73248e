//! kchaos breaks a real kind cluster in the ways that Kubernetes' page "Troubleshooting Clusters" documents, and says
//! with evidence whether the documented consequences and mitigations hold.
//!
//! # Dataflow
//!
//! Data flows one way, and the types at each interface are plain data:
//!
//! ```text
//! scenario file ─load→ Scenario ─resolve(Facts, seed)→ Plan ─run(Cluster)→ Event…
//!                      scenario  plan                  plan  experiment    event
//!
//! Event… ─replay→ History ─judge→ [Finding] → reports
//! event   run_history      verdict             report
//! ```
//!
//! [`event::Event`] is the only interface between the code that acts on a cluster and the code that reports on it.

// What is to be done to a cluster, as data.
pub mod component;
pub mod node;
pub mod page;
pub mod plan;
pub mod scenario;
pub mod user_manifests;

// What acts on a cluster, and observes it.
pub mod agent;
pub mod cluster;
pub mod experiment;
pub mod fault;
pub mod in_node;
pub mod probe;
pub mod provision;
pub mod workload;

// What is recorded of a run, and what puts everything back, whatever happens to the run.
pub mod census;
pub mod event;
pub mod fence;
pub mod guardian;
pub mod journal;
pub mod lock;
pub mod residue;
pub mod rollback;
pub mod run_dir;
pub mod sample;
pub mod undo;
pub mod unwind;

// What judges and reports a run.
pub mod report;
pub mod run_history;
pub mod steady_state;
pub mod verdict;

// The commands.
pub mod cli;
pub mod doctor;
pub mod progress;

// What any of these may use.
pub mod clock;
pub mod error;
mod file;
mod observer_lag;
mod plain_http;
mod rounding;
pub mod signal;
pub mod standard_error;
mod time_slots;

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;

    /// Everything in a module's files but comments.
    fn code_of(path: &Path) -> String {
        let is_comment = |line: &&str| line.trim_start().starts_with("//");
        let files = walk(path).into_iter().chain([path.with_extension("rs")]);
        let texts = files.map(|file| std::fs::read_to_string(file).unwrap());
        texts
            .flat_map(|text| {
                text.lines().filter(|line| !is_comment(line)).map(|line| format!("{line}\n")).collect::<Vec<_>>()
            })
            .collect()
    }

    fn walk(dir: &Path) -> Vec<std::path::PathBuf> {
        let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
    }

    #[test]
    fn modules_need_each_other_in_one_direction_only() {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let declared = |line: &'static str| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';');
        let modules: BTreeSet<&str> = include_str!("lib.rs").lines().filter_map(declared).collect();
        let mut needs: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for &module in &modules {
            let code = code_of(&src.join(module));
            let is_needed = |other: &&str| {
                *other != module && code.contains(&format!("crate::{other}:"))
                    || code.contains(&format!("crate::{other};"))
            };
            needs.insert(module, modules.iter().copied().filter(is_needed).collect());
        }
        while let Some(free) = needs.iter().find(|(_, others)| others.is_empty()).map(|(module, _)| *module) {
            needs.remove(free);
            for others in needs.values_mut() {
                others.remove(free);
            }
        }
        assert_eq!(needs, BTreeMap::new(), "these need each other");
    }
}
