//! The report for programs: one JSON document for each run. The format is versioned, and documented in
//! `docs/report.md`.

use serde::Serialize;

use super::{Counts, Outcome, Report, escape};
use crate::error::{Error, Result};

/// Name and version of the format. The number rises when a field changes its meaning or is removed; new fields may be
/// added at any time.
pub const SCHEMA: &str = "kchaos.report/1";

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    outcome: Outcome,
    counts: Counts,
    #[serde(flatten)]
    report: &'a Report,
}

/// The JSON document of a run, with a newline at its end. It is safe to print: characters that a terminal would obey
/// are escaped.
///
/// # Errors
/// If the report can't be written as JSON.
pub fn render(report: &Report) -> Result<String> {
    let document = Document { schema: SCHEMA, outcome: report.outcome(), counts: report.counts(), report };
    let json = serde_json::to_string_pretty(&document)
        .map_err(|e| Error::could_not_run(format!("the report can't be written as JSON: {e}")))?;
    Ok(escape::json(&json) + "\n")
}
