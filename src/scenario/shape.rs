//! Errors of form: text that is YAML but not shaped like a scenario, in the words of scenario files instead of serde's.

use std::ops::Range;

use serde_saphyr::Error;

use super::diagnostic::{Problem, listed, quoted};
use super::tree::{Node, first_line};

/// What a deserialization error means.
pub(super) fn explain(error: &Error, text: &str, root: &Node) -> Problem {
    let error = error.without_snippet();
    let offset = error.location().and_then(|l| l.span().byte_offset()).and_then(|o| usize::try_from(o).ok());
    let (path, at, node) = root.locate(offset.unwrap_or(0));
    let at = first_line(text, &at);
    let place = Place { path, at, node };
    match error {
        Error::SerdeUnknownField { field, expected, .. } => place.unknown_field(field, expected),
        Error::SerdeUnknownVariant { variant, expected, .. } => place.unknown_word(variant, expected),
        Error::SerdeMissingField { field, .. } => place.missing_field(field),
        Error::SerdeInvalidType { expected, .. } | Error::SerdeInvalidValue { expected, .. } => {
            place.wrong_type(expected)
        }
        Error::Unexpected { expected, .. } => place.wrong_type(expected),
        Error::InvalidScalar { ty, .. } => place.wrong_type(ty),
        Error::InvalidBooleanStrict { .. } => place.wrong_type("`true` or `false`"),
        Error::NullIntoString { .. } => place.wrong_type("text"),
        Error::ExternallyTaggedEnumExpectedScalarOrMapping { .. } | Error::UnexpectedValueForUnitEnumVariant { .. } => {
            place.wrong_type("a word")
        }
        Error::Message { msg, .. } => Problem::new(place.at.clone(), msg.clone()).label(place.of()),
        other => Problem::new(place.at.clone(), format!("not a scenario: {other}")).label(place.of()),
    }
}

/// Where an error is.
struct Place<'a> {
    path: Vec<&'a str>,
    at: Range<usize>,
    node: &'a Node,
}

impl Place<'_> {
    /// `in a claim`: what the file's author calls the thing around the error.
    fn of(&self) -> String {
        match self.path.as_slice() {
            [] => "in the scenario".to_owned(),
            path => format!("in {}", quoted(&path.join("."))),
        }
    }

    fn unknown_field(self, field: &str, expected: &[&'static str]) -> Problem {
        let problem = Problem::new(self.at.clone(), format!("unknown field {} {}", quoted(field), self.of()))
            .label("no such field")
            .did_you_mean(field, expected.iter().copied());
        match field {
            "timeout" | "within" | "for" | "sleep" | "wait" | "delay" | "seconds" | "deadline" | "window" => problem.help(
                "scenario files hold no times: `during`, `before` and `after` name a window, and its seconds come from the cluster",
            ),
            "repeat" | "loop" | "retries" | "retry" | "times" => {
                problem.help("scenario files hold no loops: a probe samples on its own, `always` and `eventually` say what must hold")
            }
            _ => problem.help(format!("fields here are {}", listed(expected.iter().copied()))),
        }
    }

    fn unknown_word(self, word: &str, expected: &[&'static str]) -> Problem {
        let problem = Problem::new(self.at.clone(), format!("unknown word {} {}", quoted(word), self.of()))
            .label("not known here")
            .did_you_mean(word, expected.iter().copied());
        let known = format!("known are {}", listed(expected.iter().copied()));
        if expected.contains(&"at-least") {
            return problem
                .help(known)
                .help("an expectation looks like `{is: \"True\"}`, `{at-least: 1}` or `{answers: true}`");
        }
        problem.help(known)
    }

    fn missing_field(self, field: &str) -> Problem {
        Problem::new(self.at.clone(), format!("field `{field}` is missing {}", self.of()))
            .label(format!("has no `{field}`"))
    }

    /// `expected` comes from serde or from the parser; both speak of types, people of values.
    fn wrong_type(self, expected: &str) -> Problem {
        let (expected, help) = match expected {
            "sequence start" => ("a list", Some("write it as `[a, b]`, or one item a line, each after `- `")),
            "mapping start" => {
                ("a mapping", Some("write it as `{field: value}`, or one field a line below it, indented"))
            }
            "string scalar" | "text" => ("text", None),
            "u64" | "u32" | "u16" | "u8" => ("a whole number, 0 or more", None),
            other => (other, None),
        };
        let key = self.path.last().copied().unwrap_or_default();
        let help = match (key, self.node.what()) {
            ("probe", _) => {
                Some("a probe says what is looked at, for example `{node-ready: victim}` or `{requests: {to: web}}`")
            }
            ("always" | "never" | "eventually", _) => {
                Some("an expectation looks like `{is: \"True\"}`, `{at-least: 1}` or `{answers: true}`")
            }
            ("fault", _) => Some("a fault says what is broken, for example `{power-off: {node: victim}}`"),
            (_, what)
                if expected == "`true` or `false`" && ["`yes`", "`no`", "`on`", "`off`"].contains(&what.as_str()) =>
            {
                Some("YAML 1.2 has no yes and no")
            }
            _ => help,
        };
        let problem =
            Problem::new(self.at.clone(), format!("expected {expected} {}, found {}", self.of(), self.node.what()))
                .label(format!("expected {expected}"));
        match help {
            Some(help) => problem.help(help),
            None => problem,
        }
    }
}
