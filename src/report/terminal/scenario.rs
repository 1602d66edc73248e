//! Scenarios for people: the list of scenarios, the description of one, and the steps of a plan.

use super::super::{Seconds, Window, words};
use super::layout::{Cell, PLAIN, Page, Text, cell, styled};
use super::{BOLD, DIM, header, heading, labelled};
use crate::component::Component;
use crate::node::Role;
use crate::plan::{Edge, Plan, PlannedClaim};
use crate::scenario::{
    App, CertificateOf, Claim, FaultSpec, Reclaim, Remedy, Restart, Scenario, Stage, State, StoreOfRestarted, Target,
    Variant, WindowName, Workload, WorkloadKind, Writes,
};
use crate::user_manifests::Manifests;
use crate::verdict::words::operator;

/// The list of scenarios.
pub fn list(scenarios: &[Scenario], width: u16) -> String {
    let mut page = Page::new(width);
    let mut rows = vec![header(&["scenario", "variants", "page sentences", "what it breaks and what must hold"])];
    for s in scenarios {
        let name = vec![Text::new(BOLD, &s.scenario[..]), Text::new(DIM, &format!("on {}", s.topology))];
        let variants = s.variants.iter().map(|v| Text::plain(&v.name[..])).collect();
        let sentences = words::unique(s.claims.iter().map(|c| &c.sentence[..]));
        rows.push(vec![name, variants, sentences.into_iter().map(Text::plain).collect(), cell(s.summary.trim())]);
    }
    page.rows(rows, &[20, 18, 27, 35]);
    page.blank();
    page.text(DIM, "`kchaos show SCENARIO` explains one; `kchaos run SCENARIO[/VARIANT]` runs it, in its first variant if none is named.");
    page.finish()
}

/// The description of a scenario.
pub fn show(scenario: &Scenario, width: u16) -> String {
    let mut page = Page::new(width);
    page.line(&[(BOLD, &scenario.scenario[..])]);
    page.text(PLAIN, scenario.summary.trim());

    heading(&mut page, "there is", "");
    let topology = ("a cluster".to_owned(), format!("of topology “{}”", scenario.topology));
    let chosen = |t: &Target| match t.leads {
        Some(leader) => format!("the control-plane node on which {} leads", leader.name()),
        None => format!("{}, chosen by the seed", role(t.role)),
    };
    let targets = scenario.targets.iter().map(|(name, t)| (name.to_string(), chosen(t)));
    let workloads = scenario.workloads.iter().map(|(name, w)| (name.to_string(), workload(w)));
    let things = std::iter::once(topology).chain(targets).chain(workloads);
    page.rows(things.map(|(name, what)| vec![styled(BOLD, &name), cell(&what)]).collect(), &[0, 100]);

    let one_of = if scenario.variants.len() > 1 { "one variant in each run; the first if none is named" } else { "" };
    heading(&mut page, "what breaks", one_of);
    page.rows(
        scenario.variants.iter().map(|v| vec![styled(BOLD, &v.name[..]), cell(&variant(v))]).collect(),
        &[0, 100],
    );

    for sentence in words::unique(scenario.claims.iter().map(|c| &c.sentence[..])) {
        heading(&mut page, sentence, &words::sentence(sentence).unwrap_or_default());
        let of_it = |c: &&Claim| c.sentence[..] == *sentence;
        let rows = scenario.claims.iter().filter(of_it).map(|c| claim_row(c, scenario.variants.len())).collect();
        page.rows(rows, &[0, 50, 50]);
    }
    page.finish()
}

fn claim_row(claim: &Claim, variants: usize) -> Vec<Cell> {
    let operator = claim.operator().as_ref().map(operator).unwrap_or_default();
    let when = match (claim.during, claim.before, claim.after) {
        (Some(w), ..) => span(w, "during"),
        (_, Some(w), _) => format!("before {}", words::kebab(w)),
        (_, _, Some(w)) => format!("after {}", words::kebab(w)),
        _ => String::new(),
    };
    let mut seen = cell(&format!("{}: {operator}, {when}", words::probe(&claim.probe)));
    if let Some(only) = claim.variants.as_ref().filter(|only| only.len() < variants) {
        let only: Vec<&str> = only.iter().map(|name| &name[..]).collect();
        seen.push(Text::new(DIM, &format!("only {}", only.join(", "))));
    }
    vec![styled(DIM, claim.arm.map_or("", words::arm)), cell(&claim.says), seen]
}

