//! Scenarios that need several control planes, on a real cluster with three, and the sabotage that they must catch.
//!
//! The trials use the cluster that `tests/provision.rs` made, or make one, and remove it at the end: on two cores, so
//! large a cluster beside another would make verdicts inconclusive. `make soak` runs every variant. Without an engine
//! the trials are skipped, with the reason; `KCHAOS_REQUIRE=1` turns a skip into a failure.

#[allow(dead_code, reason = "each program of tests uses a part of it")]
mod lab;

use std::process::ExitCode;
use std::time::Duration;

use lab::liar::{self, COMPONENT_DOWN, COMPONENT_SIGNALS, DROPS, Liar, NOT_IN, UNSEEN, planes};
use lab::{IN_EFFECT, Lab, Labs, Ran, UNDO, docker, signal_kubelet, wait_for};
use libtest_mimic::{Arguments, Trial};

static HA: Labs = Labs::of("ha");

/// Faults that are faked: the run, who lies, and what is then said. Those of etcd's data and certificates have trials of
/// their own.
const FAKED: &[(&str, Liar, &str)] = &[
    ("ha/node-off", Liar::Kernel, NOT_IN),
    ("ha/node-paused", Liar::Engine("/pause"), UNSEEN),
    ("ha/apiserver-down", COMPONENT_DOWN, UNSEEN),
    // The manifest stays, and it is said that the process has the flag.
    (
        "ha/flag-wrong",
        Liar::Planes(&[("mv", "/etc/kubernetes/manifests/*) exit 0"), ("grep", "'-qxFe --no-such-flag=true') exit 0")]),
        UNSEEN,
    ),
    ("ha/etcd-frozen", COMPONENT_SIGNALS, UNSEEN),
    ("ha/manager-frozen", COMPONENT_SIGNALS, UNSEEN),
    ("ha/manager-down", COMPONENT_DOWN, UNSEEN),
    ("ha/scheduler-down", COMPONENT_DOWN, UNSEEN),
    ("ha/any-manager-down", COMPONENT_DOWN, UNSEEN),
    ("ha/any-scheduler-down", COMPONENT_DOWN, UNSEEN),
    ("ha/two-components", COMPONENT_DOWN, UNSEEN),
    ("ha/managers-down", COMPONENT_DOWN, UNSEEN),
    ("ha/schedulers-down", COMPONENT_DOWN, UNSEEN),
    ("ha/minority-cut-off", Liar::Planes(DROPS), UNSEEN),
    ("ha/one-way", Liar::Planes(DROPS), UNSEEN),
    ("ha/majority-cut-off", Liar::Planes(DROPS), UNSEEN),
    ("ha/cut-in-three", Liar::Planes(DROPS), UNSEEN),
    ("ha/balancer-off", Liar::Kernel, NOT_IN),
    ("ha/quorum-lost", Liar::Kernel, NOT_IN),
];

fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    args.test_threads = Some(1);
    let mut trials = Vec::new();
    let every = lab::soak();
    if every {
        for (name, text) in kchaos::scenario::builtin() {
            let scenario = kchaos::scenario::load(name, text.as_bytes()).expect("built-in scenarios load");
            for variant in scenario.variants.iter().filter(|_| scenario.topology == "ha") {
                let selection = format!("{name}/{}", variant.name);
                trials.push(trial(format!("scenario::{selection}"), move |lab| lab.upheld(&selection)));
            }
        }
    }
    trials.push(trial("every_loss_there_is_is_planned", every_loss));
    trials.push(trial("what_runs_come_to_is_on_one_page", one_page));
    trials.push(trial("sabotage::with_a_second_control_plane_gone_nothing_goes_on", second_gone));
    if every {
        trials.push(trial("sabotage::without_the_other_managers_nobody_takes_over", |lab| {
            others_gone(lab, "kube-controller-manager", "ha/manager-down").map(drop)
        }));
        trials.push(trial("sabotage::without_the_other_schedulers_nobody_takes_over", |lab| {
            let ran = others_gone(lab, "kube-scheduler", "ha/scheduler-down")?;
            ran.expect("moved-pods-placed", "refuted", "never-happened")
        }));
        trials.push(trial("sabotage::a_member_of_etcd_that_was_not_there_is_residue", another_member));
        trials.push(trial("sabotage::a_member_that_still_has_its_data_is_not_lost", |lab| {
            faked(lab, MV, "ha/member-lost", ["storage-writes-go-on", "member-replaced"])
        }));
        trials.push(trial("sabotage::members_that_still_have_their_data_are_no_majority_lost", |lab| {
            faked(lab, MV, "ha/majority-lost", ["quorum-no-writes", "survivor-serves"])
        }));
        trials.push(trial("sabotage::a_member_whose_certificate_is_good_is_not_refused", |lab| {
            faked(lab, MV, "ha/peer-certificate", ["storage-writes-go-on", "storage-alone-no-writes"])
        }));
        trials.push(trial("sabotage::a_member_that_keeps_its_old_connections_is_not_refused", |lab| {
            faked(lab, PKILL, "ha/peer-certificate", ["storage-writes-go-on", "storage-alone-no-writes"])
        }));
        for &(selection, liar, because) in FAKED {
            let name = format!("sabotage::faked::{selection}");
            trials.push(trial(name, move |lab| liar::faked(lab, selection, liar, because)));
        }
        trials.push(trial("killed_with_its_guardian_while_a_member_is_replaced_the_node_goes_on", |lab| {
            goes_on_by_itself(lab, "ha/member-lost", "replacing")
        }));
        trials.push(trial("killed_with_its_guardian_once_the_survivor_is_alone_the_nodes_go_on", |lab| {
            goes_on_by_itself(lab, "ha/majority-lost", "alone")
        }));
        trials.push(trial("sabotage::an_instance_that_goes_on_without_a_lease_is_noticed", writes_on));
        trials.push(trial("sabotage::a_node_that_is_taken_for_down_without_cause_is_noticed", missed_without_cause));
        trials.push(trial("sabotage::an_audit_log_that_is_begun_anew_proves_nothing", audit_log_lost));
        trials.push(trial("a_survivor_that_can_not_serve_clients_is_asked_as_a_peer", survivor_started_anew));
    }
    trials.push(trial("of_several_members_none_is_lost_or_restored_alone", refused));
    trials.push(trial("removed_it_leaves_nothing", removed));
    libtest_mimic::run(&args, trials).exit_code()
}

fn trial(name: impl Into<String>, test: impl Fn(&Lab) -> Result<(), String> + Send + 'static) -> Trial {
    lab::trial(&HA, false, name, test)
}

/// Somebody goes on writing like a controller manager, in every control plane, as if one of them still led.
fn writes_on(lab: &Lab) -> Result<(), String> {
    let mut running = lab.begin("ha/manager-frozen")?;
    running.heard("the fault is taken out")?;
    let script = r#"for which in certificate key; do
            sed -n "s/^ *client-$which-data: *//p" /etc/kubernetes/controller-manager.conf | base64 -d >/run/kchaos-test.$which
        done
        until [ -e /run/kchaos-test.end ]; do
            for body in '{}' '{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"x"}}'; do
                curl -sk --cert /run/kchaos-test.certificate --key /run/kchaos-test.key -A kube-controller-manager/test \
                    -H 'Content-Type: application/json' -X POST -d "$body" \
                    "https://$(hostname -i):6443/api/v1/namespaces/default/serviceaccounts?dryRun=All"
            done
            sleep 1
        done
        rm /run/kchaos-test.*"#;
    for plane in planes(lab) {
        docker(&["exec", "-d", &plane, "sh", "-c", script])?;
    }
    let ran = running.ended();
    for plane in planes(lab) {
        docker(&["exec", &plane, "touch", "/run/kchaos-test.end"])?;
    }
    let ran = ran?;
    ran.expect_exit(1)?;
    ran.expect("frozen-tries-no-more", "refuted", "counterexample")?;
    ran.expect("frozen-writes-no-more", "refuted", "counterexample")
}

