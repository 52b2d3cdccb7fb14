//! Whether the API server is there, how old it is and what time it has.

use jiff::SignedDuration;

use super::{Check, Doctor};
use crate::error::{Call, Error};

/// The oldest and the newest Kubernetes 1.x for which this Loom is made and on which it is tested.
const OLDEST: u32 = 30;
const TESTED: u32 = 36;
/// How far a clock may be off before somebody should know, and before certificates and tokens of one
/// side are not, or no longer, valid for the other.
const NOTED: SignedDuration = SignedDuration::from_secs(5);
const HARMFUL: SignedDuration = SignedDuration::from_secs(300);

impl Doctor {
    pub(super) async fn api(&self) -> Vec<Check> {
        let call = Call::new("get", "version", &self.aims.namespace, None);
        let version = self.cluster.within(call, self.cluster.client().apiserver_version()).await;
        // Even a refusal tells the time.
        let clock = self
            .cluster
            .last_seen_time()
            .map(|there| skew(there.duration_since(service::clock::now())));
        let (api, version) = match version {
            Ok(info) => (
                Check::ok("api", "the API server answers"),
                Some(supported(&info.git_version, minor(&info.major, &info.minor))),
            ),
            Err(error) => (unreachable(&error), None),
        };
        std::iter::once(api).chain(version).chain(clock).collect()
    }
}

fn unreachable(error: &Error) -> Check {
    let fix = match error {
        Error::Unauthorized { .. } => "log in to the cluster again, or use another kubeconfig",
        Error::Forbidden { .. } => "use an account that may read /version",
        _ => "look whether the API server runs and the kubeconfig has its address",
    };
    Check::failed("api", error.to_string(), fix)
}

/// Reads `1` and `33+`; some clouds add a sign.
fn minor(major: &str, minor: &str) -> Option<u32> {
    let digits = minor.trim_end_matches(|c: char| !c.is_ascii_digit());
    (major == "1").then(|| digits.parse().ok()).flatten()
}

fn supported(git_version: &str, minor: Option<u32>) -> Check {
    match minor {
        None => Check::warning(
            "version",
            format!("Kubernetes {git_version}: this version cannot be read"),
            format!("use Kubernetes 1.{OLDEST} to 1.{TESTED}"),
        ),
        Some(minor) if minor < OLDEST => Check::failed(
            "version",
            format!("Kubernetes {git_version} is older than 1.{OLDEST}"),
            format!("upgrade the cluster to 1.{OLDEST} or later"),
        ),
        Some(minor) if minor > TESTED => Check::warning(
            "version",
            format!("Kubernetes {git_version} is newer than 1.{TESTED}, on which Loom is tested"),
            "look whether there is a newer Loom",
        ),
        Some(_) => Check::ok("version", format!("Kubernetes {git_version} is supported")),
    }
}

/// Says how far the API server's clock is ahead; its answers tell whole seconds.
fn skew(ahead: SignedDuration) -> Check {
    let off = ahead.abs();
    let side = if ahead.is_negative() { "behind" } else { "ahead of" };
    let detail = format!("the API server's clock is {} s {side} this machine's", off.as_secs());
    let fix = "set both clocks by NTP; deadlines of weavers go by the API server's";
    match off {
        off if off > HARMFUL => Check::failed("clock", detail, fix),
        off if off > NOTED => Check::warning("clock", detail, fix),
        _ => Check::ok("clock", "the API server's clock and this machine's agree"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn versions_are_read_as_clouds_write_them() {
        for (given, state) in [
            ("29", State::Failed),
            ("30", State::Ok),
            ("33+", State::Ok),
            ("36", State::Ok),
            ("37", State::Warning),
            ("", State::Warning),
        ] {
            assert_eq!(supported("v", minor("1", given)).state, state, "{given}");
        }
        assert_eq!(minor("2", "33"), None);
    }

    #[test]
    fn a_clock_is_told_with_its_direction() {
        let at = |seconds| skew(SignedDuration::from_secs(seconds));
        assert_eq!((at(1).state, at(-5).state), (State::Ok, State::Ok));
        assert_eq!((at(6).state, at(-301).state), (State::Warning, State::Failed));
        assert!(at(6).detail.contains("6 s ahead of"), "{}", at(6).detail);
        assert!(at(-301).detail.contains("301 s behind"), "{}", at(-301).detail);
    }
}
