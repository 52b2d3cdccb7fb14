//! Label selectors, built from checked types only.

use crate::found::{Found, Query};
use crate::keys;

/// Returns the selector of `query`: nothing in it can hold a comma or an operator.
pub(crate) fn labels(query: &Query) -> String {
    let mut terms = vec![format!("{}={}", keys::APP, keys::APP_VALUE)];
    terms.extend(query.org.iter().map(|org| format!("{}={org}", keys::ORG)));
    terms.extend(query.owner.iter().map(|owner| format!("{}={owner}", keys::OWNER)));
    terms.extend(query.name.iter().map(|name| format!("{}={name}", keys::NAME)));
    let tags = query.tags.iter();
    terms.extend(tags.map(|(key, value)| format!("{}{key}={value}", keys::TAG_PREFIX)));
    terms.join(",")
}

/// Tells whether `found` is in one of the states asked for.
pub(crate) fn has_status(query: &Query, found: &Found) -> bool {
    query.status.is_empty() || query.status.contains(&found.weaver.phase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abuse_selectors_hold_only_checked_values() {
        let query = Query {
            org: Some("O-1".parse().unwrap()),
            owner: Some("U-ada".parse().unwrap()),
            name: Some("api".parse().unwrap()),
            tags: "team=web".parse().unwrap(),
            ..Query::default()
        };
        assert_eq!(
            labels(&query),
            "app=loom-weaver,loom.dev/org=O-1,loom.dev/owner=U-ada,loom.dev/name=api,\
             loom.dev/tag.team=web"
        );
        assert!("a=b,c!=d".parse::<weaver::Tags>().is_err());
        assert!("O-1,app!=x".parse::<weaver::OrgId>().is_err());
    }
}