/// The kubelet of another control plane is frozen, which does not report to the API server that is lost.
fn missed_without_cause(lab: &Lab) -> Result<(), String> {
    let ran = lab.watched(|lab| {
        let mut running = lab.begin("ha/node-paused")?;
        running.heard(IN_EFFECT)?;
        let is_paused =
            |node: &String| docker(&["inspect", "-f", "{{.State.Paused}}", node]).is_ok_and(|is| is == "true");
        let other = planes(lab).into_iter().find(|plane| !is_paused(plane)).ok_or("all are paused")?;
        running.away_until(UNDO, || signal_kubelet(&other, "STOP"), || signal_kubelet(&other, "CONT"))
    })?;
    ran.expect_exit(1)?;
    ran.expect("others-not-missed", "refuted", "counterexample")?;
    ran.expect("alone-no-writes", "upheld", "held")
}

/// What the API servers have logged is lost in mid-fault, and with it what the frozen leader writes.
fn audit_log_lost(lab: &Lab) -> Result<(), String> {
    let mut running = lab.begin("ha/manager-frozen")?;
    running.heard(IN_EFFECT)?;
    for plane in planes(lab) {
        docker(&["exec", &plane, "truncate", "--size=0", "/var/log/kubernetes/audit.log"])?;
    }
    let ran = running.ended()?;
    ran.expect_exit(6)?;
    ran.expect("frozen-writes-no-more", "inconclusive", "gaps")?;
    ran.expect("frozen-tries-no-more", "inconclusive", "gaps")
}

/// Each control plane, each component and each etcd member of it, both leaders and the load balancer, and each node
/// among two at a time.
fn every_loss(lab: &Lab) -> Result<(), String> {
    let args = ["run", "ha", "--every-variant", "--every-node", "--dry-run", "--cluster", &lab.cluster];
    let output = lab.kchaos(&args).output().map_err(|e| e.to_string())?;
    // Independent of the width.
    let planned = String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    let talk = String::from_utf8_lossy(&output.stderr);
    let each = |what: &str| planes(lab).into_iter().map(|plane| what.replace('@', &plane)).collect::<Vec<_>>();
    let steps = [
        ". @ loses its power;",
        ". @ freezes;",
        ". @ is cut off from the other nodes;",
        ". kube-apiserver of @ is down;",
        ". kube-controller-manager of @ is down;",
        ". kube-scheduler of @ is down;",
        ". etcd of @ freezes;",
        ". etcd of @, one member of several, is lost with all that it had stored;",
        ". etcd of @ can't reach any other member, though they can reach it;",
        ". the certificate that etcd of @ shows to other members has expired, and it is started anew with it;",
    ];
    let mut losses: Vec<String> = steps.iter().flat_map(|what| each(what)).collect();
    losses.push(format!(". {}-external-load-balancer loses its power;", lab.cluster));
    let missing: Vec<_> = losses.iter().filter(|loss| !planned.contains(loss.as_str())).collect();
    let runs = planned.matches("give it with --seed").count();
    // Eleven times three, three times a leader, a leader and the API server of either other node, the load balancer, four
    // times two pairs that together contain all three, and twice all three at once.
    match (missing.is_empty(), runs) {
        (true, 49) => Ok(()),
        _ => Err(format!("{runs} runs, without {missing:?}\n{planned}{talk}")),
    }
}

/// A member of etcd is lost and replaced, which is carried, and one page reports it. For `make test`, it stands for all
/// variants: a control plane that is lost with everything on it is sabotaged below, and the others are like one of these
/// to Kubernetes.
fn one_page(lab: &Lab) -> Result<(), String> {
    let page = lab.state().join("page.md");
    let ran = lab.watched(|lab| {
        let mut command = lab.start("ha/member-lost");
        lab.finish(command.arg("--summary").arg(&page))
    })?;
    ran.expect_exit(0)?;
    lab.judged_again(&ran)?;
    let page = std::fs::read_to_string(&page).map_err(|e| e.to_string())?;
    let told = [
        "# ✓ upheld",
        "The one run went as documented",
        "is lost with all that it had stored",
        "- writes to the API: 0 of ",
        "| 0 of ",
    ];
    match told.iter().find(|words| !page.contains(**words)) {
        None => Ok(()),
        Some(words) => Err(format!("{words:?} is not on it:\n{page}")),
    }
}

