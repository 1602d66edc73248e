//! Errors of form: text that is YAML but does not have the shape of a scenario. They are told in the words of scenario
//! files, not serde's.

use std::ops::Range;

use serde_saphyr::Error;

use super::Name;
use super::diagnostic::{Problem, listed, quoted};
use super::tree::{Node, first_line};

/// Explains a deserialization error.
pub(super) fn explain(error: &Error, text: &str, root: &Node) -> Problem {
    let error = error.without_snippet();
    let offset = error.location().and_then(|l| l.span().byte_offset()).and_then(|o| usize::try_from(o).ok());
    let (path, at, node) = root.locate(offset.unwrap_or(0));
    let place = Place { path, at: first_line(text, &at), node, text };
    match error {
        Error::SerdeUnknownField { field, expected, .. } => place.unknown_field(field, expected),
        Error::SerdeUnknownVariant { variant, expected, .. } => place.unknown_word(variant, expected),
        Error::SerdeMissingField { field, .. } => place.missing_field(field),
        // The parser reports a probe or fault that is only a word at the token that follows it.
        Error::Unexpected { .. } | Error::SerdeInvalidType { .. } if lone_word(root).is_some() => {
            let (field, value) = lone_word(root).unwrap_or(("probe", root));
            lacks_object(field, value)
        }
        Error::SerdeInvalidType { expected, .. } | Error::SerdeInvalidValue { expected, .. } => {
            place.wrong_type(expected)
        }
        Error::Unexpected { expected, .. } => place.wrong_type(expected),
        Error::InvalidScalar { ty, .. } => place.wrong_type(ty),
        Error::InvalidBooleanStrict { .. } => place.wrong_type("`true` or `false`"),
        Error::NullIntoString { .. } => place.wrong_type("text"),
        Error::ExternallyTaggedEnumExpectedScalarOrMapping { .. }
        | Error::UnexpectedValueForUnitEnumVariant { .. }
        | Error::ExpectedStringKeyForExternallyTaggedEnum { .. } => place.wrong_type("a word"),
        Error::ExpectedMappingEndAfterEnumVariantValue { .. } => place.one_too_many(),
        Error::Message { msg, .. } if msg.starts_with("a name ") => place.not_a_name(msg),
        Error::Message { msg, .. } if msg.starts_with("an address ") => place.not_as_written("an address", msg),
        Error::Message { msg, .. } if msg.starts_with("a flag ") => place.not_as_written("a flag", msg),
        Error::Message { msg, .. } if msg.starts_with("a share of lost packets ") => {
            place.not_as_written("a share of lost packets", msg)
        }
        Error::Message { msg, .. } if msg.starts_with("an object's name ") => {
            place.not_as_written("an object's name", msg)
        }
        other => Problem::new(place.at.clone(), format!("not a scenario: {other}")).label(place.within()),
    }
}

/// A probe or fault that is only a word and does not say what it is about.
fn lone_word(root: &Node) -> Option<(&'static str, &Node)> {
    let of = |list, field| {
        root.field(list)
            .items()
            .iter()
            .filter_map(move |i| i.entry(field))
            .find(|e| e.value.is_scalar())
            .map(|e| (field, &e.value))
    };
    let and = || {
        let more = root.field("variants").items().iter().flat_map(|variant| variant.field("and").items());
        more.into_iter().find(|item| item.is_scalar()).map(|item| ("fault", item))
    };
    of("variants", "fault").or_else(and).or_else(|| of("claims", "probe"))
}

fn lacks_object(field: &str, value: &Node) -> Problem {
    let problem = Problem::new(value.span.clone(), format!("this {field} does not say of what")).label("only a word");
    problem.help(example(field).unwrap_or_default())
}

/// An example of a field.
fn example(field: &str) -> Option<&'static str> {
    match field {
        "probe" => {
            Some("a probe says what is looked at, for example `{node-ready: victim}` or `{requests: {to: web}}`")
        }
        "fault" => Some("a fault says what is broken, for example `{power-off: {node: victim}}`"),
        "always" | "never" | "eventually" => {
            Some("an expectation looks like `{is: \"True\"}`, `{at-least: 1}` or `{answers: true}`")
        }
        _ => None,
    }
}

/// The place of an error.
struct Place<'a> {
    /// Fields on the way down; list items appear by their own names.
    path: Vec<&'a str>,
    at: Range<usize>,
    /// The innermost value around the error.
    node: &'a Node,
    text: &'a str,
}

