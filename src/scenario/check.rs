//! Errors of meaning: a file that has the shape of a scenario but makes no sense, or whose claims nothing could test.
//!
//! Takes a scenario and the tree of its file, and returns every problem at once. What depends on a cluster (does it
//! have such a node?) is for the plan.

mod arms;
mod claim;
mod late_workload;
mod variant;
mod workload;

use std::ops::Range;
use std::path::Path;

use super::diagnostic::{Problem, is_visible, listed, quoted};
use super::tree::{Node, first_line};
use super::{Name, Scenario};
use crate::node::Role;

/// Most targets, workloads, variants and claims (of each).
const MAX_ENTRIES: usize = 100;
/// Most pods of a workload: what a kind node can hold beside its own pods.
const MAX_REPLICAS: u32 = 100;
/// Most problems that are collected; no one reads more.
const MAX_PROBLEMS: usize = 100;

/// Everything that is wrong with a scenario.
pub(super) fn problems(scenario: &Scenario, source: &str, text: &str, root: &Node) -> Vec<Problem> {
    let mut checker = Checker { scenario, text, root, problems: Vec::new() };
    checker.sizes();
    if checker.problems.is_empty() {
        checker.head(source);
        checker.targets();
        checker.workloads();
        checker.variants();
        checker.claims();
        checker.arms();
    }
    checker.problems
}

struct Checker<'a> {
    scenario: &'a Scenario,
    text: &'a str,
    root: &'a Node,
    problems: Vec<Problem>,
}

impl<'a> Checker<'a> {
    fn push(&mut self, problem: Problem) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        }
    }

    /// A problem with a range, of which only the first line is shown.
    fn problem(&self, at: &Range<usize>, title: impl Into<String>) -> Problem {
        Problem::new(first_line(self.text, at), title)
    }

    fn sizes(&mut self) {
        let (s, root) = (self.scenario, self.root);
        for (field, count) in [
            ("targets", s.targets.len()),
            ("workloads", s.workloads.len()),
            ("variants", s.variants.len()),
            ("claims", s.claims.len()),
        ] {
            if count > MAX_ENTRIES {
                let title = format!("{count} {field}, and {MAX_ENTRIES} are the most");
                self.push(Problem::new(root.key(field), title).help("split the scenario into several files"));
            } else if count == 0 && field != "workloads" {
                let why = match field {
                    "targets" => "a fault needs a node to break",
                    "variants" => "there would be nothing to break",
                    _ => "a scenario without claims could not fail",
                };
                self.push(Problem::new(root.key(field), format!("{} is empty", quoted(field))).label(why));
            }
        }
    }

    fn head(&mut self, source: &str) {
        let (s, root) = (self.scenario, self.root);
        let path = Path::new(source);
        let is_file = path.extension().is_some_and(|e| e == "yaml" || e == "yml");
        if let (true, Some(stem)) = (is_file, path.file_stem().and_then(|f| f.to_str()))
            && s.scenario != stem
        {
            let title = format!("scenario `{}` in a file of another name", s.scenario);
            let problem = Problem::new(root.field("scenario").span.clone(), title);
            let rename = format!("rename the file to `{}.yaml`", s.scenario);
            self.push(match stem.parse::<Name>() {
                Ok(name) => problem
                    .label(format!("the file says `{name}`"))
                    .help(format!("write `scenario: {name}`, or {rename}")),
                Err(_) => problem.label("differs from the file's name").help(rename),
            });
        }
        self.words("summary", &s.summary, root);
        self.topology();
    }

    /// Checks text that is printed: it must not be blank, must be on one line, and must contain nothing that controls a
    /// terminal.
    fn words(&mut self, field: &str, words: &str, node: &Node) {
        let at = &node.field(field).span;
        if words.trim().is_empty() {
            self.push(self.problem(at, format!("{} is blank", quoted(field))).label("say it in words"));
        } else if words.trim_end().contains(['\n', '\r']) {
            let problem = self.problem(at, format!("{} has more than one line", quoted(field)));
            self.push(problem.help("write `>-` behind the colon to fold the lines into one"));
        } else if let Some(c) = words.trim_end().chars().find(|c| !is_visible(*c)) {
            let title = format!("{} contains an invisible character, U+{:04X}", quoted(field), u32::from(c));
            self.push(self.problem(at, title).help("remove it: it would change what is printed"));
        }
    }

    fn topology(&mut self) {
        let topology = self.scenario.topology.as_str();
        let is_path = topology.contains('/') || topology.ends_with(".yaml") || topology.ends_with(".yml");
        let wrong = match topology.parse::<Name>() {
            Ok(_) => return,
            Err(why) if !is_path => why.to_string(),
            Err(_) if topology.starts_with(['/', '~', '-']) => "a path is relative to this file".to_owned(),
            Err(_) if Path::new(topology).components().any(|c| c == std::path::Component::ParentDir) => {
                "a path must not lead out of this file's directory".to_owned()
            }
            Err(_) if topology.contains('\\') || topology.chars().any(|c| !is_visible(c)) || topology.len() > 255 => {
                "a path is made of plain names and `/`".to_owned()
            }
            Err(_) => return,
        };
        let problem = Problem::new(self.root.field("topology").span.clone(), "not a topology").label(wrong);
        self.push(
            problem.help("a topology is the name of a kind config (`single`, `ha`) or a path such as `./my-kind.yaml`"),
        );
    }

    fn targets(&mut self) {
        for (name, target) in &self.scenario.targets {
            if target.leads.is_some() && target.role != Role::ControlPlane {
                let node = self.root.field("targets").field(name);
                let problem = Problem::new(node.key("leads"), format!("target `{name}` can lead nothing"));
                self.push(
                    problem
                        .label("a component of the control plane")
                        .also(node.field("role").span.clone(), "not a control plane")
                        .help("give the target `role: control-plane`"),
                );
            }
        }
    }

    /// Is this the name of a target with this role?
    fn is_of(&self, target: &str, role: Role) -> bool {
        self.scenario.targets.get(target).is_some_and(|target| target.role == role)
    }

    /// Checks a reference to a target, and returns the target's role.
    fn target(&mut self, name: &str, at: &Range<usize>) -> Option<Role> {
        let targets = &self.scenario.targets;
        if let Some(target) = targets.get(name) {
            return Some(target.role);
        }
        self.unknown("target", "targets", name, at, targets.keys());
        None
    }

    /// Checks a reference to a target that must be a node of Kubernetes.
    fn kubernetes_node(&mut self, name: &str, at: &Range<usize>) {
        if self.target(name, at) == Some(Role::LoadBalancer) {
            let problem = self.problem(at, format!("target {} is not a node of Kubernetes", quoted(name)));
            self.push(problem.label("kind's load balancer: Kubernetes does not know it"));
        }
    }

    /// Reports a name that nothing has.
    fn unknown<'n>(
        &mut self,
        what: &str,
        field: &str,
        name: &str,
        at: &Range<usize>,
        known: impl Iterator<Item = &'n Name> + Clone,
    ) {
        let problem = self
            .problem(at, format!("unknown {what} {}", quoted(name)))
            .label(format!("not among the {field}"))
            .did_you_mean(name, known.clone().map(Name::as_str));
        let help = match known.clone().count() {
            0 => format!("this scenario has no {field}"),
            1..=8 => format!("{field} of this scenario: {}", listed(known.map(Name::as_str))),
            n => format!("this scenario has {n} {field}"),
        };
        self.push(problem.help(help));
    }
}
