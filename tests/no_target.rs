//! A scenario with nothing to break, or with names of things that don't exist, is refused before anything is touched,
//! and is never a success. No cluster is needed.

#[path = "fixture/plan.rs"]
mod fixture;

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use kchaos::cluster::facts::{Clock, Facts, Setting};
use kchaos::component::Leader;
use kchaos::error::Exit;
use kchaos::node::Role;
use kchaos::plan::{self, Edge, KEEP_ALIVE, KeepAlive, Plan};
use kchaos::scenario::{self, FaultSpec, ProbeSpec, Scenario};
use kchaos::user_manifests::Manifests;

fn scenario() -> (String, Scenario) {
    scenario::open("node-shutdown").unwrap()
}

/// The facts of a cluster with these nodes and nothing else.
fn facts(roles: &[Role]) -> Facts {
    let nodes: Vec<_> = ('a'..).take(roles.len()).map(|c| fixture::node(&format!("test-{c}"), c)).collect();
    let mut facts = fixture::plan("engine", "test", &nodes).facts;
    for (node, role) in facts.nodes.values_mut().zip(roles) {
        node.role = *role;
    }
    facts
}

/// Each clock with milliseconds of short clocks (`kind-configs/single.yaml`) and of those that Kubernetes has by itself.
const CLOCKS: [(Clock, [u64; 2]); 11] = [
    (Clock::NodeMonitorGracePeriod, [12_000, 50_000]),
    (Clock::NodeMonitorPeriod, [1_000, 5_000]),
    (Clock::LeaseRenew, [2_000, 10_000]),
    (Clock::UnreachableToleration, [10_000, 300_000]),
    (Clock::NodeStatusUpdate, [2_000, 10_000]),
    (Clock::ProxyMinSync, [1_000, 1_000]),
    (Clock::EvictionInterval, [100, 10_000]),
    (Clock::LeaderLease, [6_000, 15_000]),
    (Clock::LeaderRenewDeadline, [4_000, 10_000]),
    (Clock::LeaderRetry, [1_000, 2_000]),
    (Clock::LoadBalancerDetection, [12_000, 12_000]),
];
const SHORT: usize = 0;
const DEFAULT: usize = 1;

fn set_clocks(facts: &mut Facts, which: usize) {
    let setting = |ms: u64| Setting { value: Duration::from_millis(ms), source: "test".into() };
    facts.clocks = CLOCKS.iter().map(|(clock, ms)| (*clock, setting(ms[which]))).collect();
}