fn span(window: WindowName, word: &str) -> String {
    match window {
        WindowName::Baseline => "in the baseline".into(),
        WindowName::Fault => "as long as the fault lasts".into(),
        WindowName::Recovery => "during the recovery".into(),
        WindowName::FromInjection => "from the injection on, as long as the fault lasts".into(),
        WindowName::FromUndo => "from the undo on, during the recovery".into(),
        other => format!("{word} {}", words::kebab(other)),
    }
}

fn variant(variant: &Variant) -> String {
    let what = words::faults(variant);
    let mut told = match (variant.ends_before, variant.lasts_beyond) {
        (Some(window), _) => format!("{what}, and is back before {}", words::kebab(window)),
        (None, Some(window)) if variant.faults().any(FaultSpec::heals_itself) => {
            format!("{what}, and is watched beyond {}", words::kebab(window))
        }
        (None, Some(window)) => format!("{what}, and stays so beyond {}", words::kebab(window)),
        (None, None) => what,
    };
    if let Some(remedy) = variant.remedy {
        told += &format!("; then {}", words::remedy(remedy));
    }
    if let Some(control) = &variant.control {
        told += &format!("; compared with {control}");
    }
    told
}

fn role(role: Role) -> &'static str {
    match role {
        Role::ControlPlane => "a control-plane node",
        Role::Worker => "a worker node",
        Role::LoadBalancer => "the load balancer",
    }
}

/// A workload in words.
fn workload(w: &Workload) -> String {
    let mut out = match (w.kind, w.replicas) {
        (WorkloadKind::Pod, _) => "a bare pod".to_owned(),
        (WorkloadKind::DaemonSet, _) => "a DaemonSet, a pod on every node".to_owned(),
        (WorkloadKind::Deployment, 1) => "a Deployment of one pod".to_owned(),
        (WorkloadKind::Deployment, n) => format!("a Deployment of {n} pods"),
        (WorkloadKind::StatefulSet, 1) => "a StatefulSet of one pod".to_owned(),
        (WorkloadKind::StatefulSet, n) => format!("a StatefulSet of {n} pods"),
    };
    if w.spread {
        out += " on different nodes";
    }
    if let Some(on) = &w.on {
        out += &format!(" on {on}");
    }
    if let Some(on) = &w.starts_on {
        out += &format!(" on {on} at first");
    }
    if w.service {
        out += ", behind a Service";
    }
    if let Some(n) = w.min_available {
        out += &format!(", with a budget that keeps {n} available");
    }
    match (w.app, w.state) {
        (App::Netexec, _) => {}
        (App::Pause, _) => out += ", which does nothing",
        (App::ApiClient, _) => out += ", whose pods ask the API before they answer",
        (App::Keeper, Some(State::Claim)) => out += ", with its state on a persistent volume",
        (App::Keeper, Some(State::EmptyDir)) => out += ", with its state in an emptyDir",
        (App::Keeper, Some(State::Memory) | None) => out += ", with its state in memory",
    }
    out += match w.writes {
        Writes::AtItsStart => "",
        Writes::BeforeEachAnswer => ", to which it writes before each answer",
        Writes::AtItsEnd => ", to which it writes nothing until it is told to end",
    };
    if w.restart == Restart::Never {
        out += ", never restarted";
    }
    if w.lingers {
        out += ", which serves for a moment when it is told to end";
    }
    if w.tolerate_node_loss {
        out += ", which stays on a lost node";
    }
    out += match w.stage() {
        Stage::First => "",
        Stage::AfterSnapshot => ", put in once the snapshot is taken",
        Stage::WithTheFault => ", put in once the fault is in",
    };
    out
}

