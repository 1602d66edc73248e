//! A kind cluster, seen and touched from below: its containers through the engine, its settings, its API as a client sees it.

pub mod docker;
pub mod facts;
pub mod image;