fn kchaos(args: &[&str]) -> (Option<i32>, String) {
    let state = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kchaos"));
    command.args(args).env("XDG_STATE_HOME", state.path()).env("DOCKER_HOST", "unix:///nowhere/docker.sock");
    let Output { status, stdout, stderr } = command.output().unwrap();
    let made: Vec<_> = std::fs::read_dir(state.path()).unwrap().collect();
    assert!(made.is_empty(), "{args:?} made {made:?}");
    (status.code(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}

#[test]
fn what_can_not_be_printed_is_an_error_and_a_reader_that_is_gone_is_none() {
    let print_to = |stdout: std::process::Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kchaos"));
        command.arg("list").stdout(stdout).output().unwrap()
    };
    let full = print_to(std::fs::File::options().write(true).open("/dev/full").unwrap().into());
    assert_eq!(full.status.code(), Some(3));
    let told = String::from_utf8_lossy(&full.stderr).into_owned();
    assert!(told.contains("cannot write to standard output"), "{told}");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(print_to(writer.into()).status.code(), Some(0));
    // Nor does anything break if even that can't be told.
    let nowhere = |args: &[&str]| {
        let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
        Command::new(env!("CARGO_BIN_EXE_kchaos")).args(args).stdout(full()).stderr(full()).status().unwrap().code()
    };
    let bad = format!("{}/tests/bad/alias.yaml", env!("CARGO_MANIFEST_DIR"));
    assert_eq!(nowhere(&["show", "no-such"]), Some(2));
    assert_eq!(nowhere(&["check", &bad]), Some(2));
    assert_eq!(nowhere(&["completions", "bash"]), Some(3));
}

#[test]
fn a_cluster_without_a_node_of_the_role_is_no_cluster_to_run_on() {
    let (source, scenario) = scenario();
    for roles in [&[][..], &[Role::ControlPlane], &[Role::ControlPlane, Role::LoadBalancer]] {
        let error = plan::resolve(&scenario, None, &source, &facts(roles), 1).unwrap_err();
        assert_eq!(error.exit(), Exit::CouldNotRun, "{error}");
        let told = error.to_string();
        assert!(told.contains("target `victim` needs a node of role \"worker\""), "{told}");
        assert!(told.contains("cluster `test` has none left"), "{told}");
    }
}

/// A target that is chosen as a leader can be on one node only, so no other target may take that node first.
#[test]
fn a_leader_is_a_target_whatever_the_seed() {
    let (source, mut scenario) = scenario::open("ha").unwrap();
    // Both variants also break a control plane about which nothing is asked.
    for variant in &mut scenario.variants {
        variant.and.push(FaultSpec::Pause { node: "plane".into() });
    }
    let mut facts = facts(&[Role::ControlPlane, Role::ControlPlane, Role::ControlPlane, Role::Worker]);
    set_clocks(&mut facts, SHORT);
    facts.leaders = Leader::ALL.map(|leader| (leader, "test-b".to_owned())).into();
    for seed in 0..50 {
        for (variant, target) in [("manager-down", "manager"), ("scheduler-down", "scheduler")] {
            let plan = plan::resolve(&scenario, Some(variant), &source, &facts, seed).unwrap();
            assert_eq!(plan.targets[target].name, "test-b", "{variant}, seed {seed}");
            assert_ne!(plan.targets["plane"].name, "test-b", "{variant}, seed {seed}");
        }
    }
    // A target that a variant does not need is not looked for.
    let (_, as_it_is) = scenario::open("ha").unwrap();
    let plan = plan::resolve(&as_it_is, Some("manager-down"), &source, &facts, 1).unwrap();
    assert_eq!(plan.targets.keys().collect::<Vec<_>>(), ["manager"]);
    facts.leaders.clear();
    let told = plan::resolve(&scenario, Some("scheduler-down"), &source, &facts, 1).unwrap_err().to_string();
    assert!(told.contains("on which kube-scheduler leads"), "{told}");
}

/// Their API servers keep processors busy that an election needs, too.
#[test]
fn which_control_planes_a_partition_may_leave_without_a_leader_is_known() {
    let mut facts = facts(&[Role::ControlPlane, Role::ControlPlane, Role::ControlPlane, Role::Worker, Role::Worker]);
    set_clocks(&mut facts, SHORT);
    let of = |name, variant| {
        let (source, scenario) = scenario::open(name).unwrap();
        let plan = plan::resolve(&scenario, Some(variant), &source, &facts, 1).unwrap();
        let planes = |node: &&str| facts.nodes[*node].role == Role::ControlPlane;
        let found = plan.may_lack_leader();
        assert!(found.iter().all(planes), "{variant}: {found:?}");
        found.len()
    };
    for (name, variant, expected) in [
        ("ha", "node-off", 0),
        ("partition", "one-node", 0),
        ("ha", "minority-cut-off", 3),
        ("ha", "one-way", 3),
        ("ha", "majority-cut-off", 3),
        ("ha", "cut-in-three", 3),
    ] {
        assert_eq!(of(name, variant), expected, "{variant}");
    }
}

/// Only an audit log tells of writes by one that does not lead.
#[test]
fn what_is_logged_nowhere_can_not_be_tested_and_all_else_can() {
    let (source, scenario) = scenario::open("ha").unwrap();
    let mut facts = facts(&[Role::ControlPlane, Role::ControlPlane, Role::ControlPlane, Role::Worker]);
    set_clocks(&mut facts, SHORT);
    facts.leaders = Leader::ALL.map(|leader| (leader, "test-b".to_owned())).into();
    let mut untestable = |log: Option<&str>| -> Vec<String> {
        facts.audit_log = log.map(str::to_owned);
        let plan = plan::resolve(&scenario, Some("manager-frozen"), &source, &facts, 1).unwrap();
        plan.claims.into_iter().filter(|claim| claim.unsupported.is_some()).map(|claim| claim.id).collect()
    };
    assert_eq!(untestable(None), ["frozen-writes-no-more", "frozen-tries-no-more"]);
    assert_eq!(untestable(Some("/var/log/kubernetes/audit.log")), Vec::<String>::new());
}

/// Only audit logs tell which API server a kubelet reports to.
#[test]
fn nodes_are_missed_for_nothing_only_if_it_is_known_what_their_kubelets_report_to() {
    let (source, scenario) = scenario::open("ha").unwrap();
    let mut facts = facts(&[Role::ControlPlane, Role::ControlPlane, Role::ControlPlane, Role::Worker, Role::Worker]);
    set_clocks(&mut facts, SHORT);
    let mut untestable = |reporting: &[(&str, &str)]| {
        facts.reporting = reporting.iter().map(|(node, to)| ((*node).to_owned(), (*to).to_owned())).collect();
        let plan = plan::resolve(&scenario, Some("node-paused"), &source, &facts, 1).unwrap();
        let broken = plan.faults[0].node.clone();
        let why = plan.claims.iter().find_map(|claim| claim.unsupported.clone());
        (broken.name.clone(), why, plan.kubelets_of(&broken).join(" "))
    };
    let (broken, why, hanging) = untestable(&[]);
    assert!(why.unwrap().contains("don't tell which of them"), "{broken}");
    assert_eq!(hanging, "");
    let (_, why, hanging) = untestable(&[("test-d", &broken), ("test-e", "test-x"), (&broken, &broken)]);
    assert_eq!((why, &*hanging), (None, "test-d"));
    let (_, why, hanging) = untestable(&[("test-d", &broken), ("test-e", &broken), (&broken, "test-x")]);
    assert!(why.unwrap().contains("report to that one API server"));
    assert_eq!(hanging, "test-d test-e");
}

/// Behind a load balancer, users can't be told from nodes.
#[test]
fn users_are_cut_off_alone_only_where_nodes_reach_the_api_another_way() {
    let (source, scenario) = scenario::open("partition").unwrap();
    let mut facts = facts(&[Role::ControlPlane, Role::Worker, Role::Worker, Role::LoadBalancer]);
    set_clocks(&mut facts, SHORT);
    let told = plan::resolve(&scenario, Some("from-users"), &source, &facts, 1).unwrap_err().to_string();
    assert!(told.contains("both through test-d, so that users can't be cut off alone"), "{told}");
    facts.nodes.retain(|_, node| node.role != Role::LoadBalancer);
    let plan = plan::resolve(&scenario, Some("from-users"), &source, &facts, 1).unwrap();
    let [cut] = &plan.faults[..] else { panic!("{:?}", plan.faults) };
    assert_eq!(cut.node.name, "test-a");
    // Its own address, too: pods beside the API server come from it.
    let through: Vec<_> = cut.peers.iter().map(|node| &*node.name).collect();
    assert_eq!(through, ["test-a", "test-b", "test-c"]);
}

/// With Kubernetes' own clocks nothing ends earlier than with short ones, no window ends before it begins, and what is
/// the user's own is added to every variant.
#[test]
fn every_variant_has_a_plan_with_short_and_with_default_clocks_and_with_what_is_the_users_own() {
    use Role::{ControlPlane, LoadBalancer, Worker};
    let shop = Manifests::read(Path::new("docs/shop")).unwrap();
    let kept: Vec<KeepAlive> =
        ["service/web:80=5s", "service/default/mine:80"].map(|text| text.parse().unwrap()).into();
    let mut variants = 0;
    for (name, _) in scenario::builtin() {
        let (source, scenario) = scenario::open(name).unwrap();
        let roles = match &*scenario.topology {
            "ha" => &[ControlPlane, ControlPlane, ControlPlane, Worker, Worker, LoadBalancer][..],
            _ => &[ControlPlane, Worker, Worker],
        };
        for variant in &scenario.variants {
            variants += 1;
            let name = format!("{name}/{}", variant.name);
            let plans = [SHORT, DEFAULT].map(|clocks| {
                let mut facts = facts(roles);
                set_clocks(&mut facts, clocks);
                facts.leaders = Leader::ALL.map(|leader| (leader, "test-a".to_owned())).into();
                let plan = plan::resolve(&scenario, Some(&variant.name), &source, &facts, 1);
                plan.unwrap_or_else(|e| panic!("{name}: {e}"))
            });
            for plan in &plans {
                for claim in &plan.claims {
                    if let (Edge::After(from), Edge::After(to)) = (claim.window.from, claim.window.to) {
                        assert!(from < to, "{name}: {} from {from:?} to {to:?}", claim.id);
                    }
                }
                assert!(plan.fault_for.at_least <= plan.fault_for.at_most, "{name}");
                let mut with_own = plan.clone();
                with_own.bring(&shop);
                with_own.keep_alive(&kept, variant.ends_before.is_some()).unwrap_or_else(|e| panic!("{name}: {e}"));
                let own = with_own.claims.iter().filter(|claim| claim.sentence == KEEP_ALIVE).count();
                assert_eq!((own, with_own.claims.len()), (4, plan.claims.len() + 4), "{name}");
            }
            let [short, default] = &plans;
            assert_eq!(short.claims.len(), default.claims.len(), "{name}");
            for (short, default) in short.claims.iter().zip(&default.claims) {
                assert_eq!(short.id, default.id, "{name}");
                if let (Edge::After(short_end), Edge::After(end)) = (short.window.to, default.window.to) {
                    assert!(short_end <= end, "{name}: {} ends at {short_end:?}, then at {end:?}", short.id);
                }
            }
            assert!(short.fault_for.at_most <= default.fault_for.at_most, "{name}");
        }
    }
    assert!(variants > 70, "{variants}");
}

/// Every node that could be lost gets one plan, enumerated from the cluster. The seed alone is enough to repeat it.
#[test]
fn every_node_that_could_be_broken_has_a_plan_that_its_seed_repeats() {
    use Role::{ControlPlane, LoadBalancer, Worker};
    let (source, scenario) = scenario::open("ha").unwrap();
    let mut facts = facts(&[ControlPlane, Worker, ControlPlane, LoadBalancer, Worker, ControlPlane]);
    set_clocks(&mut facts, SHORT);
    facts.leaders = Leader::ALL.map(|leader| (leader, "test-c".to_owned())).into();
    let planes = &["test-a", "test-c", "test-f"][..];
    for (name, expected) in [
        ("node-off", planes),
        ("etcd-frozen", planes),
        ("quorum-lost", planes),
        ("manager-down", &["test-c"]),
        ("balancer-off", &["test-d"]),
    ] {
        let variant = scenario.variant(Some(name)).unwrap();
        assert_eq!(plan::breakable(&scenario, variant, &facts), expected, "{name}");
        let resolve = |seed| plan::resolve(&scenario, Some(name), &source, &facts, seed);
        for node in expected {
            let plan = plan::breaking(node, u64::MAX - 1, resolve).unwrap();
            assert!(plan.breaks(node), "{name} of {node}");
            assert_eq!(resolve(plan.seed).unwrap(), plan, "{name} of {node}");
        }
        let told = plan::breaking("test-b", 1, resolve).unwrap_err().to_string();
        assert!(told.contains("no choice of targets breaks node test-b"), "{told}");
    }
}

/// What etcd keeps in memory is lost with the container, and no undo could bring it back.
#[test]
fn a_node_whose_etcd_is_in_memory_is_not_restarted() {
    let mut facts = facts(&[Role::ControlPlane, Role::Worker, Role::Worker]);
    set_clocks(&mut facts, SHORT);
    let plan = |facts: &Facts, name: &str, variant: &str| {
        let (source, scenario) = scenario::open(name).unwrap();
        let plan = plan::resolve(&scenario, Some(variant), &source, facts, 1).unwrap();
        plan::loses_nothing_for_good(&plan).map_err(|error| error.to_string())
    };
    let of_planes = [
        ("apiserver-crash", "vm-off"),
        ("apiserver-crash", "vm-restarted"),
        ("storage-lost", "restarted"),
        ("storage-lost", "restarted-on-ephemeral"),
    ];
    let of_others = [("apiserver-crash", "vm-paused"), ("storage-lost", "wiped"), ("node-shutdown", "power-off")];
    for (name, variant) in of_planes.into_iter().chain(of_others) {
        plan(&facts, name, variant).unwrap();
    }
    let control_plane = facts.nodes.values_mut().find(|of| of.role == Role::ControlPlane).unwrap();
    control_plane.store_in_memory = Some("/run/etcd".into());
    for (name, variant) in of_planes {
        let refused = plan(&facts, name, variant).unwrap_err();
        assert!(refused.contains("its etcd keeps its data in memory (/run/etcd)"), "{name}/{variant}: {refused}");
    }
    for (name, variant) in of_others {
        plan(&facts, name, variant).unwrap();
    }
}

/// Two of three are a majority, two of five are not: there the others would carry on, so claims that they don't are not
/// made. With fewer than three, claims about the two others would be about nobody.
#[test]
fn what_is_said_of_a_lost_majority_is_not_said_where_it_is_none() {
    let (source, scenario) = scenario::open("ha").unwrap();
    for planes in [1, 2] {
        let facts = facts(&vec![Role::ControlPlane; planes]);
        for variant in &scenario.variants {
            let refused = plan::resolve(&scenario, Some(&variant.name), &source, &facts, 1).unwrap_err().to_string();
            let told = format!("scenario `ha` is about 3 control planes or more, and cluster `test` has {planes}");
            assert!(refused.contains(&told), "{}: {refused}", variant.name);
            assert_eq!(plan::fits(&scenario, variant, &facts).unwrap_err().to_string(), refused);
        }
    }
    for (planes, fits) in [(3, true), (4, true), (5, false)] {
        let facts = facts(&vec![Role::ControlPlane; planes]);
        for name in ["quorum-lost", "majority-cut-off", "cut-in-three"] {
            let variant = scenario.variant(Some(name)).unwrap();
            let enough = plan::fits(&scenario, variant, &facts);
            assert_eq!(enough.is_ok(), fits, "{name} of {planes}");
            if let Err(error) = enough {
                assert!(error.to_string().contains("breaks a majority of the nodes of a role, 2 of them"), "{error}");
                let refused = plan::resolve(&scenario, Some(name), &source, &facts, 1).unwrap_err();
                assert_eq!(refused.to_string(), error.to_string());
            }
        }
        assert!(plan::fits(&scenario, scenario.variant(Some("node-off")).unwrap(), &facts).is_ok());
    }
}

#[test]
fn a_setting_that_a_window_needs_and_the_cluster_does_not_show_is_an_error() {
    let (source, scenario) = scenario();
    let told = plan::resolve(&scenario, None, &source, &facts(&[Role::Worker]), 1).unwrap_err().to_string();
    assert!(told.contains("could not be read off cluster `test`"), "{told}");
}

#[test]
fn a_scenario_or_variant_of_no_such_name_is_an_error_that_lists_those_there_are() {
    let (code, told) = kchaos(&["run", "node-shutdwn"]);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("node-shutdown"), "{told}");
    let (source, scenario) = scenario();
    let error = plan::resolve(&scenario, Some("puase"), &source, &facts(&[Role::Worker]), 1).unwrap_err();
    assert_eq!(error.exit(), Exit::Usage);
    assert!(
        error.to_string().contains("did you mean `pause`? it has power-off, stop, pause, restart-loop, short-outage"),
        "{error}"
    );
    for command in [["run", "node-shutdown/puase"], ["show", "node-shutdown/puase"]] {
        let (code, told) = kchaos(&command);
        assert_eq!(code, Some(2), "{told}");
        assert!(told.contains("did you mean `pause`?"), "before anything else is looked at: {told}");
    }
}

