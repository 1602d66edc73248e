//! Every scenario in every variant on a real cluster, and the sabotage that each must catch.
//!
//! There is one trial per scenario and variant: its claims are judged from one run. `make soak` sets `KCHAOS_SOAK=1`,
//! which runs every variant and every sabotage; otherwise a selection runs. The trials share `KCHAOS_TEST_CLUSTERS`
//! clusters. Each trial has a cluster to itself, since it breaks it. A trial in which something is to be refuted runs
//! alone, since what others take of the machine excuses much. Without an engine the trials are skipped, with the
//! reason; `KCHAOS_REQUIRE=1` turns a skip into a failure.

#[allow(dead_code, reason = "each program of tests uses a part of it")]
mod lab;
#[path = "scenarios/prevented.rs"]
mod prevented;

use std::io::{Read, Write};
use std::process::{Child, Command, ExitCode};
use std::time::Duration;

use kchaos::event::EventKind;
use kchaos::journal;
use kchaos::run_dir::{RunDir, StateDir};
use lab::liar::{
    COMPONENT_DOWN, COMPONENT_SIGNALS, DROPS, Liar, NOT_IN, UNSEEN, faked, nothing_proven, without_signals, workers,
};
use lab::{IN_EFFECT, Lab, Labs, Ran, docker, test_file, wait_for};
use libtest_mimic::{Arguments, Trial};

/// Scenarios that need several control planes are in `tests/ha.rs`, so that two clusters never run side by side.
static SINGLE: Labs = Labs::of("single");

/// What `make test` runs: of each scenario a variant that takes about a minute, and variants that look different to
/// Kubernetes. `tests/engine` checks that all faults do what they say. For want of time, `node-shutdown/short-outage` is
/// left to `make soak`; `tests/kill_on_cluster.rs` runs one of a paused node.
const SOME: [&str; 8] = [
    "apiserver-crash/frozen",
    "kubelet-fault/stopped",
    "node-shutdown/power-off",
    "operator-error/all-drained",
    "partition/one-node",
    "services-crash/controller-manager",
    "storage-lost/unavailable",
    "volume-lost/copied",
];

/// The scenario whose runs are sabotaged from outside.
const NODE_LOST: &str = "minimal/node-lost.yaml";

/// The same for a store that is lost and restored.
const STORE_GONE: &str = "minimal/store-gone.yaml";

const KUBELET_SIGNALS: Liar =
    Liar::Workers(&[("systemctl", "*'--signal=STOP kubelet' | *'--signal=KILL kubelet') exit 0")]);
/// The kubelet that has read its good configuration goes on. It is restarted once its file is back.
const BAD_CONFIG: Liar = Liar::Workers(&[(
    "systemctl",
    "'restart kubelet') grep -qs KubeletConfiguration /var/lib/kubelet/config.yaml || exit 0",
)]);
/// The same for a certificate.
const BAD_CERTIFICATE: Liar = Liar::Workers(&[(
    "systemctl",
    "'restart kubelet') readlink /var/lib/kubelet/pki/kubelet-client-current.pem | grep -q /kchaos- && exit 0",
)]);
/// The volume stays in its place. What puts one back names it the other way round.
const VOLUME_ASIDE: Liar = Liar::Workers(&[("mv", "'-T '*.kchaos-????????????????) exit 0")]);
const CONTAINERS: Liar = Liar::Workers(&[("ctr", "*' tasks kill '*) exit 0")]);
const WEBHOOK: Liar = Liar::Planes(&[("kubectl", "*' create --filename=-') exit 0")]);