/// What a run would do; nothing is touched. The objects of the user's own workload are passed in separately, because
/// the plan does not contain them.
pub fn dry_run(plan: &Plan, manifests: Option<&Manifests>, width: u16) -> String {
    let mut page = Page::new(width);
    let title = format!("{}/{} on cluster {}", plan.scenario, plan.variant, plan.facts.cluster);
    page.line(&[(BOLD, "DRY RUN"), (BOLD, &title), (DIM, "nothing was touched")]);
    page.text(PLAIN, plan.summary.trim());
    page.blank();
    let mut facts = vec![(
        "cluster",
        format!(
            "{}: Kubernetes {}, {} nodes, engine {}",
            plan.facts.cluster,
            plan.facts.kubernetes,
            plan.facts.nodes.len(),
            plan.facts.engine
        ),
    )];
    facts.push(("seed", format!("{} (give it with --seed to get the same targets)", plan.seed)));
    for (name, node) in &plan.targets {
        facts.push(("target", format!("{name} is {}", node.name)));
    }
    for fault in &plan.faults {
        let told = words::kubelets(&plan.kubelets_of(&fault.node), &fault.node.name);
        facts.extend(told.map(|told| ("kubelets", told)));
    }
    let observers: Vec<&str> = plan.observers.iter().map(|n| n.name.as_str()).collect();
    facts.push(("observers", format!("{} (requests come from pods there)", observers.join(", "))));
    labelled(&mut page, &facts);
    steps(&mut page, plan, manifests);
    windows(&mut page, plan);
    planned_claims(&mut page, plan);
    probes(&mut page, plan);
    page.finish()
}

fn steps(page: &mut Page, plan: &Plan, manifests: Option<&Manifests>) {
    let lasts = |span: crate::plan::Span| {
        let (least, most) = (words::seconds(Seconds(span.at_least)), words::seconds(Seconds(span.at_most)));
        if least == most { format!("for {most}") } else { format!("for at least {least}, at most {most}") }
    };
    let of = |stage| plan.workloads.iter().filter(|(_, w)| w.stage() == stage).collect::<Vec<_>>();
    let (workloads, unsaved, late) = (of(Stage::First), of(Stage::AfterSnapshot), of(Stage::WithTheFault));
    let names = |of: &[(&String, &Workload)]| of.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
    let mut steps = vec!["survey the cluster, to compare with at the end".to_owned()];
    if let (Some(manifests), Some(planned)) = (manifests, &plan.manifests) {
        let objects: Vec<String> = manifests.objects.iter().map(ToString::to_string).collect();
        let (namespace, path, objects) = (&planned.namespace, &planned.path, objects.join(", "));
        steps.push(format!(
            "make namespace {namespace} with what is in {path}, and wait until it is rolled out: {objects}"
        ));
    }
    let with = if workloads.is_empty() { String::new() } else { format!(" with {}", names(&workloads)) };
    let (namespace, watch) = (&plan.namespace, plan.watch_namespace());
    let probes = plan.probes.len();
    steps.push(format!("make namespace {namespace}{with}, and {watch} with samplers, and start {probes} probes"));
    let writing = || "write down and sync to disk what undoes the fault, with the state to go back to".to_owned();
    if plan.saves() {
        steps.push(writing());
        let what = match plan.does() {
            Some(Remedy::RestoreCopy) => "copy the volume; the copy stays in the node",
            _ => "take a snapshot of the API server's storage; it stays in the node",
        };
        steps.push(what.to_owned());
    }
    if !unsaved.is_empty() {
        steps.push(format!("put {} into the cluster", names(&unsaved)));
    }
    steps.push("wait until all probes hold for a quiet time; if they do not, nothing is injected".to_owned());
    if !plan.saves() {
        steps.push(writing());
    }
    for fault in &plan.faults {
        steps.push(format!("{}; independent witnesses must see it", words::fault(&fault.spec, &fault.node.name)));
    }
    if !late.is_empty() {
        steps.push(format!("put {} into the cluster", names(&late)));
    }
    let sooner = plan.fault_for.at_most > plan.fault_for.at_least;
    let until = if sooner { " (it ends as soon as every claim is decided)" } else { "" };
    steps.push(format!("watch {}{until}", lasts(plan.fault_for)));
    if let Some(remedy) = &plan.remedy {
        steps.push(format!("remedy: {}", words::remedy(remedy.does)));
        steps.push(format!("watch {}", lasts(remedy.watched_for)));
    }
    for fault in plan.faults.iter().rev() {
        if let Some(remedy) = plan.does() {
            steps.extend(undo_remedy(remedy, &fault.node.name).map(|undo| format!("undo: {undo}")));
        }
        steps.push(format!("undo: {}", undo(&fault.spec, &fault.node.name)));
    }
    steps.push(format!("watch the recovery {}", lasts(plan.recovery_for)));
    steps.push("remove what was put in, and compare the cluster with the survey".to_owned());
    heading(page, "steps", "");
    let rows =
        steps.iter().enumerate().map(|(n, step)| vec![styled(DIM, &format!("{}.", n + 1)), cell(step)]).collect();
    page.rows(rows, &[0, 100]);
}

