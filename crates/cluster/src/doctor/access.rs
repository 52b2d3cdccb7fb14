//! What the service accounts may do, asked of the cluster's own authorizer: enough, and not too much.

use futures::stream::{self, StreamExt, TryStreamExt};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;

use super::{Check, Doctor};
use crate::allowed::attributes;
use crate::error::{Call, Error, Result};
use crate::rights::{Right, Service};

const NAME: &str = "rights";
/// How many questions are asked at once.
const AT_ONCE: usize = 8;
const APPLY: &str = "apply the roles again: kubectl apply -k k3d/manifests/overlays/production";

/// A question about one account, and how it is said.
struct Question {
    asked: ResourceAttributes,
    said: String,
}

impl Doctor {
    pub(super) async fn rights(&self) -> Vec<Check> {
        let mut checks = Vec::new();
        for service in Service::ALL {
            let check = match self.has_account(service).await {
                Ok(true) => self.of(service).await,
                Ok(false) => Ok(self.no_account(service)),
                Err(error) => Err(error),
            };
            checks.push(check.unwrap_or_else(|error| untold(service, &error)));
        }
        checks
    }

    async fn has_account(&self, service: Service) -> Result<bool> {
        let namespace = &self.aims.system_namespace;
        let api = Api::<ServiceAccount>::namespaced(self.cluster.client().clone(), namespace);
        let call = Call::new("get", "serviceaccounts", namespace, None);
        let found = self.cluster.within(call, api.get_opt(service.name())).await;
        Ok(found?.is_some())
    }

    fn no_account(&self, service: Service) -> Check {
        let (name, namespace) = (service.name(), &self.aims.system_namespace);
        let detail = format!("there is no service account {name} in namespace {namespace}");
        let fix = "kubectl apply -k k3d/manifests/overlays/production, unless it runs elsewhere";
        Check::warning(NAME, detail, fix)
    }

    async fn of(&self, service: Service) -> Result<Check> {
        let missing = self.answers(service, self.needed(service, false), false).await?;
        let extra = self.answers(service, self.excess(service), true).await?;
        let name = service.name();
        if !missing.is_empty() {
            let detail = format!("{name} may not {}", missing.join(", "));
            return Ok(Check::failed(NAME, detail, APPLY));
        }
        if !extra.is_empty() {
            let detail = format!("{name} may {}, and needs none of it", extra.join(", "));
            let fix = "take it away: see its RoleBindings and ClusterRoleBindings, and those of all \
                service accounts";
            return Ok(Check::failed(NAME, detail, fix));
        }
        let lesser = self.answers(service, self.needed(service, true), false).await?;
        if !lesser.is_empty() {
            let detail = format!("{name} does without the right to {}", lesser.join(", "));
            return Ok(Check::warning(NAME, detail, APPLY));
        }
        let count = service.rights().len();
        Ok(Check::ok(
            NAME,
            format!("{name} has the {count} rights it needs and no others of weight"),
        ))
    }

    /// Returns those questions that are answered so.
    async fn answers(
        &self,
        service: Service,
        questions: Vec<Question>,
        wanted: bool,
    ) -> Result<Vec<String>> {
        let answers = stream::iter(questions).map(|question| async move {
            let allowed = self.allowed(service, &question.asked).await?;
            Ok::<_, Error>((allowed == wanted).then_some(question.said))
        });
        answers.buffered(AT_ONCE).try_filter_map(|said| async move { Ok(said) }).try_collect().await
    }

    async fn allowed(&self, service: Service, asked: &ResourceAttributes) -> Result<bool> {
        let namespace = &self.aims.system_namespace;
        let groups = [
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
            "system:authenticated".to_owned(),
        ];
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(format!("system:serviceaccount:{namespace}:{}", service.name())),
                groups: Some(groups.to_vec()),
                resource_attributes: Some(asked.clone()),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api = Api::<SubjectAccessReview>::all(self.cluster.client().clone());
        let call = Call::new("create", "subjectaccessreviews", &self.aims.namespace, None);
        let params = PostParams::default();
        let answer = self.cluster.within(call, api.create(&params, &review)).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }

    fn needed(&self, service: Service, optional: bool) -> Vec<Question> {
        let namespace = &self.aims.namespace;
        let question = |right: &Right| Question {
            asked: attributes(right, namespace),
            said: format!("{} {} in namespace {namespace}", right.verb, right.resource),
        };
        let rights = service.rights().iter().filter(|right| right.optional == optional);
        rights.map(question).collect()
    }