/// Faults that are faked: the run, who lies, and what is then said. Others have trials of their own.
const FAKED: &[(&str, Liar, &str)] = &[
    ("node-shutdown/stop", Liar::Engine("/stop"), UNSEEN),
    ("node-shutdown/pause", Liar::Engine("/pause"), UNSEEN),
    ("node-shutdown/restart-loop", Liar::Kernel, NOT_IN),
    ("kubelet-fault/frozen", KUBELET_SIGNALS, UNSEEN),
    ("kubelet-fault/crashing", Liar::Workers(&[("systemd-run", "*'--signal=KILL kubelet'*) exit 0")]), UNSEEN),
    ("kubelet-fault/config-invalid", BAD_CONFIG, UNSEEN),
    ("kubelet-fault/config-removed", BAD_CONFIG, UNSEEN),
    ("kubelet-fault/certificate-expired", BAD_CERTIFICATE, UNSEEN),
    ("kubelet-fault/killed", KUBELET_SIGNALS, UNSEEN),
    ("kubelet-fault/killed-restarted", KUBELET_SIGNALS, UNSEEN),
    // The kubelet is another one all the same: its unit is restarted to get a watchdog.
    ("kubelet-fault/frozen-watched", KUBELET_SIGNALS, UNSEEN),
    ("partition/two-nodes", Liar::Workers(DROPS), UNSEEN),
    ("partition/to-api", Liar::Workers(DROPS), UNSEEN),
    ("partition/to-kubelet", Liar::Workers(DROPS), UNSEEN),
    ("partition/from-users", Liar::Planes(DROPS), UNSEEN),
    ("apiserver-crash/killed", COMPONENT_SIGNALS, UNSEEN),
    ("apiserver-crash/frozen", COMPONENT_SIGNALS, UNSEEN),
    ("apiserver-crash/app-ends-meanwhile", CONTAINERS, UNSEEN),
    ("apiserver-crash/vm-restarted", Liar::Kernel, NOT_IN),
    // The mitigation is lacking: the restart policy is not there that would bring the machine back.
    ("apiserver-crash/vm-restarted", Liar::Engine("/update"), NOT_IN),
    ("apiserver-crash/vm-paused", Liar::Engine("/pause"), UNSEEN),
    ("storage-lost/unavailable", COMPONENT_SIGNALS, UNSEEN),
    // etcd is restarted, and has all that it had.
    ("storage-lost/wiped-unnoticed", Liar::Planes(&[("mv", "*/member' '*/member) exit 0")]), UNSEEN),
    // etcd is restarted with a copy of all that it had.
    ("storage-lost/corrupt", Liar::Planes(&[("dd", "*'/corrupt/snap/db '*) exit 0")]), UNSEEN),
    ("storage-lost/restarted", Liar::Kernel, NOT_IN),
    // The machine is restarted, and has its storage.
    ("storage-lost/restarted-on-ephemeral", Liar::Planes(&[("mv", "*/member' '*/member) exit 0")]), UNSEEN),
    ("services-crash/controller-manager", COMPONENT_DOWN, UNSEEN),
    ("services-crash/scheduler", COMPONENT_DOWN, UNSEEN),
    ("services-crash/nobody-watches-nodes", COMPONENT_DOWN, UNSEEN),
    // The API server is started anew, with the certificate that it had.
    ("operator-error/certificate-expired", Liar::Planes(&[("mv", "*.expired' '*.crt) exit 0")]), UNSEEN),
    ("operator-error/webhook-dead", WEBHOOK, UNSEEN),
    ("operator-error/webhook-ignored", WEBHOOK, UNSEEN),
    ("volume-lost/emptied", VOLUME_ASIDE, UNSEEN),
    ("volume-lost/gone", VOLUME_ASIDE, UNSEEN),
    // Mounted in the volume's place, but for reading and writing.
    ("volume-lost/read-only", Liar::Workers(&[("mount", "'-o remount,bind,ro /var/lib/kchaos/'*) exit 0")]), NOT_IN),
    // A small disk in the volume's place, with nothing on it but the copy.
    ("volume-lost/full", Liar::Workers(&[("dd", "*' of=/var/lib/kchaos/'*) exit 0")]), NOT_IN),
    ("volume-lost/node-off", Liar::Kernel, NOT_IN),
    ("volume-lost/node-gone", Liar::Kernel, NOT_IN),
    ("volume-lost/claim-deleted", Liar::Planes(&[("kubectl", "*' delete '*) exit 0")]), UNSEEN),
];

fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    args.test_threads = Some(Labs::count());
    let mut trials = Vec::new();
    let (every, mut met, mut fakes) = (lab::soak(), 0, 0);
    for (name, text) in kchaos::scenario::builtin() {
        let scenario = kchaos::scenario::load(name, text.as_bytes()).expect("built-in scenarios load");
        if scenario.topology != "single" {
            continue;
        }
        for variant in &scenario.variants {
            let selection = format!("{name}/{}", variant.name);
            let stands = SOME.contains(&&*selection);
            met += usize::from(stands);
            fakes += FAKED.iter().filter(|(of, ..)| *of == selection).count();
            if every || stands {
                let name = format!("scenario::{selection}");
                trials.push(trial(name, move |lab| lab.upheld(&selection)));
            }
        }
    }
    assert_eq!(met, SOME.len(), "a variant of `SOME` is not there");
    assert_eq!(fakes, FAKED.len(), "a variant of `FAKED` is not there");
    trials.push(trial("sabotage::a_fault_that_never_landed_is_no_evidence", faked_fault));
    trials.push(trial("sabotage::a_node_brought_back_secretly_is_noticed", secret_return));
    trials
        .push(alone("sabotage::neither_one_replica_nor_a_service_that_points_nowhere_is_a_mitigation", no_mitigation));
    trials.push(alone("sabotage::without_the_eviction_controller_nothing_is_evicted", no_eviction));
    // The same for other faults and for remedies: faked, and secretly undone.
    if every {
        trials.push(trial("sabotage::a_drain_that_evicts_nobody_is_no_evidence", faked_drain));
        trials.push(trial("sabotage::into_a_cluster_that_is_not_steady_nothing_is_injected", unsteady));
        trials.push(trial("sabotage::a_flag_put_right_secretly_is_noticed", secret_flag));
        trials.push(trial("sabotage::without_its_snapshot_nothing_is_restored", no_snapshot));
        trials.push(alone("sabotage::a_kubelet_whose_pods_are_not_evicted_is_noticed", no_eviction_from_a_kubelet));
        trials.push(alone("sabotage::side_b_whose_pods_are_not_evicted_is_noticed", no_eviction_from_side_b));
        trials.push(alone(
            "sabotage::a_service_that_points_nowhere_is_no_mitigation_of_a_kubelet",
            kubelet_points_nowhere,
        ));
        trials.push(alone("sabotage::state_that_is_lost_with_its_pod_is_no_tolerance_of_restarts", state_in_empty_dir));
        trials.push(alone(
            "sabotage::those_who_linger_when_they_are_drained_are_told_from_the_others",
            lingering_exchanged,
        ));
        trials.push(alone("sabotage::kubelets_that_miss_nothing_are_noticed", prevented::kubelets_silent));
        trials.push(alone("sabotage::a_pod_that_is_replaced_after_all_is_noticed", prevented::replaced_after_all));
        trials.push(alone("sabotage::a_copy_that_holds_nothing_gives_nothing_back", empty_copy));
        trials.push(alone("sabotage::a_pod_scheduled_by_hand_is_noticed", prevented::scheduled_by_hand));
        trials.push(alone(
            "sabotage::containers_that_end_without_an_api_server_are_noticed",
            prevented::ended_without_an_api_server,
        ));
        trials
            .push(alone("sabotage::containers_that_end_without_a_store_are_noticed", prevented::ended_without_a_store));
        trials.push(alone(
            "sabotage::containers_that_end_with_a_corrupt_store_are_noticed",
            prevented::ended_with_a_corrupt_store,
        ));
        trials
            .push(alone("sabotage::a_scheduler_that_is_not_restarted_is_noticed", prevented::scheduler_not_restarted));
        trials.push(alone("sabotage::a_pod_that_waits_no_more_is_noticed", prevented::waits_no_more));
        trials.push(alone("sabotage::a_node_that_was_never_deleted_was_not_given_up", prevented::not_given_up));
        trials.push(alone("sabotage::side_a_served_by_hand_is_noticed", prevented::served_by_hand));
        trials.push(alone("sabotage::a_kubelet_that_is_out_of_reach_after_all_is_noticed", prevented::out_of_reach));
        trials.push(alone("sabotage::a_client_of_the_api_that_is_not_let_in_is_noticed", prevented::not_let_in));
        trials.push(alone("sabotage::a_drain_that_costs_requests_is_noticed", prevented::guarded_missed));
        trials
            .push(alone("sabotage::a_storage_that_is_lost_after_all_is_not_reliable", prevented::storage_not_reliable));
        trials
            .push(alone("sabotage::a_pod_of_a_deleted_workload_made_by_hand_is_noticed", prevented::pod_made_by_hand));
        trials.push(alone("sabotage::what_is_deleted_again_was_not_restored", prevented::deleted_again));
        trials.push(alone("sabotage::an_operator_who_is_kept_out_is_noticed", prevented::operator_kept_out));
        trials.push(alone("sabotage::a_pod_of_an_emptied_volume_that_is_replaced_is_noticed", prevented::pod_deleted));
        trials.push(alone("sabotage::a_volume_filled_secretly_is_noticed", prevented::volume_filled));
        trials.push(trial("sabotage::an_operator_who_only_says_that_he_did_it_is_no_evidence", faked_deletion));
        trials.push(trial("sabotage::a_store_that_was_never_lost_is_no_evidence", faked_loss));
        trials.push(alone("sabotage::a_node_that_is_not_really_given_up_helps_nobody", faked_remedy));
        trials.push(trial("sabotage::about_a_node_that_is_back_already_nothing_is_done", healed_before_its_remedy));
        trials.push(trial("sabotage::a_kubelet_that_was_never_stopped_is_no_evidence", faked_stop));
        trials.push(trial("sabotage::a_kubelet_started_secretly_is_noticed", secret_start));
        trials.push(trial("sabotage::a_cut_that_lets_everything_through_is_no_evidence", faked_cut));
        trials.push(trial("sabotage::what_is_cut_beyond_the_partition_is_noticed", cut_too_much));
        trials.push(trial("sabotage::a_partition_that_lets_through_to_pods_is_noticed", pods_let_through));
        trials.push(trial("sabotage::a_network_that_loses_nothing_is_no_evidence", faked_loss_of_packets));
        trials.push(trial("sabotage::a_network_mended_secretly_is_noticed", secret_mend));
        trials.push(trial("sabotage::what_is_held_and_was_never_deleted_is_no_evidence", faked_deletion_of_held));
        trials.push(trial("sabotage::a_namespace_that_was_never_deleted_is_no_evidence", faked_deletion_of_namespace));
        trials.push(trial("sabotage::a_partition_healed_secretly_is_noticed", secret_heal));
        trials.push(trial("sabotage::an_api_server_brought_back_secretly_is_noticed", secret_api_server));
        trials.push(trial("sabotage::a_binding_put_back_secretly_is_noticed", secret_binding));
        for &(selection, liar, because) in FAKED {
            let name = format!("sabotage::faked::{selection} ({})", liar.who());
            trials.push(trial(name, move |lab| faked(lab, selection, liar, because)));
        }
    }
    if every {
        let name = "load::on_nodes_that_are_full_windows_hold";
        trials.push(alone(name, |lab| lab.upheld(&test_file("minimal/crowded.yaml"))));
        trials.push(alone("load::a_machine_that_is_kept_busy_refutes_nothing", busy));
    }
    if every {
        trials.push(trial("scenario::the_one_that_the_guide_explains", guide));
    }
    trials.push(trial("left_out::what_can_not_be_run_on_a_cluster_is_told", left_out));
    if every {
        trials.push(trial("left_out::beside_what_can_be_run_it_counts_as_unsupported", left_out_beside));
    }
    let name = "keep_alive::what_is_ones_own_is_held_against_its_budget";
    trials.push(alone(name, kept_alive));
    libtest_mimic::run(&args, trials).exit_code()
}

/// The example of docs/scenarios.md, from a directory that is nobody's.
fn guide(lab: &Lab) -> Result<(), String> {
    let guide = std::fs::read_to_string(test_file("../docs/scenarios.md")).map_err(|e| e.to_string())?;
    let example = guide.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).ok_or("no example")?;
    let place = tempfile::tempdir().map_err(|e| e.to_string())?;
    let file = place.path().join("my-service.yaml");
    std::fs::write(&file, example).map_err(|e| e.to_string())?;
    lab.upheld(&file.display().to_string())
}

