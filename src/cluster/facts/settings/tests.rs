use super::*;

/// A manifest as kubeadm writes it, cut down to what matters here.
fn manifest(component: &str, flags: &[&str]) -> String {
    let flags: String = flags.iter().map(|f| format!("    - {f}\n")).collect();
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {component}\nspec:\n  containers:\n  - command:\n    - {component}\n{flags}    \
         image: registry.k8s.io/{component}:v1.34.4\n    name: {component}\n  hostNetwork: true\nstatus: {{}}\n"
    )
}

const KUBELET: &str = "apiVersion: kubelet.config.k8s.io/v1beta1
authentication:
  webhook:
    cacheTTL: 0s
crashLoopBackOff: {}
evictionHard:
  nodefs.available: 0%
kind: KubeletConfiguration
nodeStatusReportFrequency: 0s
";

const PROXY: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1
conntrack:
  maxPerCore: 0
  min: null
iptables:
  localhostNodePorts: null
  minSyncPeriod: 1s
  syncPeriod: 0s
ipvs:
  minSyncPeriod: 0s
kind: KubeProxyConfiguration
mode: iptables
nftables:
  minSyncPeriod: 0s
";

fn control_plane(name: &str, controller_manager: &[&str], api_server: &[&str], kubelet: &str) -> NodeFiles {
    NodeFiles {
        node: name.into(),
        controller_manager: Some(manifest("kube-controller-manager", controller_manager)),
        scheduler: Some(manifest(
            "kube-scheduler",
            &["--leader-elect-lease-duration=7s", "--leader-elect-retry-period=3s"],
        )),
        api_server: Some(manifest("kube-apiserver", api_server)),
        kubelet: Some(format!("{KUBELET}{kubelet}")),
        proxy: Some(PROXY.into()),
        ..NodeFiles::default()
    }
}

fn worker(name: &str, kubelet: &str) -> NodeFiles {
    let kubelet = Some(format!("{KUBELET}{kubelet}"));
    NodeFiles { node: name.into(), kubelet, proxy: Some(PROXY.into()), ..NodeFiles::default() }
}

const FAST_MANAGER: &[&str] = &[
    "--bind-address=127.0.0.1",
    "--controllers=*,bootstrapsigner,tokencleaner",
    "--leader-elect=true",
    "--node-monitor-grace-period=12s",
    "--node-monitor-period=1s",
];
const FAST_API: &[&str] = &["--default-unreachable-toleration-seconds=11", "--runtime-config="];
const FAST_KUBELET: &str = "nodeLeaseDurationSeconds: 8\nnodeStatusUpdateFrequency: 2s\n";
const SLOW_KUBELET: &str = "nodeLeaseDurationSeconds: 0\nnodeStatusUpdateFrequency: 0s\n";

fn read(clocks: &BTreeMap<Clock, Setting>, clock: Clock) -> (u64, &str) {
    let setting = &clocks[&clock];
    (u64::try_from(setting.value.as_millis()).unwrap(), &setting.source)
}

#[test]
fn short_clocks_are_read_with_their_sources() {
    let nodes = [control_plane("cp", FAST_MANAGER, FAST_API, FAST_KUBELET), worker("w", FAST_KUBELET)];
    let clocks = clocks("v1.34.4", &nodes).unwrap();
    assert_eq!(
        read(&clocks, Clock::NodeMonitorGracePeriod),
        (12_000, "kube-controller-manager --node-monitor-grace-period")
    );
    assert_eq!(read(&clocks, Clock::NodeMonitorPeriod), (1_000, "kube-controller-manager --node-monitor-period"));
    assert_eq!(
        read(&clocks, Clock::UnreachableToleration),
        (11_000, "kube-apiserver --default-unreachable-toleration-seconds")
    );
    assert_eq!(
        read(&clocks, Clock::LeaseRenew),
        (2_000, "a quarter of nodeLeaseDurationSeconds, KubeletConfiguration")
    );
    assert_eq!(read(&clocks, Clock::NodeStatusUpdate), (2_000, "nodeStatusUpdateFrequency, KubeletConfiguration"));
    assert_eq!(read(&clocks, Clock::ProxyMinSync), (1_000, "iptables.minSyncPeriod, KubeProxyConfiguration"));
    assert_eq!(
        read(&clocks, Clock::EvictionInterval),
        (10_000, "default of kube-controller-manager v1.34.4"),
        "a tenth of a node each second"
    );
    // The controller manager has the default of 15 s, which is longer than the scheduler's 7 s.
    assert_eq!(read(&clocks, Clock::LeaderLease), (15_000, "default of kube-controller-manager v1.34.4"));
    assert_eq!(read(&clocks, Clock::LeaderRenewDeadline).0, 10_000);
    assert_eq!(read(&clocks, Clock::LeaderRetry), (3_000, "kube-scheduler --leader-elect-retry-period"));
    assert_eq!(clocks.len(), 10);
}