impl Place<'_> {
    /// The place in the words of the file's author: `in claim `gone``, `in `replicas` of workload `web``.
    fn within(&self) -> String {
        let thing = match self.path.first() {
            Some(&"claims") => "claim",
            Some(&"variants") => "variant",
            Some(&"workloads") => "workload",
            Some(&"targets") => "target",
            _ => "",
        };
        match self.path.as_slice() {
            [] => "in the scenario".to_owned(),
            [_, name] if !thing.is_empty() => format!("in {thing} {}", quoted(name)),
            [_, name, field @ ..] if !thing.is_empty() && !field.is_empty() => {
                format!("in {} of {thing} {}", quoted(&field.join(".")), quoted(name))
            }
            path => format!("in {}", quoted(&path.join("."))),
        }
    }

    fn field(&self) -> &str {
        self.path.last().copied().unwrap_or_default()
    }

    fn unknown_field(self, field: &str, expected: &[&'static str]) -> Problem {
        let problem = Problem::new(self.at.clone(), format!("unknown field {} {}", quoted(field), self.within()))
            .label("no such field")
            .did_you_mean(field, expected.iter().copied());
        problem.help(match field {
            "timeout" | "within" | "for" | "sleep" | "wait" | "delay" | "seconds" | "deadline" | "window" => {
                "scenario files hold no times: `during`, `before` and `after` name a window, and its seconds come from the cluster"
                    .to_owned()
            }
            "repeat" | "loop" | "retries" | "retry" | "times" => {
                "scenario files hold no loops: a probe samples on its own, `always` and `eventually` say what must hold".to_owned()
            }
            "apiVersion" | "metadata" if self.path.is_empty() => {
                "this looks like a Kubernetes manifest or a kind config; `kchaos show node-shutdown --yaml` shows a scenario".to_owned()
            }
            _ => format!("fields here are {}", listed(expected.iter().copied())),
        })
    }

    fn unknown_word(self, word: &str, expected: &[&'static str]) -> Problem {
        let thing = match expected {
            ["node-state", ..] => "probe",
            ["power-off", ..] => "fault",
            ["baseline", ..] => "window",
            ["is", ..] => "expectation",
            _ => "value",
        };
        let problem = Problem::new(self.at.clone(), format!("unknown {thing} {} {}", quoted(word), self.within()))
            .label("not known here")
            .did_you_mean(word, expected.iter().copied())
            .help(format!("known are {}", listed(expected.iter().copied())));
        match example(self.field()) {
            Some(example) if self.node.is_scalar() => problem.help(example),
            _ => problem,
        }
    }

    fn missing_field(self, field: &str) -> Problem {
        let at = first_line(self.text, &self.node.span);
        let problem =
            Problem::new(at, format!("`{field}` is missing {}", self.within())).label(format!("has no `{field}`"));
        match example(field) {
            Some(example) => problem.help(example),
            None if self.path.is_empty() => {
                problem.help("start from one that is there: `kchaos show node-shutdown --yaml`")
            }
            None => problem,
        }
    }

    fn one_too_many(self) -> Problem {
        let (thing, help) = match self.field() {
            "probe" => ("probe", "a claim looks at one thing; make two claims of it"),
            "fault" => ("fault", "a variant has one fault; make two variants of it"),
            _ => ("expectation", "a claim expects one thing; make two claims of it"),
        };
        Problem::new(self.at.clone(), format!("a second {thing} {}", self.within())).label("one too many").help(help)
    }

    /// A value that does not have the form of an address, a flag, a share or an object's name.
    fn not_as_written(self, what: &str, why: &str) -> Problem {
        let text = self.text.get(self.at.clone()).unwrap_or_default().trim_matches(['"', '\'']);
        Problem::new(self.at.clone(), format!("{} is not {what}", quoted(text)))
            .label("not as one is written")
            .help(why)
    }

    fn not_a_name(self, why: &str) -> Problem {
        let name = self.text.get(self.at.clone()).unwrap_or_default().trim_matches(['"', '\'']);
        let problem = Problem::new(self.at.clone(), format!("{} is not a name", quoted(name))).label(why);
        match name.to_ascii_lowercase().replace(['_', ' ', '.'], "-").parse::<Name>() {
            Ok(name) => problem.help(format!("write `{name}`")),
            Err(_) => problem,
        }
    }

    /// A value of the wrong type. `expected` comes from serde or the parser, which both speak of types; people speak of
    /// values.
    fn wrong_type(self, expected: &str) -> Problem {
        let (expected, help) = match expected {
            "sequence start" => ("a list", Some("write it as `[a, b]`, or one item a line, each after `- `")),
            "mapping start" => {
                ("fields with values", Some("write them as `{field: value}`, or one a line below it, indented"))
            }
            "string scalar" => ("text", None),
            "u64" | "u32" | "u16" | "u8" => ("a whole number, not negative", None),
            other => (other, None),
        };
        let found = self.node.what();
        let help = match found.as_str() {
            _ if self.path.is_empty() => Some("start from one that is there: `kchaos show node-shutdown --yaml`"),
            "`yes`" | "`no`" | "`on`" | "`off`" if expected.contains("`true`") => Some("YAML 1.2 has no yes and no"),
            _ => example(self.field()).or(help),
        };
        let problem = Problem::new(self.at.clone(), format!("expected {expected}, found {found}")).label(self.within());
        match help {
            Some(help) => problem.help(help),
            None => problem,
        }
    }
}
