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
pub mod history;
pub mod report;
pub mod steady;
pub mod verdict;

// The commands.
pub mod cli;
pub mod doctor;
pub mod progress;

// What any of these may use.
pub mod clock;
pub mod error;
mod file;
mod lag;
mod plain_http;
mod rounding;
pub mod signal;
mod slots;
