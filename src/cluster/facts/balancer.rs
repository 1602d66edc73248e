//! How long a load balancer takes to notice that a server is gone, derived from its configuration. Pure.
//!
//! It reads the configurations of HAProxy, which kind up to 0.31 puts in front of several control planes, and of Envoy,
//! which later versions do.
//!
//! - HAProxy: a failing check takes at most `inter`. If `timeout check` is set, its connection takes at most the shorter
//!   of `timeout connect` and `inter`, and its answer at most `timeout check`. The next check begins `inter` later, and
//!   `fall` failures in a row take a server out (HAProxy's configuration manual, "check", "inter", "fall", "timeout
//!   check").
//! - Envoy: a failing check takes at most `timeout`. The next one begins `interval` later, with some jitter, and
//!   `unhealthy_threshold` failures in a row take a server out (`config.core.v3.HealthCheck`). Its other intervals are
//!   those of a server that is out already, or that nobody was ever sent to.

use std::time::Duration;

use serde::Deserialize;

use super::Setting;

/// How a load balancer's configuration is read: its path in kind's load balancer, and what follows from it.
type Known = (&'static str, fn(&str) -> Option<Setting>);
/// Every load balancer that is known.
pub(super) const KNOWN: [Known; 2] = [("/usr/local/etc/haproxy/haproxy.cfg", haproxy), ("/home/envoy/cds.yaml", envoy)];

/// HAProxy's own defaults.
const INTER: Duration = Duration::from_secs(2);
const FALL: u32 = 3;

/// The longest time for which a server may be gone before HAProxy takes it out. `None` if some server is not checked, and
/// so never taken out, or if the configuration can't be understood.
fn haproxy(config: &str) -> Option<Setting> {
    let (mut connect, mut check) = (None, None);
    let (mut inter, mut fall) = (INTER, FALL);
    let mut longest: Option<Setting> = None;
    for line in config.lines() {
        let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
        let after = |word: &str| words.iter().position(|w| *w == word).and_then(|at| words.get(at + 1));
        match words[..] {
            ["timeout", "connect", value] => connect = Some(time(value)?),
            ["timeout", "check", value] => check = Some(time(value)?),
            ["default-server", ..] => {
                inter = after("inter").map_or(Some(inter), |v| time(v))?;
                fall = after("fall").map_or(Some(fall), |v| v.parse().ok())?;
            }
            ["server", _, _, ..] => {
                if !words.contains(&"check") {
                    return None;
                }
                let inter = after("inter").map_or(Some(inter), |v| time(v))?;
                let fall = after("fall").map_or(Some(fall), |v| v.parse().ok())?;
                let one = check.map_or(inter, |check| connect.unwrap_or(inter).min(inter) + check);
                let value = fall * (inter + one);
                let source = format!("HAProxy: {fall} checks, each {inter:?} after the last, failing after {one:?}");
                if longest.as_ref().is_none_or(|l| value > l.value) {
                    longest = Some(Setting { value, source });
                }
            }
            _ => {}
        }
    }
    longest
}

/// Envoy's clusters, as a file of its discovery service holds them.
#[derive(Deserialize)]
struct Clusters {
    resources: Vec<Upstream>,
}

#[derive(Deserialize)]
struct Upstream {
    #[serde(default)]
    health_checks: Vec<HealthCheck>,
}

#[derive(Deserialize)]
struct HealthCheck {
    timeout: String,
    interval: String,
    #[serde(default)]
    interval_jitter: Option<String>,
    #[serde(default)]
    interval_jitter_percent: u16,
    unhealthy_threshold: u32,
}

/// The same for Envoy.
fn envoy(config: &str) -> Option<Setting> {
    let clusters: Clusters = serde_saphyr::from_str(config).ok()?;
    let mut longest: Option<Setting> = None;
    for cluster in &clusters.resources {
        // The quickest of a cluster's checks takes a server out.
        let mut quickest: Option<Setting> = None;
        for check in &cluster.health_checks {
            let HealthCheck { timeout, interval, interval_jitter, interval_jitter_percent, .. } = check;
            let (fall, timeout, interval) = (&check.unhealthy_threshold, seconds(timeout)?, seconds(interval)?);
            let interval = interval.checked_mul(100 + u32::from(*interval_jitter_percent))? / 100;
            let interval = interval.checked_add(interval_jitter.as_deref().map_or(Some(Duration::ZERO), seconds)?)?;
            let source = format!("Envoy: {fall} checks, each {interval:?} after the last, failing after {timeout:?}");
            let setting = Setting { value: interval.checked_add(timeout)?.checked_mul(*fall)?, source };
            if quickest.as_ref().is_none_or(|q| setting.value < q.value) {
                quickest = Some(setting);
            }
        }
        let quickest = quickest?;
        if longest.as_ref().is_none_or(|l| quickest.value > l.value) {
            longest = Some(quickest);
        }
    }
    longest
}

/// A time as JSON has those of Protocol Buffers: seconds with an `s`.
fn seconds(text: &str) -> Option<Duration> {
    text.strip_suffix('s')?.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
}

/// A time in HAProxy's notation: in milliseconds, unless it has a unit.
fn time(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    Some(match unit {
        "us" => Duration::from_micros(number),
        "" | "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(60 * number),
        "h" => Duration::from_secs(3600 * number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As kind writes it, cut down to what matters.
    const KIND: &str = "defaults
  timeout connect 5000
  timeout client 50000
  default-server init-addr none
backend kube-apiservers
  option httpchk GET /healthz
  server kind-control-plane kind-control-plane:6443 check check-ssl verify none resolvers docker resolve-prefer ipv4
";

    #[test]
    fn kinds_own_configuration_takes_three_checks_of_four_seconds() {
        let setting = haproxy(KIND).unwrap();
        assert_eq!(setting.value, Duration::from_secs(12));
        assert_eq!(setting.source, "HAProxy: 3 checks, each 2s after the last, failing after 2s");
    }

    #[test]
    fn the_slowest_server_counts_and_what_a_line_says_wins_over_the_default() {
        let more = "  default-server inter 1s fall 5 # quick\n  timeout check 500ms\n  server a a:1 check\n  server b b:1 check inter 400 fall 2\n";
        // 5 × (1 s + 1 s + 0.5 s), against 2 × (0.4 s + 0.4 s + 0.5 s), and kind's 12 s.
        assert_eq!(haproxy(&format!("{KIND}{more}")).unwrap().value, Duration::from_millis(12_500));
    }

    #[test]
    fn without_a_timeout_of_its_own_a_check_takes_as_long_as_the_interval() {
        let quick = KIND.replace("connect 5000", "connect 500").replace("check check-ssl", "check inter 5s");
        assert_eq!(haproxy(&quick).unwrap().value, Duration::from_secs(30));
    }

    #[test]
    fn a_server_that_is_not_checked_is_never_taken_out() {
        assert_eq!(haproxy("server a a:1\n"), None);
        assert_eq!(haproxy("server a a:1 check inter soon\n"), None);
        assert_eq!(haproxy(""), None);
        assert_eq!(envoy(&ENVOY.replace("health_checks", "other_checks")), None);
        assert_eq!(envoy(&ENVOY.replace("interval: 2s", "interval: soon")), None);
        assert_eq!(envoy("resources: []"), None);
    }

    /// As kind 0.33 writes it, cut down to what matters.
    const ENVOY: &str = r#"resources:
- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: kube_apiservers
  connect_timeout: 0.25s
  health_checks:
  - timeout: 3s
    interval: 2s
    unhealthy_threshold: 2
    healthy_threshold: 1
    initial_jitter: 0s
    no_traffic_interval: 3s
    http_health_check:
      path: /healthz
"#;

    #[test]
    fn the_envoy_of_later_kinds_takes_two_checks_of_five_seconds() {
        let setting = envoy(ENVOY).unwrap();
        assert_eq!(setting.value, Duration::from_secs(10));
        assert_eq!(setting.source, "Envoy: 2 checks, each 2s after the last, failing after 3s");
        let jitter = ENVOY.replace("interval: 2s", "interval: 2s\n    interval_jitter: 0.5s");
        assert_eq!(envoy(&jitter).unwrap().value, Duration::from_secs(11));
        let percent = ENVOY.replace("interval: 2s", "interval: 2s\n    interval_jitter_percent: 50");
        assert_eq!(envoy(&percent).unwrap().value, Duration::from_secs(12));
    }

    #[test]
    fn of_several_clusters_the_slowest_counts_and_of_the_checks_of_one_the_quickest() {
        let check = "  - {timeout: 1s, interval: 1s, unhealthy_threshold: 1}\n";
        let slower = format!("- name: other\n  health_checks:\n{}", check.replace("interval: 1s", "interval: 19s"));
        assert_eq!(envoy(&format!("{ENVOY}{slower}")).unwrap().value, Duration::from_secs(20));
        let both = ENVOY.replace("  health_checks:\n", &format!("  health_checks:\n{check}"));
        assert_eq!(envoy(&both).unwrap().value, Duration::from_secs(2));
    }
}
