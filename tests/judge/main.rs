//! The judge: laws that hold for every history, one wrong thing at a time, and mutations of recorded runs.

#[path = "../synthetic/mod.rs"]
#[expect(dead_code, reason = "what the reports expect of the judge is not asked here")]
mod synthetic;

mod budget;
mod gates;
mod lost_time;
mod mutations;
mod properties;
mod world;