#[test]
fn defaults_depend_on_the_version_and_say_so() {
    let nodes = [
        control_plane("cp", &["--leader-elect=true"], &["--secure-port=6443"], SLOW_KUBELET),
        worker("w", SLOW_KUBELET),
    ];
    let newer = clocks("v1.32.0", &nodes).unwrap();
    assert_eq!(read(&newer, Clock::NodeMonitorGracePeriod), (50_000, "default of kube-controller-manager v1.32.0"));
    let older = clocks("v1.31.9", &nodes).unwrap();
    assert_eq!(read(&older, Clock::NodeMonitorGracePeriod), (40_000, "default of kube-controller-manager v1.31.9"));
    assert_eq!(read(&newer, Clock::NodeMonitorPeriod).0, 5_000);
    assert_eq!(read(&newer, Clock::UnreachableToleration), (300_000, "default of kube-apiserver v1.32.0"));
    assert_eq!(read(&newer, Clock::LeaseRenew), (10_000, "default of kubelet v1.32.0"));
    assert_eq!(read(&newer, Clock::NodeStatusUpdate), (10_000, "default of kubelet v1.32.0"));
}

#[test]
fn a_rate_is_read_as_the_time_between_two() {
    let rate = |flag: &str| {
        let flags = [FAST_MANAGER, &[flag]].concat();
        clocks("v1.34.4", &[control_plane("cp", &flags, FAST_API, FAST_KUBELET)])
    };
    assert_eq!(read(&rate("--node-eviction-rate=0.5").unwrap(), Clock::EvictionInterval).0, 2_000);
    assert_eq!(read(&rate("--node-eviction-rate=0").unwrap(), Clock::EvictionInterval).0, 0, "never");
    for none in ["--node-eviction-rate=-1", "--node-eviction-rate=often"] {
        assert!(rate(none).unwrap_err().to_string().contains("can't be used"), "{none}");
    }
}

