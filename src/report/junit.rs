//! The report for CI servers, as JUnit XML: a suite for each scenario, a case for each claim.
//!
//! Names must be the same in every run (no times, no seeds), because servers track history by name. They must also be
//! unique, because GitLab drops a second case of the same class and name. Hence page id, claim id and variant. GitLab
//! shows only the text of a failure, Jenkins both message and text, so the text begins with the message. Refuted claims
//! are failures, inconclusive ones errors, and unsupported ones skipped.

use std::collections::BTreeSet;

use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};

use super::{Claim, Report, escape, words};
use crate::error::{Error, Result};
use crate::verdict::Verdict;

/// A JUnit document of these runs. The runs of one scenario form one suite, in the order given. Runs that were not made
/// are skipped, each with the reason.
///
/// # Errors
/// If the document can't be written as XML.
pub fn render(reports: &[Report], not_made: &[String]) -> Result<String> {
    let mut document = quick_junit::Report::new("kchaos");
    let mut scenarios: Vec<&str> = Vec::new();
    for report in reports {
        if !scenarios.contains(&report.run.scenario.as_str()) {
            scenarios.push(&report.run.scenario);
        }
    }
    for scenario in scenarios {
        document.add_test_suite(suite(scenario, reports.iter().filter(|r| r.run.scenario == scenario)));
    }
    if !not_made.is_empty() {
        let mut suite = TestSuite::new("not run");
        for (n, why) in not_made.iter().enumerate() {
            let mut status = TestCaseStatus::skipped();
            status.set_message(xml(why));
            let mut case = TestCase::new(format!("not run #{}", n + 1), status);
            case.set_classname("kchaos.not-run");
            suite.add_test_case(case);
        }
        document.add_test_suite(suite);
    }
    document.to_string().map_err(|e| Error::could_not_run(format!("the report can't be written as JUnit XML: {e}")))
}

fn suite<'a>(scenario: &str, reports: impl Iterator<Item = &'a Report>) -> TestSuite {
    let mut suite = TestSuite::new(xml(scenario));
    let mut taken = BTreeSet::new();
    let mut time = std::time::Duration::ZERO;
    for report in reports {
        time += report.time.total.0;
        let run = &report.run;
        for (name, value) in
            [("command", &run.command), ("started", &run.started), ("kubernetes", &report.cluster.kubernetes)]
        {
            suite.add_property((format!("{}/{name}", xml(&run.variant)), xml(value)));
        }
        for claim in &report.claims {
            let mut case = case(report, claim);
            // The document has the same variant twice: keep both.
            let name = case.name.to_string();
            let mut again = 1;
            while !taken.insert((case.classname.clone(), case.name.clone())) {
                again += 1;
                case.name = format!("{name} #{again}").into();
            }
            suite.add_test_case(case);
        }
    }
    suite.set_time(time);
    suite
}

fn case(report: &Report, claim: &Claim) -> TestCase {
    let status = match claim.verdict {
        Verdict::Upheld => TestCaseStatus::success(),
        Verdict::Refuted => not_upheld(TestCaseStatus::non_success(NonSuccessKind::Failure), claim),
        Verdict::Inconclusive => not_upheld(TestCaseStatus::non_success(NonSuccessKind::Error), claim),
        Verdict::Unsupported => not_upheld(TestCaseStatus::skipped(), claim),
    };
    let mut case = TestCase::new(xml(&format!("{} {} [{}]", claim.sentence, claim.claim, report.run.variant)), status);
    // In Jenkins, a dot would begin another package.
    let scenario = xml(&report.run.scenario).replace('.', "_");
    case.set_classname(format!("kchaos.{scenario}.{}", claim.arm.map_or("consequence", words::arm)));
    case.extra.insert("file".into(), xml(&claim.file).into());
    case.extra.insert("line".into(), claim.line.to_string().into());
    case
}

fn not_upheld(mut status: TestCaseStatus, claim: &Claim) -> TestCaseStatus {
    let message = xml(&sentence(claim));
    status.set_type(words::kebab(claim.reason));
    status.set_description(format!("{message}\n{}", body(claim)));
    status.set_message(message);
    status
}

/// What happened, in one sentence.
pub(super) fn sentence(claim: &Claim) -> String {
    format!("{}: “{}”: {}", words::verdict(claim.verdict), claim.says, claim.because)
}

fn body(claim: &Claim) -> String {
    let mut lines = vec![
        format!("expected: {}, {}", claim.expected, words::window(&claim.window)),
        format!("observed: {}", claim.observed),
    ];
    lines.extend(claim.window.bounded_by.iter().map(|s| format!("setting:  {s}")));
    lines.extend(claim.evidence.iter().map(|e| format!("evidence: {}", words::evidence(e))));
    lines.push(format!("stated in: {}", words::place(claim)));
    lines.iter().map(|line| xml(line)).collect::<Vec<_>>().join("\n")
}

/// Foreign text for XML. It is made visible here, because the writer would silently drop characters that XML forbids.
fn xml(foreign: &str) -> String {
    escape::safe(foreign).into_owned()
}
