//! Whether it is of any use to wait for a weaver that something keeps from starting.

use k8s_openapi::api::core::v1::Pod;
use weaver::Why;

use super::{image, waiting};

/// Kubernetes asks for an image for ever, at first after 10 s, then after 20 s, then 40 s. An image
/// that three tries did not bring is given up; at once, if its registry says that there is none.
const TRIES: u32 = 3;

/// Remembers what was tried.
#[derive(Debug, Default)]
pub(crate) struct Hope {
    tries: u32,
    failing: bool,
}

impl Hope {
    /// Looks at a pod that is in trouble; tells whether that trouble stays.
    pub(crate) fn is_lost(&mut self, pod: &Pod, why: &Why) -> bool {
        let failing = waiting::has_reason(pod, image::FAILED);
        self.tries += u32::from(failing && !self.failing);
        self.failing = failing;
        match why.reason.as_str() {
            image::INVALID_NAME
            | image::NEVER_PULL
            | waiting::NO_PORT
            | waiting::NOTHING_TO_RUN => true,
            image::FAILED => self.tries >= TRIES || waiting::messages(pod).any(image::is_refused),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Tells after which of these the hope is lost.
    fn lost_at(reasons: &[&str]) -> Option<usize> {
        let mut hope = Hope::default();
        reasons.iter().position(|reason| {
            let status = json!({"phase": "Pending", "containerStatuses": [{"name": "weaver",
                "ready": false, "restartCount": 0, "image": "", "imageID": "",
                "state": {"waiting": {"reason": reason}}}]});
            let status = Some(serde_json::from_value(status).unwrap());
            let pod = Pod { status, ..Pod::default() };
            let why = waiting::why(&pod);
            hope.is_lost(&pod, &why)
        })
    }

    #[test]
    fn what_will_not_change_is_given_up_at_once() {
        for reason in ["InvalidImageName", "ErrImageNeverPull", "HostPortUnavailable"] {
            assert_eq!(lost_at(&[reason]), Some(0), "{reason}");
        }
    }

    #[test]
    fn an_image_gets_three_tries() {
        let (failed, waits) = ("ErrImagePull", "ImagePullBackOff");
        assert_eq!(lost_at(&[failed, failed, waits, waits, failed, waits, failed]), Some(6));
        assert_eq!(lost_at(&[waits, failed, waits, failed, waits, waits]), None);
    }

    #[test]
    fn what_a_registry_does_not_have_is_given_up_at_once() {
        let lost = |message: &str| {
            let state = json!({"waiting": {"reason": "ErrImagePull", "message": message}});
            let status = json!({"phase": "Pending", "containerStatuses": [{"name": "weaver",
                "ready": false, "restartCount": 0, "image": "", "imageID": "", "state": state}]});
            let status = Some(serde_json::from_value(status).unwrap());
            let pod = Pod { status, ..Pod::default() };
            Hope::default().is_lost(&pod, &waiting::why(&pod))
        };
        assert!(lost("failed to resolve reference \"r/a:1\": r/a:1: not found"));
        assert!(lost("failed to authorize: 401 Unauthorized"));
        assert!(lost("Back-off pulling image \"a\": ErrImagePull: pull access denied"));
        assert!(!lost("dial tcp: lookup r on 10.0.0.10:53: no such host"));
        assert!(!lost("connection refused"));
    }

    #[test]
    fn an_image_without_a_program_is_given_up_and_named() {
        for (reason, message) in [
            ("CreateContainerConfigError", "Error: no command specified"),
            (
                "CreateContainerError",
                "failed to generate container \"4f\" spec: failed to generate spec: no command \
                 specified",
            ),
        ] {
            let state = json!({"waiting": {"reason": reason, "message": message}});
            let status = json!({"phase": "Pending", "containerStatuses": [{"name": "weaver",
                "ready": false, "restartCount": 0, "image": "a:1", "imageID": "", "state": state}]});
            let status = Some(serde_json::from_value(status).unwrap());
            let pod = Pod { status, ..Pod::default() };
            let why = waiting::why(&pod);
            assert!(why.message.starts_with("image a:1 has no program of its own"), "{why:?}");
            assert!(Hope::default().is_lost(&pod, &why));
        }
    }

    #[test]
    fn what_somebody_may_still_bring_is_waited_for() {
        let reason = "CreateContainerConfigError";
        assert_eq!(lost_at(&[reason; 9]), None);
    }
}
