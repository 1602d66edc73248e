//! kchaos breaks a real kind cluster the way Kubernetes' page "Troubleshooting Clusters" documents, and says with evidence whether
//! the documented consequences and mitigations hold.
//!
//! # Dataflow
//!
//! One way, and the types at each border are plain data:
//!
//! ```text
//! scenario file ─load→ Scenario ─resolve(Facts, seed)→ Plan ─run(Cluster)→ Event… ─replay→ History ─judge→ [Finding] → reports
//!                      scenario  plan                  plan  experiment    event   history          verdict             report
//! ```
//!
//! [`event::Event`] is the only border between what acts on a cluster and what tells about it.

pub mod agent;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod doctor;
pub mod error;
pub mod event;
pub mod experiment;
pub mod fault;
mod file;
pub mod guardian;
pub mod history;
pub mod in_node;
pub mod journal;
mod lag;
pub mod lock;
pub mod manifests;
pub mod page;
pub mod plan;
pub mod probe;
pub mod report;
pub mod residue;
pub mod rollback;
mod rounding;
pub mod run_dir;
pub mod scenario;
pub mod signal;
mod slots;
pub mod steady;
pub mod undo;
pub mod verdict;
pub mod workload;
