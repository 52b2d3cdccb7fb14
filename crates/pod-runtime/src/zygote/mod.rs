//! First process of a pod.