/// With two of three etcd members gone there is no majority. The mitigation is exceeded, and the verdict must say so.
fn second_gone(lab: &Lab) -> Result<(), String> {
    let mut running = lab.begin("ha/node-off")?;
    running.heard(IN_EFFECT)?;
    // The late workload is in: without it the run would be cut short and prove nothing.
    running.heard("ready pods of later: 2")?;
    let planes = planes(lab);
    let state = |node: &String| docker(&["inspect", "-f", "{{.State.Status}}", node]);
    let other = planes.iter().find(|node| state(node).is_ok_and(|s| s == "running")).ok_or("no control plane runs")?;
    let refuted = "✗ with two others behind a load balancer, writes are acknowledged";
    let ran = running.away_until(
        refuted,
        || docker(&["pause", other]).map(drop),
        || docker(&["unpause", other]).map(drop),
    )?;
    ran.expect_exit(1)?;
    ran.expect("writes-go-on", "refuted", "counterexample")?;
    ran.expect("alone-no-writes", "upheld", "held")?;
    ran.expect("no-write-lost", "upheld", "held")
}

/// The other instances of a component are there by name only. What makes the difference is lacking, and the verdict must
/// say so.
fn others_gone(lab: &Lab, component: &str, selection: &str) -> Result<Ran, String> {
    let planes = planes(lab);
    let moved = |from: &str, to: &str| {
        let script = format!("[ ! -e {from} ] || mv {from} {to}");
        let move_on = |plane: &String| docker(&["exec", plane, "sh", "-c", &script]).map(drop);
        // At once: the lease of the one that is gone is soon over.
        std::thread::scope(|threads| {
            let moves: Vec<_> = planes.iter().map(|plane| threads.spawn(|| move_on(plane))).collect();
            moves.into_iter().try_for_each(|moved| moved.join().map_err(|_| "a move panicked".to_owned())?)
        })
    };
    let (there, aside) = (&*format!("/etc/kubernetes/manifests/{component}.yaml"), "/etc/kubernetes/kchaos-test.yaml");
    let mut running = lab.begin(selection)?;
    running.heard(IN_EFFECT)?;
    let refuted = "✗ with two other controller managers";
    let ran = running.away_until(refuted, || moved(there, aside), || moved(aside, there))?;
    ran.expect_exit(1)?;
    ran.expect("component-work-goes-on", "refuted", "never-happened")?;
    ran.expect("replicated-no-write-lost", "upheld", "held")?;
    Ok(ran)
}