#[test]
fn without_an_engine_nothing_is_run_and_nothing_is_written() {
    let (code, told) = kchaos(&["run", "node-shutdown", "--cluster", "mine"]);
    assert_eq!(code, Some(3), "{told}");
    assert!(told.contains("unix:///nowhere/docker.sock"), "{told}");
}

#[test]
fn a_topology_that_is_not_there_is_found_by_check_and_a_path_is_relative_to_the_scenario() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mine.yaml");
    let write = |topology: &str| {
        let text = include_str!("../scenarios/node-shutdown.yaml").replace("scenario: node-shutdown", "scenario: mine");
        std::fs::write(&file, text.replace("topology: single", &format!("topology: {topology}"))).unwrap();
        kchaos(&["check", file.to_str().unwrap()])
    };
    let (code, told) = write("singel");
    assert_eq!(code, Some(2), "{told}");
    assert!(
        told.contains("mine.yaml: there is no topology `singel`") && told.contains("did you mean single?"),
        "{told}"
    );
    let (code, told) = write("./my-kind.yaml");
    assert_eq!(code, Some(2), "{told}");
    std::fs::write(dir.path().join("my-kind.yaml"), include_str!("../kind-configs/ha.yaml")).unwrap();
    let (code, told) = write("./my-kind.yaml");
    assert_eq!(code, Some(0), "{told}");
}

