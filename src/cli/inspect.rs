//! Commands that look, and the ones that make and remove clusters.

use std::path::PathBuf;

use super::{Format, Talk};
use crate::cluster::docker::Engine;
use crate::cluster::provision;
use crate::doctor;
use crate::error::{Exit, Result};
use crate::report;
use crate::scenario;