/// A learner has no vote, so nothing else in the cluster changes.
fn another_member(lab: &Lab) -> Result<(), String> {
    let member = |change: &str| {
        let ask = "inside=/proc/$(pgrep -of '^etcd( |$)')/root; etcdctl=$inside/usr/local/bin/etcdctl; pki=/etc/kubernetes/pki/etcd
            ask() { $etcdctl --cacert=$pki/ca.crt --cert=$pki/server.crt --key=$pki/server.key member \"$@\"; }";
        docker(&["exec", &format!("{}-control-plane", lab.cluster), "sh", "-c", &format!("{ask}\n{change}")])
    };
    let mut running = lab.begin("ha/scheduler-down")?;
    running.heard(IN_EFFECT)?;
    member("ask add kchaos-sabotage --learner --peer-urls=http://127.0.0.1:1")?;
    let ran = running.ended();
    member("ask remove $(ask list | sed -n 's/, unstarted.*127.0.0.1:1.*//p')")?;
    let ran = ran?;
    ran.expect_exit(4)?;
    let residue = ran.report["cleanup"]["residue"].to_string();
    if residue.contains("etcd/members") { Ok(()) } else { Err(format!("its residue is {residue}")) }
}

/// Makes a node's mv report that etcd's data was moved away, or its certificate replaced, although neither was; and
/// undoes that. A member that merely went down has not lost its data, and its certificate is good.
const MV: (&str, &str) = (lab::FAKE_MV, lab::REAL_MV);
/// Makes a node's pkill report that etcd was killed or frozen, although it was not; and undoes that.
const PKILL: (&str, &str) = (
    r#"printf '#!/bin/sh\ncase "$*" in -CONT*) ;; *etcd*) exit 0 ;; esac\nexec /usr/bin/pkill "$@"\n' >/usr/local/bin/pkill
    chmod +x /usr/local/bin/pkill"#,
    "rm -f /usr/local/bin/pkill",
);
/// Runs a variant while the nodes' tool lies. It must prove nothing.
fn faked(lab: &Lab, (fake, real): (&str, &str), selection: &str, claims: [&str; 2]) -> Result<(), String> {
    let on_planes = |script: &str| {
        let planes = planes(lab);
        planes.iter().try_for_each(|plane| docker(&["exec", plane, "sh", "-c", script]).map(drop))
    };
    on_planes(fake)?;
    let ran = lab.run(selection);
    on_planes(real)?;
    let ran = ran?;
    ran.expect_exit(6)?;
    claims.iter().try_for_each(|claim| ran.expect(claim, "inconclusive", "no-effect"))
}

/// Killed once the old members are removed. There is no way back then, so the nodes finish what was begun.
fn goes_on_by_itself(lab: &Lab, scenario: &str, begun: &str) -> Result<(), String> {
    let mut command = lab.start(scenario);
    command.env("KCHAOS_LEASE", "10");
    let mut running = lab.begin_with(command)?;
    running.heard("remedy: ")?;
    let planes = planes(lab);
    let on = |plane: &str, script: &str| docker(&["exec", plane, "sh", "-c", script]).ok();
    let begun = format!("ls /var/lib/kchaos/*/{begun}");
    wait_for("the point of no return", Duration::from_secs(60), || planes.iter().find_map(|p| on(p, &begun)))?;
    running.kill_with_guardian()?;
    let done = "[ ! -e /var/lib/kchaos ] || { ls /var/lib/kchaos/*/gone-off && [ -z \"$(ls /var/lib/kchaos | xargs -I@ ls /var/lib/kchaos/@ | grep -xe touched -e begun)\" ]; }";
    wait_for("the nodes to put themselves back", Duration::from_secs(150), || {
        planes.iter().map(|plane| on(plane, done)).collect::<Option<Vec<_>>>()
    })?;
    // The rollback compares the members with those of before, and what all of them hold.
    let done = lab.kchaos(&["rollback", "--all"]).output().map_err(|e| e.to_string())?;
    match done.status.success() {
        true => Ok(()),
        false => Err(format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr))),
    }
}

/// Without a majority, etcd of a node that was started anew does not serve clients. The lost members must come back all
/// the same, and must be sure that they may.
fn survivor_started_anew(lab: &Lab) -> Result<(), String> {
    let mut running = lab.begin("ha/majority-lost")?;
    running.heard(IN_EFFECT)?;
    running.heard(IN_EFFECT)?;
    let planes = planes(lab);
    let is_lost = |plane: &&String| docker(&["exec", plane, "sh", "-c", "ls /var/lib/kchaos/*/touched"]).is_ok();
    let survivor = planes.iter().find(|plane| !is_lost(plane)).ok_or("no member is left")?;
    docker(&["restart", "-t", "0", survivor])?;
    running.interrupt()?;
    running.ended()?.expect_exit(130)
}

/// Refused before anything is put into the cluster.
fn refused(lab: &Lab) -> Result<(), String> {
    for scenario in ["storage-lost/wiped", "operator-error/deleted"] {
        let output = lab.start(scenario).output().map_err(|e| e.to_string())?;
        let talk = String::from_utf8_lossy(&output.stderr);
        if output.status.code() != Some(3) || !talk.contains("not the only member, but one of 3") {
            return Err(format!("{scenario}: {}: {talk}", output.status));
        }
    }
    let left = lab.kubectl(&["get", "namespaces", "-l", "kchaos.io/run", "-o", "name"])?;
    if left.is_empty() { Ok(()) } else { Err(format!("it put {left} into the cluster")) }
}

fn removed(lab: &Lab) -> Result<(), String> {
    let down = lab.kchaos(&["down", &lab.cluster]).output().map_err(|e| e.to_string())?;
    if !down.status.success() {
        return Err(String::from_utf8_lossy(&down.stderr).into_owned());
    }
    let label = format!("label=io.x-k8s.kind.cluster={}", lab.cluster);
    let network = format!("name=^{}$", lab.cluster);
    let left = [docker(&["ps", "-aq", "--filter", &label])?, docker(&["network", "ls", "-q", "--filter", &network])?];
    if left.concat().is_empty() { Ok(()) } else { Err(format!("something is left: {left:?}")) }
}
