//! How long a load balancer takes to notice that a server is gone, derived from its configuration. Pure.
//!
//! It reads the configuration of HAProxy, which kind puts in front of several control planes. A failing check takes at
//! most `inter`. If `timeout check` is set, its connection takes at most the shorter of `timeout connect` and `inter`,
//! and its answer at most `timeout check`. The next check begins `inter` later, and `fall` failures in a row take a
//! server out (HAProxy's configuration manual, "check", "inter", "fall", "timeout check").

use std::time::Duration;

use super::Setting;

/// Path of the configuration in kind's load balancer.
pub(super) const HAPROXY: &str = "/usr/local/etc/haproxy/haproxy.cfg";

/// HAProxy's own defaults.
const INTER: Duration = Duration::from_secs(2);
const FALL: u32 = 3;

/// The longest time for which a server may be gone before it is taken out. `None` if some server is not checked, and so
/// never taken out, or if the configuration can't be understood.
pub(super) fn detection(config: &str) -> Option<Setting> {
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
        let setting = detection(KIND).unwrap();
        assert_eq!(setting.value, Duration::from_secs(12));
        assert_eq!(setting.source, "HAProxy: 3 checks, each 2s after the last, failing after 2s");
    }

    #[test]
    fn the_slowest_server_counts_and_what_a_line_says_wins_over_the_default() {
        let more = "  default-server inter 1s fall 5 # quick\n  timeout check 500ms\n  server a a:1 check\n  server b b:1 check inter 400 fall 2\n";
        // 5 × (1 s + 1 s + 0.5 s), against 2 × (0.4 s + 0.4 s + 0.5 s), and kind's 12 s.
        assert_eq!(detection(&format!("{KIND}{more}")).unwrap().value, Duration::from_millis(12_500));
    }

    #[test]
    fn without_a_timeout_of_its_own_a_check_takes_as_long_as_the_interval() {
        let quick = KIND.replace("connect 5000", "connect 500").replace("check check-ssl", "check inter 5s");
        assert_eq!(detection(&quick).unwrap().value, Duration::from_secs(30));
    }

    #[test]
    fn a_server_that_is_not_checked_is_never_taken_out() {
        assert_eq!(detection("server a a:1\n"), None);
        assert_eq!(detection("server a a:1 check inter soon\n"), None);
        assert_eq!(detection(""), None);
    }
}