#[test]
fn a_topology_has_as_many_nodes_as_a_variant_breaks() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mine.yaml");
    let check = |line: &str, instead: &str| {
        let (_, text) = scenario::builtin().iter().find(|(name, _)| *name == "ha").unwrap();
        assert!(text.contains(line), "{line}");
        std::fs::write(&file, text.replace("scenario: ha", "scenario: mine").replace(line, instead)).unwrap();
        kchaos(&["check", file.to_str().unwrap()])
    };
    let (code, told) = check("topology: ha", "topology: ha");
    assert_eq!(code, Some(0), "{told}");
    let (code, told) = check("topology: ha", "topology: single");
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("it is about 3 control planes or more, and topology `single` has 1"), "{told}");
    let (code, told) = check("topology: ha\ncontrol-planes: 3", "topology: single");
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("` needs ") && told.contains("and topology `single` has "), "{told}");
}

#[test]
fn what_is_shown_of_a_variant_is_that_variant_only() {
    let (code, told) = kchaos(&["show", "node-shutdown/short-outage"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("back before node-unknown") && told.contains("the very same pods run on"), "{told}");
    assert!(!told.contains("freezes") && !told.contains("marked Ready=Unknown"), "of other variants: {told}");
}

/// All this is checked before there is an engine to ask.
#[test]
fn manifests_and_what_is_kept_alive_of_them_are_looked_at_before_anything_is_touched() {
    let web = "service/web:80";
    for (args, told) in [
        (&["--keep-alive", web][..], "--manifests DIR"),
        (&["--junit", "/nowhere/report.xml"], "cannot write /nowhere/report.xml: there is no directory /nowhere"),
        (&["--summary", "docs"], "cannot write docs: it is a directory"),
        (&["--manifests", "docs/shop", "--keep-alive", "service/wed:80"], "there is no Service wed in docs/shop"),
        (&["--manifests", "docs/shop", "--keep-alive", "service/web:81"], "has no port 81"),
        (&["--manifests", "docs/verdicts/nothing"], "cannot read the manifests in docs/verdicts/nothing"),
        (&["--manifests", "setup"], "there are no manifests in setup"),
        (&["--manifests", "scenarios"], "scenarios/apiserver-crash.yaml:2: the object has no `apiVersion`"),
    ] {
        let (code, said) = kchaos(&[&["run", "node-shutdown"], args].concat());
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(told), "{said}");
    }
    let (code, said) = kchaos(&["run", "node-shutdown", "--manifests", "docs/shop", "--keep-alive", web]);
    assert_eq!(code, Some(3), "what is in order needs an engine: {said}");
}