/// Each variant needs several control planes, and the cluster has one.
fn left_out(lab: &Lab) -> Result<(), String> {
    let output = lab.start("ha").arg("--every-variant").output().map_err(|e| e.to_string())?;
    let talk = String::from_utf8_lossy(&output.stderr);
    let (_, text) = kchaos::scenario::builtin().iter().find(|(name, _)| *name == "ha").ok_or("it is gone")?;
    let ha = kchaos::scenario::load("ha", text.as_bytes()).map_err(|e| e.to_string())?;
    let told =
        |variant: &str| talk.lines().any(|l| l.contains(&format!("ha/{variant}: ")) && l.ends_with(": left out"));
    match ha.variants.iter().find(|variant| !told(&variant.name)) {
        None if output.status.code() == Some(5) => Ok(()),
        untold => Err(format!("{}, untold: {:?}\n{talk}", output.status, untold.map(|variant| &variant.name))),
    }
}

/// Of two scenarios, one can be run here. That it went well is not all that was asked for.
fn left_out_beside(lab: &Lab) -> Result<(), String> {
    let blink = std::fs::read_to_string(test_file("minimal/blink.yaml")).map_err(|e| e.to_string())?;
    let place = tempfile::tempdir().map_err(|e| e.to_string())?;
    let file = place.path().join("blink.yaml");
    let one = blink.lines().filter(|line| !line.contains("name: power-off") && !line.contains("name: config-removed"));
    std::fs::write(&file, one.map(|line| format!("{line}\n")).collect::<String>()).map_err(|e| e.to_string())?;
    for (allowed, exit) in [(None, 6), (Some("--allow-unsupported"), 0)] {
        let mut command = lab.start("ha");
        command.arg(&file).arg("--every-variant").args(allowed);
        let output = command.output().map_err(|e| e.to_string())?;
        if output.status.code() != Some(exit) {
            return Err(format!("{}, not {exit}\n{}", output.status, String::from_utf8_lossy(&output.stderr)));
        }
    }
    Ok(())
}

