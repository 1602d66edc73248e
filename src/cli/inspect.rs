//! Commands that only tell: of scenarios, of this machine, of the command line.

use std::collections::BTreeSet;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::thread::ScopedJoinHandle;

use clap::CommandFactory;
use clap::builder::PossibleValuesParser;
use serde_json::json;

use super::{Cli, Format, complain, print, runtime};
use crate::cluster::topology::Topology;
use crate::doctor;
use crate::error::{Error, Exit, Result};
use crate::node::Role;
use crate::report::terminal;
use crate::scenario::{self, Diagnostics, Scenario};
use crate::standard_error;

/// All built-in scenarios. Tests ensure that they load.
fn builtin() -> Result<Vec<Scenario>> {
    scenario::builtin().iter().map(|(name, _)| scenario::open(name).map(|(_, scenario)| scenario)).collect()
}

pub(super) fn list(output: Format) -> Result<Exit> {
    let scenarios = builtin()?;
    match output {
        Format::Table => print(&terminal::list(&scenarios, terminal::width(std::io::stdout()))),
        Format::Json => {
            let all: Vec<_> = scenarios
                .iter()
                .map(|s| {
                    let variants: Vec<_> = s.variants.iter().map(|v| v.name.to_string()).collect();
                    let sentences: BTreeSet<_> = s.claims.iter().map(|claim| claim.sentence.to_string()).collect();
                    json!({
                        "scenario": s.scenario.to_string(),
                        "summary": s.summary.trim(),
                        "topology": s.topology,
                        "variants": variants,
                        "sentences": sentences,
                    })
                })
                .collect();
            print(&format!("{:#}", json!(all)));
        }
    }
    Ok(Exit::Upheld)
}

pub(super) fn show(name: &str, as_yaml: bool) -> Result<Exit> {
    let (name, variant) = scenario::split_variant(name);
    if as_yaml {
        if variant.is_some() {
            return Err(Error::usage("--yaml prints a whole file").next(format!("kchaos show {name} --yaml")));
        }
        print(&String::from_utf8_lossy(&scenario::find(name)?.1));
        return Ok(Exit::Upheld);
    }
    let (_, mut scenario) = scenario::open(name)?;
    if let Some(variant) = variant {
        scenario = scenario.narrowed_to(variant)?;
    }
    print(&terminal::show(&scenario, terminal::width(std::io::stdout())));
    Ok(Exit::Upheld)
}

/// Checks every file: an error in one does not hide those in others.
pub(super) fn check(files: &[PathBuf]) -> Result<Exit> {
    let mut texts: Vec<(String, Vec<u8>)> = Vec::new();
    for file in files {
        texts.push(scenario::find(&file.to_string_lossy())?);
    }
    if files.is_empty() {
        texts.extend(
            scenario::builtin().iter().map(|(name, text)| (format!("scenarios/{name}.yaml"), text.as_bytes().to_vec())),
        );
    }
    let mut exit = Exit::Upheld;
    for ((source, _), loaded) in texts.iter().zip(load(&texts)) {
        match loaded {
            Ok(scenario) => {
                match Topology::open(&scenario.topology_from(source)).and_then(|has| has_all(&has, &scenario)) {
                    Ok(()) => {
                        let counted = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
                        let claims = counted(scenario.claims.len(), "claim");
                        print(&format!("{source}: {claims}, {}: ok", counted(scenario.variants.len(), "variant")));
                    }
                    Err(error) => {
                        complain(&format!("{source}: {error}"));
                        exit = Exit::Usage;
                    }
                }
            }
            Err(diagnostics) => {
                standard_error::line(&diagnostics.render(standard_error::is_coloured()));
                exit = Exit::Usage;
            }
        }
    }
    Ok(exit)
}

/// Checks that a cluster of this topology has as many control planes as the scenario is about, and a node for every
/// target that a run of a variant needs.
fn has_all(topology: &Topology, scenario: &Scenario) -> Result<()> {
    if let Some(least) = scenario.more_control_planes_than(topology.control_planes) {
        return Err(Error::usage(format!(
            "it is about {least} control planes or more, and topology `{}` has {}",
            topology.name, topology.control_planes
        ))
        .next("name another topology"));
    }
    let balancers = usize::from(topology.control_planes > 1);
    for variant in &scenario.variants {
        for (role, there, name) in [
            (Role::ControlPlane, topology.control_planes, "control plane"),
            (Role::Worker, topology.workers, "worker"),
            (Role::LoadBalancer, balancers, "load balancer"),
        ] {
            let needed = scenario.targets_of(variant).filter(|(_, target)| target.role == role).count();
            if needed > there {
                return Err(Error::usage(format!(
                    "variant `{}` needs {needed} of the role `{name}`, and topology `{}` has {there}",
                    variant.name, topology.name
                ))
                .next("name fewer targets, or another topology"));
            }
        }
    }
    Ok(())
}

/// Loads the files, in parallel on as many threads as there are processors.
fn load(texts: &[(String, Vec<u8>)]) -> Vec<std::result::Result<Scenario, Diagnostics>> {
    let share = texts.len().div_ceil(std::thread::available_parallelism().map_or(1, usize::from)).max(1);
    let load = |some: &[(String, Vec<u8>)]| some.iter().map(|(source, text)| scenario::load(source, text)).collect();
    std::thread::scope(|threads| {
        let loading: Vec<_> = texts.chunks(share).map(|some| threads.spawn(move || load(some))).collect();
        let loaded = |thread: ScopedJoinHandle<'_, Vec<_>>| thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        loading.into_iter().flat_map(loaded).collect()
    })
}

/// Prints completions. In bash, scenarios are completed by the names of those that are built in, and files as well; other
/// shells would complete nothing but those names.
pub(super) fn completions(shell: clap_complete::Shell) -> Result<Exit> {
    let mut names = Vec::new();
    for (name, text) in scenario::builtin() {
        let scenario = scenario::load(name, text.as_bytes())?;
        names.push(scenario.scenario.to_string());
        names.extend(scenario.variants.iter().map(|variant| format!("{}/{}", scenario.scenario, variant.name)));
    }
    let one_of = PossibleValuesParser::new(names);
    // The generator offers hidden commands too, so leave them out.
    let mut offered = clap::Command::new("kchaos").disable_help_subcommand(true);
    for command in Cli::command().get_subcommands().filter(|c| !c.is_hide_set()) {
        let names_scenarios = |arg: &clap::Arg| matches!(arg.get_id().as_str(), "scenario" | "scenarios");
        offered = offered.subcommand(command.clone().mut_args(|arg| match names_scenarios(&arg) {
            true if shell == clap_complete::Shell::Bash => arg.value_parser(one_of.clone()),
            _ => arg,
        }));
    }
    let offered = offered.args(Cli::command().get_arguments().cloned());
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut offered.version("-"), "kchaos", &mut text);
    print(&String::from_utf8_lossy(&text));
    Ok(Exit::Upheld)
}

pub(super) fn schema() -> Result<Exit> {
    print(&format!("{:#}", scenario::schema()));
    Ok(Exit::Upheld)
}

pub(super) fn doctor(output: Format) -> Result<Exit> {
    let checks = runtime()?.block_on(doctor::examine());
    match output {
        Format::Table => print(&doctor::table(&checks)),
        Format::Json => {
            let text = serde_json::to_string_pretty(&checks).map_err(|e| Error::could_not_run(e.to_string()))?;
            print(&text);
        }
    }
    Ok(doctor::exit(&checks))
}