/// The undo of a remedy, if it differs from the undo of the fault.
fn undo_remedy(remedy: Remedy, node: &str) -> Option<String> {
    match remedy {
        Remedy::OutOfService => Some(format!("take the taint `node.kubernetes.io/out-of-service` off {node}")),
        Remedy::DeleteNode => Some(format!("create {node} in the API, as it was")),
        Remedy::RestoreSnapshot | Remedy::RestoreCopy | Remedy::ReplaceMember | Remedy::RecoverFromSurvivor => None,
    }
}

fn undo(spec: &FaultSpec, node: &str) -> String {
    // Components that depend on it have ended without it, and a new kubelet has forgotten how long they were to back
    // off.
    let anew = match spec.component().or(spec.store_left().map(|_| Component::Etcd)) {
        Some(Component::KubeApiserver | Component::Etcd) => format!(", and restart the kubelet of {node}"),
        _ => String::new(),
    };
    match spec {
        FaultSpec::PowerOff { .. } | FaultSpec::Stop { .. } | FaultSpec::RestartLoop { .. } => {
            format!("docker start {node}, at the address it had and with the restart policy it had")
        }
        FaultSpec::Pause { .. } => format!("docker unpause {node}"),
        FaultSpec::KubeletStop { .. } => format!("start the kubelet of {node}"),
        FaultSpec::KubeletFreeze { watchdog: false, .. } => format!("let the kubelet of {node} go on"),
        FaultSpec::KubeletFreeze { watchdog: true, .. } => format!("restart the kubelet of {node} without a watchdog"),
        FaultSpec::KubeletKill { .. } => format!("start the kubelet of {node}, with the settings its unit had"),
        FaultSpec::KubeletCrash { .. } => format!("end the killing in {node}, and start its kubelet"),
        FaultSpec::ComponentDown { component, .. } | FaultSpec::ComponentFlag { component, .. } => {
            format!("put the manifest of {} back into {node}{anew}", component.name())
        }
        FaultSpec::ComponentKill { .. } => {
            format!("remove kchaos' notes in {node}, whose kubelet has started another{anew}")
        }
        FaultSpec::StoreLoss { .. } | FaultSpec::Restart { store: StoreOfRestarted::Lost, .. } => {
            format!("put back what etcd of {node} had stored, whatever was stored meanwhile{anew}")
        }
        FaultSpec::MemberLoss { .. } => {
            format!("put back etcd of {node} and what it had stored, or if it was replaced keep the new member{anew}")
        }
        FaultSpec::Restart { .. } => {
            format!(
                "give {node} the restart policy that it had, and docker start it, if it has not come back by itself"
            )
        }
        FaultSpec::ComponentFreeze { component, .. } => format!("let {} of {node} go on{anew}", component.name()),
        FaultSpec::Partition { .. } | FaultSpec::PacketLoss { .. } => {
            format!("remove kchaos' chain from the packet filter of {node}")
        }
        FaultSpec::KubeletConfig { .. } => {
            format!("put the configuration file of {node}'s kubelet back, and restart the kubelet")
        }
        FaultSpec::CertificateExpired { of: CertificateOf::KubeApiserver, .. } => {
            format!("put the certificate of the API server of {node} back{anew}")
        }
        FaultSpec::CertificateExpired { of: CertificateOf::EtcdPeer, .. } => {
            format!("put the certificate that etcd of {node} shows to other members back{anew}")
        }
        FaultSpec::CertificateExpired { of: CertificateOf::Kubelet, .. } => {
            format!("put the certificate of {node}'s kubelet back, and restart the kubelet")
        }
        FaultSpec::VolumeLoss { of, .. } => {
            format!("put the volume of {of} back, kill its container, and restart the kubelet of {node}")
        }
        FaultSpec::ContainerKill { of, .. } => {
            format!("remove kchaos' notes in {node}, whose kubelet has started {of} again")
        }
        FaultSpec::Drain { .. } => format!("end the drain, and uncordon {node}"),
        FaultSpec::Delete { workload, reclaim: Some(Reclaim::Delete), .. } => {
            format!("create {workload} again, with an empty volume: what was on the old one is gone")
        }
        FaultSpec::Delete { workload, reclaim: Some(Reclaim::Retain), .. } => {
            format!("create {workload} again, with the volume that it had; its pods are others")
        }
        FaultSpec::Delete { workload, held: true, .. } => {
            format!("remove the finalizers of {workload}, and create it again, as it was; its pods are others")
        }
        FaultSpec::Delete { workload, .. } => format!("create {workload} again, as it was; its pods are others"),
        FaultSpec::DeleteNamespace {} => {
            "create the namespace and its workloads again, as they were; their pods are others, and volumes are empty"
                .to_owned()
        }
        FaultSpec::DeleteBinding { name } => format!("create the ClusterRoleBinding {name} again, as it was"),
        FaultSpec::DeadWebhook { .. } => {
            format!("delete the configuration of the webhook, and restart the kubelet of {node}")
        }
    }
}