/// Far more is to be done than the machine has processors for.
fn busy(lab: &Lab) -> Result<(), String> {
    struct Load(Vec<Child>);
    impl Drop for Load {
        fn drop(&mut self) {
            for child in &mut self.0 {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
    let endless = |_| Command::new("sh").args(["-c", "while :; do :; done"]).spawn().map_err(|e| e.to_string());
    let _load = Load((0..30).map(endless).collect::<Result<_, _>>()?);
    for scenario in ["partition/one-node", "node-shutdown/power-off"] {
        let ran = lab.run(scenario)?;
        println!("{}", ran.story());
        if !matches!(ran.exit, 0 | 6) || ran.report["faults"][0]["proven_for"].is_null() {
            return Err(format!("exit {}\n{}", ran.exit, ran.story()));
        }
        match ran.report["time"]["contended"].as_f64() {
            Some(behind) if behind > 2.0 => {}
            behind => return Err(format!("the cluster is {behind:?} s behind, it says\n{}", ran.story())),
        }
    }
    Ok(())
}

fn trial(name: impl Into<String>, test: impl Fn(&Lab) -> Result<(), String> + Send + 'static) -> Trial {
    lab::trial(&SINGLE, false, name, test)
}

/// One during which nothing is watched on another cluster.
fn alone(name: impl Into<String>, test: impl Fn(&Lab) -> Result<(), String> + Send + 'static) -> Trial {
    lab::trial(&SINGLE, true, name, test)
}

/// The run's victim while it is down: the node whose container is not running.
fn victim(lab: &Lab) -> Result<String, String> {
    let label = format!("label=io.x-k8s.kind.cluster={}", lab.cluster);
    wait_for("a node that is down", Duration::from_secs(120), || {
        docker(&["ps", "-a", "--filter", &label, "--filter", "status=exited", "--format", "{{.Names}}"])
            .ok()
            .filter(|n| !n.is_empty())
    })
}

fn faked_fault(lab: &Lab) -> Result<(), String> {
    let ran = without_signals(lab, &node_lost("power-off"))?;
    ran.expect_exit(6)?;
    ran.expect("node-marked-unknown", "inconclusive", "no-effect")?;
    ran.expect("service-recovers", "inconclusive", "no-effect")
}

fn node_lost(variant: &str) -> String {
    format!("{}/{variant}", test_file(NODE_LOST))
}

fn on_workers(lab: &Lab, script: &str) -> Result<(), String> {
    workers(lab).iter().try_for_each(|node| docker(&["exec", node, "sh", "-c", script]).map(drop))
}

/// The node of a run whose kubelet is stopped.
fn changed_node(lab: &Lab) -> Result<String, String> {
    let is_stopped = |node: &String| docker(&["exec", node, "systemctl", "is-active", "--quiet", "kubelet"]).is_err();
    wait_for("a node whose kubelet is stopped", Duration::from_secs(120), || workers(lab).into_iter().find(is_stopped))
}

/// The nodes' systemctl is made to report that the kubelet was stopped, although it was not.
fn faked_stop(lab: &Lab) -> Result<(), String> {
    let fake =
        "printf '#!/bin/sh\\n[ \"$*\" = \"stop kubelet\" ] || exec /bin/systemctl \"$@\"\\n' >/usr/local/bin/systemctl
        chmod +x /usr/local/bin/systemctl";
    on_workers(lab, fake)?;
    let ran = lab.run(&node_lost("kubelet-stop"));
    on_workers(lab, "rm -f /usr/local/bin/systemctl")?;
    let ran = ran?;
    ran.expect_exit(6)?;
    ran.expect("node-marked-unknown", "inconclusive", "no-effect")?;
    ran.expect("service-recovers", "inconclusive", "no-effect")
}

/// Waits until the API reports the node as Unknown: what is claimed about that has happened by then.
fn marked_unknown(lab: &Lab, node: &str) -> Result<(), String> {
    let ready = r#"-o=jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
    wait_for("the node to be marked Unknown", Duration::from_secs(60), || {
        lab.kubectl(&["get", "node", node, ready]).ok().filter(|status| status == "Unknown")
    })
    .map(drop)
}

fn secret_start(lab: &Lab) -> Result<(), String> {
    let running = lab.begin(&node_lost("kubelet-stop"))?;
    let node = changed_node(lab)?;
    marked_unknown(lab, &node)?;
    docker(&["exec", &node, "systemctl", "start", "kubelet"])?;
    let ran = running.ended()?;
    ran.expect_exit(6)?;
    ran.expect("node-marked-unknown", "inconclusive", "effect-not-held")
}

fn secret_return(lab: &Lab) -> Result<(), String> {
    let running = lab.begin(&test_file(NODE_LOST))?;
    let node = victim(lab)?;
    marked_unknown(lab, &node)?;
    docker(&["start", &node])?;
    let ran = running.ended()?;
    ran.expect_exit(6)?;
    ran.expect("node-marked-unknown", "inconclusive", "effect-not-held")
}

/// The nodes' iptables is made to report that packets will be dropped, although they will not.
fn faked_filter(lab: &Lab, scenario: &str) -> Result<Ran, String> {
    let fake = r#"real=$(command -v iptables)
        printf '#!/bin/sh\ncase "$*" in *"-j DROP"*) exit 0 ;; esac\nexec %s "$@"\n' "$real" >/usr/local/bin/iptables
        chmod +x /usr/local/bin/iptables"#;
    on_workers(lab, fake)?;
    let ran = lab.run(scenario);
    on_workers(lab, "rm -f /usr/local/bin/iptables")?;
    ran
}

fn faked_cut(lab: &Lab) -> Result<(), String> {
    let ran = faked_filter(lab, &node_lost("cut-off"))?;
    ran.expect_exit(6)?;
    ran.expect("node-marked-unknown", "inconclusive", "no-effect")?;
    ran.expect("service-recovers", "inconclusive", "no-effect")
}

fn faked_loss_of_packets(lab: &Lab) -> Result<(), String> {
    let ran = faked_filter(lab, "partition/lossy")?;
    ran.expect_exit(6)?;
    ran.expect("bad-network-not-noticed", "inconclusive", "no-effect")
}

/// The node that has a chain of ours in its packet filter, and the chain.
fn filtered_node(lab: &Lab) -> Result<(String, String), String> {
    let chain = "iptables -S | sed -n 's/^-N \\(kchaos-.*\\)/\\1/p'";
    wait_for("a node that is cut off", Duration::from_secs(120), || {
        workers(lab).into_iter().find_map(|node| {
            let chain = docker(&["exec", &node, "sh", "-c", chain]).ok().filter(|chain| !chain.is_empty())?;
            Some((node, chain))
        })
    })
}

/// Once the node is cut off, the kubelet of the other worker is, too.
fn cut_too_much(lab: &Lab) -> Result<(), String> {
    let mut running = lab.begin(&node_lost("cut-off"))?;
    running.heard(IN_EFFECT)?;
    let (node, _) = filtered_node(lab)?;
    let other = workers(lab).into_iter().find(|worker| *worker != node).ok_or("there is no other worker")?;
    let rule = |what| {
        let rule = ["iptables", "-w", what, "INPUT", "-p", "tcp", "--dport=10250", "-j", "DROP"];
        docker(&[&["exec", &other][..], &rule].concat()).map(drop)
    };
    let ran = running.away_until("the fault is taken out", || rule("-I"), || rule("-D"))?;
    ran.expect_exit(6)?;
    ran.expect("node-marked-unknown", "inconclusive", "effect-not-held")
}

/// The way to the pods of the others is opened again, though not that to their nodes.
fn pods_let_through(lab: &Lab) -> Result<(), String> {
    let mut running = lab.begin(&node_lost("cut-off"))?;
    running.heard(IN_EFFECT)?;
    let (node, chain) = filtered_node(lab)?;
    let each = "-o=jsonpath={range .items[*]}{.spec.podCIDR}{\"\\n\"}{end}";
    for network in lab.kubectl(&["get", "nodes", each])?.lines() {
        for end in ["-s", "-d"] {
            docker(&["exec", &node, "iptables", "-w", "-I", &chain, end, network, "-j", "RETURN"])?;
        }
    }
    let ran = running.ended()?;
    ran.expect_exit(6)?;
    ran.expect("node-marked-unknown", "inconclusive", "effect-not-held")
}

fn secret_mend(lab: &Lab) -> Result<(), String> {
    let mut running = lab.begin("partition/lossy")?;
    running.heard(IN_EFFECT)?;
    let (node, chain) = filtered_node(lab)?;
    docker(&["exec", &node, "iptables", "-w", "-F", &chain])?;
    let ran = running.ended()?;
    ran.expect_exit(6)?;
    ran.expect("bad-network-not-noticed", "inconclusive", "effect-not-held")
}

fn secret_heal(lab: &Lab) -> Result<(), String> {
    let running = lab.begin(&node_lost("cut-off"))?;
    let (node, chain) = filtered_node(lab)?;
    marked_unknown(lab, &node)?;
    docker(&["exec", &node, "iptables", "-w", "-F", &chain])?;
    let ran = running.ended()?;
    ran.expect_exit(6)?;
    ran.expect("node-marked-unknown", "inconclusive", "effect-not-held")
}

/// Puts the API server's manifest back while the run believes that it is removed or replaced.
fn secret_manifest(lab: &Lab, variant: &str, claim: &str) -> Result<(), String> {
    let mut running = lab.begin(variant)?;
    running.heard(IN_EFFECT)?;
    let plane = format!("{}-control-plane", lab.cluster);
    let put_back = "mv /etc/kubernetes/kchaos-*.yaml /etc/kubernetes/manifests/kube-apiserver.yaml";
    docker(&["exec", &plane, "sh", "-c", put_back])?;
    let ran = running.ended()?;
    ran.expect_exit(6)?;
    ran.expect(claim, "inconclusive", "effect-not-held")
}

fn secret_api_server(lab: &Lab) -> Result<(), String> {
    secret_manifest(lab, "apiserver-crash/held-down", "no-writes")
}

fn secret_flag(lab: &Lab) -> Result<(), String> {
    secret_manifest(lab, "operator-error/nobody-let-in", "nobody-reads")
}

fn on_plane(lab: &Lab, script: &str) -> Result<(), String> {
    docker(&["exec", &format!("{}-control-plane", lab.cluster), "sh", "-c", script]).map(drop)
}

/// The node's mv is made to report that etcd's data was moved away, although it was not. The processes end all the
/// same.
fn faked_loss(lab: &Lab) -> Result<(), String> {
    on_plane(lab, lab::FAKE_MV)?;
    let ran = lab.run(&test_file(STORE_GONE));
    on_plane(lab, lab::REAL_MV)?;
    let ran = ran?;
    ran.expect_exit(6)?;
    ran.expect("not-read", "inconclusive", "no-effect")?;
    ran.expect("read-again", "inconclusive", "no-effect")
}

/// The snapshot is missing when it is needed.
fn no_snapshot(lab: &Lab) -> Result<(), String> {
    let mut running = lab.begin(&test_file(STORE_GONE))?;
    running.heard(IN_EFFECT)?;
    on_plane(lab, "rm /var/lib/kchaos/*/snapshot.db")?;
    let ran = running.ended()?;
    ran.expect_exit(6)?;
    ran.expect("not-read", "upheld", "held")?;
    ran.expect("read-again", "inconclusive", "not-remedied")?;
    ran.expect("known-again", "inconclusive", "not-remedied")
}

/// The copy is there when it is needed, and holds nothing.
fn empty_copy(lab: &Lab) -> Result<(), String> {
    let mut running = lab.begin("volume-lost/copied")?;
    running.heard(IN_EFFECT)?;
    for worker in ["worker", "worker2"].map(|worker| format!("{}-{worker}", lab.cluster)) {
        docker(&["exec", &worker, "sh", "-c", "find /var/lib/kchaos/*/copy -type f -delete; true"])?;
    }
    let ran = running.ended()?;
    ran.expect_exit(1)?;
    ran.expect("silently-lost", "upheld", "held")?;
    ran.expect("copied-back", "refuted", "never-happened")
}

/// The control plane's kubectl is made to report success without doing anything, for this verb.
fn fake_kubectl(lab: &Lab, verb: &str) -> Result<(), String> {
    let fake = format!(
        r#"printf '#!/bin/sh\ncase " $* " in *" {verb} "*) exit 0 ;; esac\nexec /usr/bin/kubectl "$@"\n' >/usr/local/bin/kubectl
        chmod +x /usr/local/bin/kubectl"#
    );
    on_plane(lab, &fake)
}

fn real_kubectl(lab: &Lab) -> Result<(), String> {
    on_plane(lab, "rm -f /usr/local/bin/kubectl")
}

/// An operator's command is made to report success; nothing follows from what it did not do.
fn faked_operator(lab: &Lab, verb: &str, selection: &str, claims: [&str; 2]) -> Result<(), String> {
    fake_kubectl(lab, verb)?;
    let ran = lab.run(selection);
    real_kubectl(lab)?;
    let ran = ran?;
    ran.expect_exit(6)?;
    claims.iter().try_for_each(|claim| ran.expect(claim, "inconclusive", "no-effect"))
}

fn faked_deletion(lab: &Lab) -> Result<(), String> {
    faked_operator(lab, "delete", "operator-error/rights-removed", ["nobody-reads", "serves-on"])
}

/// The objects have their finalizers all the same.
fn faked_deletion_of_held(lab: &Lab) -> Result<(), String> {
    faked_operator(lab, "delete", "operator-error/held", ["held-not-gone", "held-serves"])
}

fn faked_deletion_of_namespace(lab: &Lab) -> Result<(), String> {
    faked_operator(lab, "delete", "operator-error/namespace-deleted", ["shop-gone", "newer-lost"])
}

/// The nodes are cordoned all the same.
fn faked_drain(lab: &Lab) -> Result<(), String> {
    faked_operator(lab, "drain", "operator-error/all-drained", ["budget-kept", "guarded-serves"])
}

fn secret_binding(lab: &Lab) -> Result<(), String> {
    let mut running = lab.begin("operator-error/rights-removed")?;
    running.heard(IN_EFFECT)?;
    on_plane(
        lab,
        "kubectl --kubeconfig /etc/kubernetes/super-admin.conf create -f $(echo /var/lib/kchaos/*/binding.yaml)",
    )?;
    let ran = running.ended()?;
    ran.expect_exit(6)?;
    ran.expect("nobody-reads", "inconclusive", "effect-not-held")
}

fn faked_remedy(lab: &Lab) -> Result<(), String> {
    fake_kubectl(lab, "taint")?;
    let ran = lab.run("node-shutdown/out-of-service");
    real_kubectl(lab)?;
    let ran = ran?;
    ran.expect_exit(1)?;
    ran.expect("member-replaced", "refuted", "never-happened")?;
    ran.expect("member-missed", "upheld", "held")
}

/// The node is back before an operator does anything about it.
fn healed_before_its_remedy(lab: &Lab) -> Result<(), String> {
    let running = lab.begin("node-shutdown/out-of-service")?;
    let node = victim(lab)?;
    marked_unknown(lab, &node)?;
    docker(&["start", &node])?;
    let ran = running.ended()?;
    ran.expect_exit(6)?;
    ran.expect("member-replaced", "inconclusive", "effect-not-held")?;
    let remedy = &ran.report["faults"][0]["remedy"];
    if remedy["done"].is_null() { Ok(()) } else { Err(format!("it was remedied: {remedy}")) }
}

/// Makes a Service of the run point nowhere.
fn point_nowhere(lab: &Lab, service: &str) -> Result<(), String> {
    let namespace = prevented::namespace(lab)?;
    let selector = r#"{"spec":{"selector":{"nothing":"here"}}}"#;
    lab.kubectl(&["patch", "service", service, "-n", &namespace, "-p", selector]).map(drop)
}

/// The Service points nowhere from before the baseline on. The run waits for it in vain, and then breaks nothing.
fn unsteady(lab: &Lab) -> Result<(), String> {
    let running = lab.begin(&node_lost("power-off"))?;
    wait_for("the run's Service", Duration::from_secs(120), || point_nowhere(lab, "web").ok())?;
    let ran = running.ended()?;
    nothing_proven(&ran, "no-steady-state", "nothing was injected")?;
    let events = journal::read(&latest(lab)?).map_err(|e| e.to_string())?.events;
    match events.iter().any(|event| matches!(event.kind, EventKind::Injecting { .. })) {
        false => Ok(()),
        true => Err(format!("something was injected\n{}", ran.story())),
    }
}

/// The one replica is on the node that dies; the Service with two replicas is made to point nowhere.
fn no_mitigation(lab: &Lab) -> Result<(), String> {
    let ran = lab.watched(|lab| {
        let running = lab.begin(&test_file(NODE_LOST))?;
        victim(lab)?;
        point_nowhere(lab, "web")?;
        running.ended()
    })?;
    ran.expect_exit(1)?;
    ran.expect("service-recovers", "refuted", "counterexample")?;
    ran.expect("one-recovers", "refuted", "counterexample")?;
    ran.expect("lone-service-fails", "upheld", "held")?;
    ran.expect("evicted", "upheld", "happened")
}

/// Runs a variant of `node-shutdown` in which workloads are declared otherwise.
fn with_other_workloads(lab: &Lab, variant: &str, changed: &[(&str, String)]) -> Result<Ran, String> {
    let (_, text) =
        kchaos::scenario::builtin().iter().find(|(name, _)| *name == "node-shutdown").ok_or("it is gone")?;
    let mut text = text.to_string();
    for (declared, otherwise) in changed {
        if !text.contains(declared) {
            return Err(format!("no workload is declared as {declared:?}"));
        }
        text = text.replace(declared, otherwise);
    }
    let place = tempfile::tempdir().map_err(|e| e.to_string())?;
    let file = place.path().join("node-shutdown.yaml");
    std::fs::write(&file, text).map_err(|e| e.to_string())?;
    lab.watched(|lab| lab.run(&format!("{}/{variant}", file.display())))
}

/// Those who are said to end at once when their node is drained serve for a moment, and the others end at once.
fn lingering_exchanged(lab: &Lab) -> Result<(), String> {
    let web = "web: {kind: deployment, replicas: 2, spread: true, service: true";
    let lingers = ", lingers: true";
    let ran = with_other_workloads(lab, "drained", &[(lingers, String::new()), (web, format!("{web}{lingers}"))])?;
    ran.expect_exit(1)?;
    ran.expect("missed-while-drained", "refuted", "never-happened")?;
    ran.expect("guarded-not-missed", "refuted", "counterexample")?;
    ran.expect("not-missed", "upheld", "held")
}

/// The application that is said to be designed for restarts has its state where it does not outlive its pod.
fn state_in_empty_dir(lab: &Lab) -> Result<(), String> {
    let durable = "durable: {kind: stateful-set, on: victim, app: keeper, state: claim";
    let changed = [(durable, durable.replace("state: claim", "state: empty-dir"))];
    let ran = with_other_workloads(lab, "power-off", &changed)?;
    ran.expect_exit(1)?;
    ran.expect("data-back", "refuted", "never-happened")?;
    ran.expect("data-kept", "refuted", "counterexample")?;
    ran.expect("data-lost", "upheld", "happened")
}

/// The node of a faulty kubelet has its pods, and the Service in front of them is made to point nowhere.
fn kubelet_points_nowhere(lab: &Lab) -> Result<(), String> {
    let ran = prevented::once_in_effect(lab, "kubelet-fault/stopped", |lab| point_nowhere(lab, "web"))?;
    ran.expect_exit(1)?;
    ran.expect("service-never-fails", "refuted", "counterexample")?;
    ran.expect("lone-runs-on", "upheld", "held")?;
    ran.expect("evicted", "upheld", "happened")
}

fn no_eviction_from_a_kubelet(lab: &Lab) -> Result<(), String> {
    let ran = without_eviction(lab, "kubelet-fault/stopped")?;
    ran.expect("evicted", "refuted", "never-happened")?;
    ran.expect("replicas-elsewhere", "refuted", "never-happened")?;
    ran.expect("node-marked-unknown", "upheld", "happened")?;
    ran.expect("service-never-fails", "upheld", "held")
}

fn no_eviction_from_side_b(lab: &Lab) -> Result<(), String> {
    let ran = without_eviction(lab, "partition/one-node")?;
    ran.expect("evicted", "refuted", "never-happened")?;
    ran.expect("node-marked-unknown", "upheld", "happened")
}

/// The content of a Secret of the user's manifests, which no record may contain.
const SECRET: &str = "b3BlbiBzZXNhbWU=";

/// A Service of the user's own, from the manifests of a run with a replica on each worker, is out for some seconds when
/// one worker is. A URL and the cluster's own Service are not affected. The user's objects are removed, and their
/// secret is written down nowhere.
fn kept_alive(lab: &Lab) -> Result<(), String> {
    let shop = brought(lab)?;
    let url = answering()?;
    let ran = lab.watched(|lab| {
        let mut command = lab.start(&format!("{}/power-off", test_file("minimal/blink.yaml")));
        command.arg("--manifests").arg(shop.path());
        let others = ["service/web:80/hostname=1s", &*format!("{url}=1s"), "service/default/kubernetes:443=1s"];
        for kept in ["service/web:80/hostname"].iter().chain(&others) {
            command.args(["--keep-alive", kept]);
        }
        let mut running = lab.begin_with(command)?;
        running.heard("Deployment web is rolled out")?;
        let pods = lab.kubectl(&["get", "pods", "-A", "-l", "app=web", "-o=jsonpath={.items[*].spec.nodeName}"])?;
        if workers(lab).iter().any(|worker| !pods.split(' ').any(|node| node == worker)) {
            return Err(format!("its replicas are on {pods}, so this proves nothing"));
        }
        running.ended()
    })?;
    ran.expect_exit(1)?;
    ran.expect("keep-alive-1", "upheld", "held")?;
    ran.expect("keep-alive-2", "refuted", "counterexample")?;
    ran.expect("keep-alive-3", "upheld", "held")?;
    ran.expect("keep-alive-4", "upheld", "held")?;
    let left = lab.kubectl(&["get", "namespaces", "-l", "kchaos.io/run", "-o", "name"])?;
    if !left.is_empty() {
        return Err(format!("{left} is left"));
    }
    let records = records(lab)?;
    for (what, text) in [("talk", &ran.talk), ("report", &ran.report.to_string()), ("records", &records)] {
        if text.contains(SECRET) {
            return Err(format!("its secret is in the run's {what}"));
        }
    }
    match records.contains("\"manifests\"") {
        true => Ok(()),
        false => Err("no record says that manifests were put in".into()),
    }
}

/// The last run.
fn latest(lab: &Lab) -> Result<RunDir, String> {
    StateDir::at(lab.state().join("kchaos")).find("latest").map_err(|e| e.to_string())
}

/// Everything that is recorded of the last run.
fn records(lab: &Lab) -> Result<String, String> {
    let files = std::fs::read_dir(latest(lab)?.path()).map_err(|e| e.to_string())?.flatten().map(|file| file.path());
    let texts = files.map(|file| std::fs::read(&file).map(|text| String::from_utf8_lossy(&text).into_owned()));
    texts.collect::<Result<_, _>>().map_err(|e| e.to_string())
}

/// The example of the docs, with the image that this cluster has, and with a Secret beside it.
fn brought(lab: &Lab) -> Result<tempfile::TempDir, String> {
    let version = lab.kubectl(&["get", "nodes", "-o=jsonpath={.items[0].status.nodeInfo.kubeletVersion}"])?;
    let image = kchaos::workload::agnhost(&version);
    let write = || {
        let shop = tempfile::tempdir()?;
        let web = std::fs::read_to_string(test_file("../docs/shop/web.yaml"))?;
        let its = web.lines().find_map(|line| line.trim().strip_prefix("image: ")).unwrap_or_default().to_owned();
        std::fs::write(shop.path().join("web.yaml"), web.replace(&its, &image))?;
        let secret = format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: key}}\ndata: {{key: {SECRET}}}\n");
        std::fs::write(shop.path().join("secret.yaml"), secret)?;
        Ok(shop)
    };
    write().map_err(|error: std::io::Error| error.to_string())
}

/// The URL of a server in this process that answers everything.
fn answering() -> Result<String, String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
        }
    });
    Ok(format!("http://{address}/"))
}