/// The Service is asked in the namespace of the manifests, which differs from run to run; the record shows the address
/// as it was given.
#[test]
fn a_service_of_the_manifests_is_found_where_they_are_put() {
    let (source, scenario) = scenario::open("volume-lost").unwrap();
    let mut facts = facts(&[Role::ControlPlane, Role::Worker, Role::Worker]);
    let setting = || Setting { value: Duration::from_secs(1), source: "test".into() };
    let clocks = [
        Clock::NodeMonitorGracePeriod,
        Clock::NodeMonitorPeriod,
        Clock::LeaseRenew,
        Clock::NodeStatusUpdate,
        Clock::ProxyMinSync,
    ];
    facts.clocks = clocks.into_iter().map(|clock| (clock, setting())).collect();
    let manifests = Manifests::read(Path::new("docs/shop")).unwrap();
    let kept: [KeepAlive; 1] = ["service/web:80/healthz=5s".parse().unwrap()];
    let planned = |seed| plan::resolve(&scenario, None, &source, &facts, seed).unwrap();
    let told = planned(1).keep_alive(&kept, false).unwrap_err();
    assert_eq!(told.exit(), Exit::Usage, "{told}");
    for seed in [1, 2] {
        let mut plan = planned(seed);
        plan.bring(&manifests);
        plan.keep_alive(&kept, false).unwrap();
        let namespace = format!("kchaos-volume-lost-{seed:08x}-own");
        let asked = ProbeSpec::Reach(format!("service/{namespace}/web:80/healthz").parse().unwrap());
        assert!(plan.probes.iter().any(|probe| probe.spec == asked), "{:?}", plan.probes);
        let written = serde_json::to_value(&plan).unwrap();
        assert_eq!(written["keep_alive"][0]["address"], "service/web:80/healthz");
        assert_eq!(
            written["manifests"],
            serde_json::json!({"path": "docs/shop", "sha256": manifests.sha256, "namespace": namespace})
        );
        assert_eq!(serde_json::from_value::<Plan>(written).unwrap(), plan);
    }
}

