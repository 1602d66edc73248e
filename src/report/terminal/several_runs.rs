//! The summary of several runs, below their reports.

use super::layout::{PLAIN, Page, Text, cell};
use super::{BOLD, DIM, DOUBT, outcome_style};
use crate::report::several_runs::{Line, outcome, sentence};
use crate::report::{Report, words};

/// A line for each run.
pub fn several_runs(reports: &[Report], not_made: &[String], width: u16) -> String {
    let mut page = Page::new(width);
    let overall = outcome(reports, not_made);
    page.blank();
    page.line(&[
        (
            outcome_style(overall),
            &format!("{} {}", words::outcome_glyph(overall), words::outcome(overall).to_uppercase()),
        ),
        (BOLD, &format!("{} runs", reports.len())),
    ]);
    page.text(PLAIN, &sentence(reports, not_made));
    page.blank();
    let mut rows = vec![
        ["", "run", "what was done", "what its clients noticed", "upheld"]
            .map(|head| vec![Text::new(DIM, head)])
            .to_vec(),
    ];
    for report in reports {
        let line = Line::of(report);
        let glyph = words::outcome_glyph(line.outcome).to_string();
        rows.push(vec![
            vec![Text::new(outcome_style(line.outcome), &glyph)],
            cell(&line.run),
            cell(&line.lost),
            line.unanswered.iter().map(|told| Text::plain(told)).collect(),
            cell(&format!("{} of {}", line.claims.upheld, line.claims.all())),
        ]);
    }
    page.rows(rows, &[0, 20, 40, 40, 0]);
    for why in not_made {
        page.text(DOUBT, &format!("not run: {why}"));
    }
    page.finish()
}
