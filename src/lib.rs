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
//! event   history          verdict             report
//! ```
//!
//! [`event::Event`] is the only interface between the code that acts on a cluster and the code that reports on it.

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