    /// Returns what it must not do: what others need, and what would let it do anything.
    fn excess(&self, service: Service) -> Vec<Question> {
        let (weavers, system) = (&*self.aims.namespace, &*self.aims.system_namespace);
        let others = Service::ALL.iter().flat_map(|other| other.rights());
        let others = others.map(|right| (right.verb, right.resource)).chain(OVER_WEAVERS);
        let mut asked: Vec<(&str, &str)> = Vec::new();
        for (verb, resource) in others {
            let own = service.rights().iter();
            let needs = own.clone().any(|own| own.verb == verb && own.resource == resource);
            if !needs && !asked.contains(&(verb, resource)) {
                asked.push((verb, resource));
            }
        }
        let here = asked.into_iter().map(|(verb, resource)| question(verb, "", resource, weavers));
        let there = [system, "kube-system", ""].into_iter().flat_map(|namespace| {
            ELSEWHERE.iter().map(move |(verb, resource)| question(verb, "", resource, namespace))
        });
        let over_all =
            OVER_ALL.iter().map(|(verb, group, resource)| question(verb, group, resource, ""));
        here.chain(there).chain(over_all).collect()
    }
}

/// What nobody needs in the weavers' namespace.
const OVER_WEAVERS: [(&str, &str); 9] = [
    ("update", "pods"),
    ("deletecollection", "pods"),
    ("patch", "pods/ephemeralcontainers"),
    ("create", "pods/portforward"),
    ("get", "secrets"),
    ("list", "secrets"),
    ("create", "serviceaccounts/token"),
    ("delete", "namespaces"),
    ("*", "*"),
];

/// What nobody needs in other namespaces, or in all.
const ELSEWHERE: [(&str, &str); 7] = [
    ("get", "secrets"),
    ("list", "secrets"),
    ("list", "pods"),
    ("create", "pods"),
    ("delete", "pods"),
    ("get", "pods/exec"),
    ("create", "pods/exec"),
];

/// What would let it do anything.
const OVER_ALL: [(&str, &str, &str); 12] = [
    ("get", "", "nodes"),
    ("list", "", "nodes"),
    ("get", "", "nodes/proxy"),
    ("create", "", "namespaces"),
    ("impersonate", "", "users"),
    ("impersonate", "", "serviceaccounts"),
    ("escalate", RBAC, "clusterroles"),
    ("bind", RBAC, "clusterroles"),
    ("create", RBAC, "clusterrolebindings"),
    ("create", RBAC, "rolebindings"),
    ("create", "admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
    ("*", "*", "*"),
];
const RBAC: &str = "rbac.authorization.k8s.io";

fn question(verb: &str, group: &str, resource: &str, namespace: &str) -> Question {
    let (plain, subresource) = match resource.split_once('/') {
        Some((plain, subresource)) => (plain, Some(subresource.to_owned())),
        None => (resource, None),
    };
    let place = match namespace {
        "" => "in all namespaces".to_owned(),
        namespace => format!("in namespace {namespace}"),
    };
    Question {
        asked: ResourceAttributes {
            verb: Some(verb.to_owned()),
            group: Some(group.to_owned()),
            resource: Some(plain.to_owned()),
            subresource,
            namespace: Some(namespace.to_owned()),
            ..ResourceAttributes::default()
        },
        said: format!("{verb} {resource} {place}"),
    }
}

/// Says that it could not be found out.
fn untold(service: Service, error: &Error) -> Check {
    let detail = format!("what {} may do is not known: {error}", service.name());
    let fix = match error {
        Error::Forbidden { .. } => {
            "ask with an account that may create subjectaccessreviews, such as an administrator's"
        }
        Error::NotFound { .. } => "this cluster does not tell what others may do: read its roles",
        _ => "try again when the cluster answers",
    };
    Check::warning(NAME, detail, fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_asked_about_what_a_service_needs_as_too_much() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let doctor = super::super::probe::tests::doctor();
        for service in Service::ALL {
            let excess = doctor.excess(service);
            for right in service.rights() {
                let said = format!("{} {} in namespace loom-weavers", right.verb, right.resource);
                assert!(excess.iter().all(|question| question.said != said), "{said}");
            }
        }
        let said = |service| doctor.excess(service).into_iter().map(|q| q.said).collect::<Vec<_>>();
        assert!(
            said(Service::Janitor).contains(&"create pods/exec in namespace loom-weavers".into())
        );
        assert!(said(Service::Relay).contains(&"list secrets in all namespaces".into()));
        assert!(said(Service::Handlers).contains(&"* * in all namespaces".into()));
    }
}