fn windows(page: &mut Page, plan: &Plan) {
    let mut seen: Vec<&str> = Vec::new();
    let mut rows = vec![header(&["window", "expected", "computed as"])];
    for claim in &plan.claims {
        let window = &claim.window;
        if !seen.contains(&window.name.as_str()) {
            seen.push(&window.name);
            rows.push(vec![cell(&window.name), cell(&when(claim)), cell(&window.formula)]);
        }
    }
    heading(page, "windows", "when things are expected, and why then");
    page.rows(rows, &[26, 34, 40]);
    page.blank();
    let settings = words::unique(plan.claims.iter().flat_map(|c| &c.window.bounded_by).map(String::as_str));
    page.rows(settings.into_iter().map(|s| vec![styled(DIM, s)]).collect(), &[100]);
}

/// A planned window, in the words of a report.
fn when(claim: &PlannedClaim) -> String {
    let edge = |edge| match edge {
        Edge::After(d) => Some(Seconds(d)),
        Edge::CauseStart | Edge::PhaseStart | Edge::PhaseEnd => None,
    };
    words::window(&Window {
        name: String::new(),
        phase: claim.window.phase,
        from: edge(claim.window.from),
        to: edge(claim.window.to),
        formula: String::new(),
        bounded_by: Vec::new(),
    })
}

fn planned_claims(page: &mut Page, plan: &Plan) {
    heading(page, "claims", "what must be seen");
    let mut rows = vec![header(&["claim", "expected", "window"])];
    for claim in &plan.claims {
        let operator = operator(&claim.operator);
        let probe = words::planned_probe(plan, claim.probe);
        let arm = claim.arm.map(|a| format!(" ({})", words::arm(a))).unwrap_or_default();
        let mut expected = cell(&format!("{probe}: {operator}"));
        expected.extend(claim.unsupported.iter().map(|why| Text::plain(&format!("– can't be tested here: {why}"))));
        let says = vec![Text::plain(&claim.says), Text::new(DIM, &format!("{}{arm}", claim.sentence))];
        rows.push(vec![says, expected, cell(&claim.window.name)]);
    }
    page.rows(rows, &[45, 35, 20]);
}

fn probes(page: &mut Page, plan: &Plan) {
    heading(page, "probes", "what is looked at, how often, and how long an answer may take");
    let mut rows = vec![header(&["probe", "every", "within"])];
    for (n, probe) in plan.probes.iter().enumerate() {
        let (every, within) = (words::seconds(Seconds(probe.interval)), words::seconds(Seconds(probe.timeout)));
        rows.push(vec![cell(&words::planned_probe(plan, n)), cell(&every), cell(&within)]);
    }
    page.rows(rows, &[60, 20, 20]);
}
