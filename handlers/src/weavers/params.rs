//! Query parameters: each is known, checked and stands as often as it may.

use std::collections::BTreeMap;

use axum::extract::FromRequestParts;
use http::request::Parts;
use weaver::{FieldError, OwnerId, Phase, Tags};
use wire::problem::Problem;

use crate::ApiError;

/// Most weavers on a page.
const MOST: u32 = 500;
/// Longest cursor: Kubernetes' are a few hundred characters.
const CURSOR: usize = 4096;

/// What narrows a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ListParams {
    pub(crate) tags: Tags,
    pub(crate) status: Vec<Phase>,
    pub(crate) owner: Option<OwnerId>,
    pub(crate) limit: Option<u32>,
    pub(crate) cursor: Option<String>,
}

/// What of a log is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LogParams {
    pub(crate) follow: bool,
    pub(crate) tail: Option<u32>,
}

impl<S: Sync> FromRequestParts<S> for ListParams {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Ok(Self::read(parts.uri.query().unwrap_or_default())?)
    }
}

impl<S: Sync> FromRequestParts<S> for LogParams {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Ok(Self::read(parts.uri.query().unwrap_or_default())?)
    }
}

impl ListParams {
    fn read(query: &str) -> Result<Self, Problem> {
        let mut params = Self::default();
        let mut tags = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "tag" => add_tag(&mut tags, &value)?,
                "status" => params.status.push(value.parse()?),
                "owner" => once(&mut params.owner, "owner", value.parse()?)?,
                "limit" => once(&mut params.limit, "limit", number("limit", &value, 1, MOST)?)?,
                "cursor" => once(&mut params.cursor, "cursor", cursor(&value)?)?,
                other => return Err(unknown(other)),
            }
        }
        params.tags = Tags::try_from(tags).map_err(of_tag)?;
        Ok(params)
    }
}

impl LogParams {
    fn read(query: &str) -> Result<Self, Problem> {
        let (mut follow, mut tail) = (None, None);
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "follow" => once(&mut follow, "follow", boolean("follow", &value)?)?,
                "tail" => once(&mut tail, "tail", number("tail", &value, 0, i32::MAX as u32)?)?,
                other => return Err(unknown(other)),
            }
        }
        Ok(Self { follow: follow.unwrap_or(false), tail })
    }
}

fn add_tag(tags: &mut BTreeMap<String, String>, text: &str) -> Result<(), Problem> {
    let one = BTreeMap::from(text.parse::<Tags>().map_err(of_tag)?);
    for (key, value) in one {
        if tags.insert(key, value).is_some() {
            return Err(Problem::field("tag", "tag has the same key twice"));
        }
    }
    Ok(())
}

/// The parameter is called `tag`, the field of a body `tags`.
fn of_tag(error: FieldError) -> Problem {
    FieldError { field: "tag", ..error }.into()
}

fn once<T>(place: &mut Option<T>, name: &'static str, value: T) -> Result<(), Problem> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(FieldError::new(name, "stands twice").into()),
    }
}

fn number(name: &'static str, text: &str, least: u32, most: u32) -> Result<u32, Problem> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| text.parse::<u32>().ok()).flatten();
    let number = number.filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| FieldError::new(name, format!("must be {least} to {most}")).into())
}

fn boolean(name: &'static str, text: &str) -> Result<bool, Problem> {
    match text {
        "true" | "1" | "" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(FieldError::new(name, "must be true or false").into()),
    }
}

fn cursor(text: &str) -> Result<String, Problem> {
    let plain = |text: &&str| {
        (1..=CURSOR).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic())
    };
    let wrong = || FieldError::new("cursor", "is not one that this server gave").into();
    Some(text).filter(plain).map(str::to_owned).ok_or_else(wrong)
}

fn unknown(name: &str) -> Problem {
    let shown: String = name.escape_debug().take(60).collect();
    Problem::field(shown.clone(), format!("unknown parameter {shown}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read() {
        let params =
            ListParams::read("tag=team%3Dweb&tag=a=b&status=running&owner=U-ada&limit=2").unwrap();
        assert_eq!(params.tags.iter().collect::<Vec<_>>(), [("a", "b"), ("team", "web")]);
        assert_eq!((params.status, params.limit), (vec![Phase::Running], Some(2)));
        assert_eq!(params.owner.unwrap().as_str(), "U-ada");
        let log = LogParams::read("follow=true&tail=10").unwrap();
        assert_eq!(log, LogParams { follow: true, tail: Some(10) });
    }

    #[test]
    fn abuse_filters() {
        for (query, field) in [
            ("tag=a=b,b!=c", "tag"),
            ("tag=a,b!=c", "tag"),
            ("tag=loom.dev/owner=U-x", "tag"),
            ("tag=a=b&tag=a=c", "tag"),
            ("status=a,b!=c", "status"),
            ("owner=U-a,app!=x", "owner"),
            ("owner=ada", "owner"),
            ("limit=0", "limit"),
            ("limit=501", "limit"),
            ("limit=-1", "limit"),
            ("limit=1&limit=2", "limit"),
            ("cursor=", "cursor"),
            ("cursor=%0a", "cursor"),
            ("labelSelector=app", "labelSelector"),
        ] {
            let refused = ListParams::read(query).unwrap_err();
            assert_eq!(refused.field.as_deref(), Some(field), "{query}");
        }
        for query in ["tail=-1", "tail=x", "follow=maybe", "container=x"] {
            assert!(LogParams::read(query).is_err(), "{query}");
        }
    }
}
