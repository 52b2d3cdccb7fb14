//! Whether this very process has the rights of its service, asked of Kubernetes itself.

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, ResourceRule, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
    SelfSubjectRulesReview, SelfSubjectRulesReviewSpec,
};
use kube::Api;
use kube::api::PostParams;

use crate::error::{Call, Error, Result};
use crate::rights::{Right, Service};
use crate::weavers::Cluster;

impl Cluster {
    /// Returns what this process may not do and `service` must, in the weavers' namespaces: one call
    /// each while all is well. A cluster that cannot be asked lacks nothing.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub async fn missing_rights(&self, service: Service) -> Result<Vec<Call>> {
        let mut missing = Vec::new();
        for namespace in self.settings().namespaces() {
            missing.extend(self.missing_in(service, &namespace).await?);
        }
        Ok(missing)
    }

    async fn missing_in(&self, service: Service, namespace: &str) -> Result<Vec<Call>> {
        let Some(rules) = self.rules(namespace).await? else { return Ok(Vec::new()) };
        let mut missing = Vec::new();
        for right in service.rights().iter().filter(|right| !right.optional) {
            // Rules may be told incompletely; the answer to a question is the truth.
            if !allow(&rules, right, namespace) && !self.may(right, namespace).await? {
                missing.push(Call::new(right.verb, right.resource, namespace, None));
            }
        }
        Ok(missing)
    }

    async fn rules(&self, namespace: &str) -> Result<Option<Vec<ResourceRule>>> {
        let api = Api::<SelfSubjectRulesReview>::all(self.client().clone());
        let spec = SelfSubjectRulesReviewSpec { namespace: Some(namespace.to_owned()) };
        let review = SelfSubjectRulesReview { spec, ..SelfSubjectRulesReview::default() };
        let call = Call::new("create", "selfsubjectrulesreviews", namespace, None);
        let params = PostParams::default();
        let answer = answer(self.within(call, api.create(&params, &review)).await)?;
        Ok(answer.and_then(|review| Some(review.status?.resource_rules)))
    }

    async fn may(&self, right: &Right, namespace: &str) -> Result<bool> {
        let api = Api::<SelfSubjectAccessReview>::all(self.client().clone());
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(attributes(right, namespace)),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        let call = Call::new("create", "selfsubjectaccessreviews", namespace, None);
        let params = PostParams::default();
        let answer = answer(self.within(call, api.create(&params, &review)).await)?;
        Ok(answer.and_then(|review| review.status).is_none_or(|status| status.allowed))
    }
}

/// Returns `None` where nobody answers such questions, or not to us.
fn answer<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(
            Error::NotFound { .. }
            | Error::Forbidden { .. }
            | Error::Refused { .. }
            | Error::Invalid { .. },
        ) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns a right as Kubernetes is asked about it.
pub(crate) fn attributes(right: &Right, namespace: &str) -> ResourceAttributes {
    let (resource, subresource) = right.parts();
    ResourceAttributes {
        verb: Some(right.verb.to_owned()),
        group: Some(String::new()),
        resource: Some(resource.to_owned()),
        subresource: subresource.map(str::to_owned),
        namespace: Some(namespace.to_owned()),
        name: (resource == "namespaces").then(|| namespace.to_owned()),
        ..ResourceAttributes::default()
    }
}

/// Tells whether one of the rules holds for all objects that the right is about.
fn allow(rules: &[ResourceRule], right: &Right, namespace: &str) -> bool {
    let any_of = right.parts().1.map(|subresource| format!("*/{subresource}"));
    rules.iter().any(|rule| {
        let has = |list: &[String], word: &str| list.iter().any(|one| one == "*" || one == word);
        let resources = rule.resources.as_deref().unwrap_or_default();
        let names = rule.resource_names.as_deref().unwrap_or_default();
        let named = right.resource == "namespaces" && names.iter().any(|name| name == namespace);
        has(&rule.verbs, right.verb)
            && has(rule.api_groups.as_deref().unwrap_or_default(), "")
            && (has(resources, right.resource)
                || any_of.as_ref().is_some_and(|any| resources.contains(any)))
            && (names.is_empty() || named)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verbs: &[&str], resources: &[&str], names: &[&str]) -> ResourceRule {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        ResourceRule {
            verbs: words(verbs),
            api_groups: Some(vec![String::new()]),
            resources: Some(words(resources)),
            resource_names: Some(words(names)),
        }
    }

    #[test]
    fn rules_are_read_as_rbac_means_them() {
        let find = |verb: &str, resource: &str| {
            let mut rights = Service::ALL.iter().flat_map(|service| service.rights());
            *rights.find(|r| r.verb == verb && r.resource == resource).unwrap()
        };
        let (exec, get) = (find("create", "pods/exec"), find("get", "pods"));
        let namespace = find("get", "namespaces");
        for (right, rule, allowed) in [
            (get, rule(&["get"], &["pods"], &[]), true),
            (get, rule(&["*"], &["*"], &[]), true),
            (get, rule(&["list"], &["pods"], &[]), false),
            (get, rule(&["get"], &["pods/log"], &[]), false),
            (get, rule(&["get"], &["pods"], &["one"]), false),
            (exec, rule(&["create"], &["pods"], &[]), false),
            (exec, rule(&["create"], &["pods/exec"], &[]), true),
            (exec, rule(&["create"], &["*/exec"], &[]), true),
            (namespace, rule(&["get"], &["namespaces"], &["ns"]), true),
            (namespace, rule(&["get"], &["namespaces"], &["other"]), false),
        ] {
            let rules = std::slice::from_ref(&rule);
            assert_eq!(allow(rules, &right, "ns"), allowed, "{right:?} {rule:?}");
        }
        let mut foreign = rule(&["get"], &["pods"], &[]);
        foreign.api_groups = Some(vec!["apps".to_owned()]);
        assert!(!allow(&[foreign], &get, "ns"));
    }
}