/// Runs something with the eviction controller turned off in the controller manager's manifest. Turns it on again,
/// whatever happens.
fn without_eviction(lab: &Lab, selection: &str) -> Result<Ran, String> {
    let node = format!("{}-control-plane", lab.cluster);
    let manifest = "/etc/kubernetes/manifests/kube-controller-manager.yaml";
    let edit = |script: &str| docker(&["exec", &node, "sed", "-i", script, manifest]);
    let without = "--controllers=*,bootstrapsigner,tokencleaner,-taint-eviction-controller";
    let running = |wanted: bool| {
        wait_for("the controller manager with its new flags", Duration::from_secs(90), || {
            let flags = docker(&[
                "exec",
                &node,
                "sh",
                "-c",
                "cat /proc/$(pgrep -o -f ^kube-controller-manager)/cmdline | tr '\\0' ' '",
            ])
            .ok()?;
            (flags.contains("-taint-eviction-controller") == wanted && flags.contains("--controllers")).then_some(())
        })
    };
    edit(&format!("s/--controllers=.*/{without}/"))?;
    let ran = running(true).and_then(|()| lab.watched(|lab| lab.run(selection)));
    edit("s/--controllers=.*/--controllers=*,bootstrapsigner,tokencleaner/")?;
    running(false)?;
    let ran = ran?;
    ran.expect_exit(1)?;
    Ok(ran)
}

fn no_eviction(lab: &Lab) -> Result<(), String> {
    let ran = without_eviction(lab, &test_file(NODE_LOST))?;
    ran.expect("evicted", "refuted", "never-happened")?;
    ran.expect("node-marked-unknown", "upheld", "happened")?;
    ran.expect("service-recovers", "upheld", "held")?;
    ran.expect("one-recovers", "refuted", "counterexample")
}