#[test]
fn flags_are_taken_in_every_form_that_kubernetes_takes() {
    let words = ["prog", "--a=1", "--b", "2s", "--switch", "--c_d=x=y", "--a=3", "--last"].map(str::to_owned);
    let flags = parse_flags(words.iter());
    let expected = [("a", "3"), ("b", "2s"), ("switch", ""), ("c-d", "x=y"), ("last", "")];
    assert_eq!(flags, expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
}

#[test]
fn a_flag_in_args_after_the_command_counts() {
    let mut node = control_plane("cp", FAST_MANAGER, FAST_API, FAST_KUBELET);
    let text = manifest("kube-controller-manager", FAST_MANAGER);
    let args = "    args:\n    - --node-monitor-grace-period\n    - 1m30s\n    image:";
    node.controller_manager = Some(text.replace("    image:", args));
    let clocks = clocks("v1.34.4", &[node]).unwrap();
    assert_eq!(read(&clocks, Clock::NodeMonitorGracePeriod).0, 90_000);
}

#[test]
fn control_planes_with_different_flags_are_an_error_that_names_both() {
    let slower = FAST_MANAGER.iter().map(|f| f.replace("=12s", "=20s")).collect::<Vec<_>>();
    let slower: Vec<&str> = slower.iter().map(String::as_str).collect();
    let nodes = [
        control_plane("cp1", FAST_MANAGER, FAST_API, FAST_KUBELET),
        control_plane("cp2", &slower, FAST_API, FAST_KUBELET),
    ];
    let error = clocks("v1.34.4", &nodes).unwrap_err().to_string();
    assert!(error.contains("--node-monitor-grace-period 12s on cp1 and 20s on cp2"), "{error}");
}

#[test]
fn a_flag_that_spells_out_the_default_does_not_differ_from_its_absence() {
    let spelled = ["--node-monitor-grace-period=50s"];
    let nodes =
        [control_plane("cp1", &spelled, FAST_API, FAST_KUBELET), control_plane("cp2", &[], FAST_API, FAST_KUBELET)];
    let clocks = clocks("v1.34.4", &nodes).unwrap();
    assert_eq!(read(&clocks, Clock::NodeMonitorGracePeriod).0, 50_000);
}

#[test]
fn the_slowest_kubelet_stands_for_all_and_is_named() {
    let nodes = [
        control_plane("cp", FAST_MANAGER, FAST_API, FAST_KUBELET),
        worker("w", SLOW_KUBELET),
        worker("x", FAST_KUBELET),
    ];
    let clocks = clocks("v1.34.4", &nodes).unwrap();
    assert_eq!(read(&clocks, Clock::LeaseRenew), (10_000, "default of kubelet v1.34.4, the longest of all nodes: w"));
}

#[test]
fn the_proxy_mode_decides_whose_period_counts() {
    let with = |proxy: &str| {
        let mut node = control_plane("cp", FAST_MANAGER, FAST_API, FAST_KUBELET);
        node.proxy = Some(proxy.to_owned());
        let clocks = clocks("v1.34.4", &[node]).unwrap();
        let (value, source) = read(&clocks, Clock::ProxyMinSync);
        (value, source.to_owned())
    };
    let nft = PROXY.replace("mode: iptables", "mode: nftables").replace("minSyncPeriod: 0s", "minSyncPeriod: 3s");
    assert_eq!(with(&nft), (3_000, "nftables.minSyncPeriod, KubeProxyConfiguration".to_owned()));
    let ipvs = PROXY.replace("mode: iptables", "mode: ipvs");
    assert_eq!(with(&ipvs), (0, "default of kube-proxy v1.34.4".to_owned()));
}

#[test]
fn a_proxy_that_shows_no_configuration_has_the_default_and_says_why() {
    let mut node = control_plane("cp", FAST_MANAGER, FAST_API, FAST_KUBELET);
    node.proxy = None;
    let clocks = clocks("v1.34.4", &[node]).unwrap();
    let (value, source) = read(&clocks, Clock::ProxyMinSync);
    assert_eq!(value, 1_000);
    assert!(source.contains("could not be read"), "{source}");
}

#[test]
fn what_cannot_be_understood_is_an_error_that_names_node_and_flag() {
    let nodes = [control_plane("cp", &["--node-monitor-grace-period=soon"], FAST_API, FAST_KUBELET)];
    let error = clocks("v1.34.4", &nodes).unwrap_err().to_string();
    assert!(error.contains("on cp: --node-monitor-grace-period=soon"), "{error}");

    let mut broken = control_plane("cp", FAST_MANAGER, FAST_API, FAST_KUBELET);
    broken.api_server = Some("spec: [".into());
    let error = clocks("v1.34.4", &[broken]).unwrap_err().to_string();
    assert!(error.contains("the manifest of kube-apiserver on cp"), "{error}");

    assert!(clocks("1.34", &[]).is_err());
    let error = clocks("v1.34.4", &[worker("w", FAST_KUBELET)]).unwrap_err().to_string();
    assert!(error.contains("no running control plane has a manifest of kube-controller-manager"), "{error}");
}

#[test]
fn durations_are_read_as_go_writes_them() {
    let ms = |text| go_duration(text).map(|d| d.as_millis());
    assert_eq!(ms("12s"), Some(12_000));
    assert_eq!(ms("1m0s"), Some(60_000));
    assert_eq!(ms("1h2m3.5s"), Some(3_723_500));
    assert_eq!(ms("250ms"), Some(250));
    assert_eq!(ms("0"), Some(0));
    assert_eq!(ms("-1s"), None);
    assert_eq!(ms("12"), None);
}

#[test]
fn an_audit_log_counts_if_every_api_server_keeps_it_in_the_same_file() {
    let with = |of_each: [&[&str]; 2]| {
        let planes = of_each.map(|flags| control_plane("cp", FAST_MANAGER, flags, FAST_KUBELET));
        audit_log(&planes).unwrap()
    };
    let (kept, elsewhere): (&[&str], &[&str]) = (&["--audit-log-path=/var/log/a.log"], &["--audit-log-path=/b.log"]);
    let (printed, none): (&[&str], &[&str]) = (&["--audit-log-path=-"], FAST_API);
    assert_eq!(with([kept, kept]).as_deref(), Some("/var/log/a.log"));
    for of_each in [[kept, none], [none, kept], [kept, elsewhere], [printed, printed], [none, none]] {
        assert_eq!(with(of_each), None, "{of_each:?}");
    }
}