#[test]
fn what_is_asked_for_in_two_ways_at_once_is_refused() {
    for (args, says) in [
        (&["run", "ha/node-off", "--every-variant", "--dry-run"][..], "leave one of the two out"),
        (&["run", "ha", "--cluster", "x", "--keep"], "cannot be used with"),
        (&["run", "tests/bad", "--dry-run"], "can't read `tests/bad`: it is not a file"),
    ] {
        let (code, told) = kchaos(args);
        assert_eq!(code, Some(2), "{told}");
        assert!(told.contains(says), "{told}");
    }
}

#[test]
fn completions_offer_scenarios_and_no_hidden_command() {
    let (code, told) = kchaos(&["completions", "bash"]);
    assert_eq!(code, Some(0));
    assert!(told.contains("rollback") && !told.contains("guard") && !told.contains("agent"), "{told}");
    assert!(told.contains(" volume-lost ") && told.contains(" node-shutdown/short-outage "), "{told}");
    // Other shells would complete nothing else, and files are scenarios, too.
    let (_, told) = kchaos(&["completions", "zsh"]);
    assert!(!told.contains("node-shutdown/short-outage"), "{told}");
}

#[test]
fn scenarios_are_listed_with_their_sentences_and_shown_as_the_files_they_are() {
    let (_, told) = kchaos(&["list", "-o", "json"]);
    let listed: serde_json::Value = serde_json::from_str(&told).unwrap();
    let partition = listed.as_array().unwrap().iter().find(|one| one["scenario"] == "partition").unwrap();
    let sentences = partition["sentences"].as_array().unwrap();
    assert!(sentences.iter().any(|sentence| sentence == "partition.a-view"), "{told}");

    let (code, told) = kchaos(&["show", "partition", "--yaml"]);
    assert_eq!((code, told.trim()), (Some(0), include_str!("../scenarios/partition.yaml").trim()));
    let (code, told) = kchaos(&["show", "partition/one-node", "--yaml"]);
    assert_eq!(code, Some(2));
    assert!(told.contains("kchaos show partition --yaml"), "{told}");
}
