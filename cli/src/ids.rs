//! From what people type to a weaver: whole id, name, beginning, end, or `-`.

use client::ListQuery;
use uuid::Uuid;
use weaver::WeaverId;
use wire::api::WeaverView;
use wire::problem::Code;

use crate::failure::Failure;
use crate::printable::printable;
use crate::server::Api;

/// Finds the weaver that is meant and makes it the one used last; a whole id costs no call.
pub(crate) async fn resolve(api: &Api, given: &str) -> Result<WeaverId, Failure> {
    let id = match given {
        "-" => last(api).await?,
        _ => named(api, given).await?,
    };
    api.remember(&id);
    Ok(id)
}

/// Finds the weaver that is to be deleted: `-` twice does not take a second one.
pub(crate) async fn to_delete(api: &Api, given: &str) -> Result<WeaverId, Failure> {
    if given != "-" {
        return named(api, given).await;
    }
    let remembered = api.remembered();
    if let Some(deleted) = remembered.deleted {
        return Err(Failure::new(format!("{deleted}, the last one used, is deleted already"))
            .next("`loom ps` shows what is there"));
    }
    remembered.used.first().and_then(|id| id.parse().ok()).ok_or_else(none)
}

async fn named(api: &Api, given: &str) -> Result<WeaverId, Failure> {
    match whole(given) {
        Some(id) => Ok(id),
        None => pick(given, &api.client.list(&ListQuery::default()).await?),
    }
}

/// Finds the last one used that is still there, and says so when it is not the last one of all.
async fn last(api: &Api) -> Result<WeaverId, Failure> {
    let remembered = api.remembered();
    let mut gone = remembered.deleted;
    for used in &remembered.used {
        let Ok(id) = used.parse() else { continue };
        match api.client.get(&id).await {
            Ok(view) => {
                if let Some(gone) = gone {
                    let (gone, id) = (printable(&gone), printable(&view.id));
                    eprintln!("loom: {gone}, the last one used, is gone; this is {id}");
                }
                return Ok(id);
            }
            Err(error) if error.code() == Some(Code::NotFound) => {
                gone.get_or_insert_with(|| used.clone());
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(match gone {
        Some(id) => Failure::new(format!("{id}, the last one used, is gone"))
            .next("`loom ps` shows what is there"),
        None => none(),
    })
}

fn none() -> Failure {
    Failure::new("no weaver was used before").next("`loom ps` shows what is there")
}

/// Reads a whole id, also as a pod is called or as a bare UUID.
fn whole(given: &str) -> Option<WeaverId> {
    let uuid = given.strip_prefix("W-").or_else(|| given.strip_prefix("weaver-")).unwrap_or(given);
    let uuid = (uuid.len() == 36).then(|| Uuid::try_parse(uuid).ok()).flatten()?;
    Some(WeaverId::from_uuid(uuid))
}

/// Picks by name, else by a beginning or end that only one id has.
fn pick(given: &str, weavers: &[WeaverView]) -> Result<WeaverId, Failure> {
    let named = |view: &&WeaverView| view.name.as_deref() == Some(given);
    let found: Vec<_> = match weavers.iter().filter(named).collect::<Vec<_>>() {
        found if found.is_empty() => weavers.iter().filter(|view| part_of(given, view)).collect(),
        found => found,
    };
    match found[..] {
        [view] => Ok(view.id.parse()?),
        [] => Err(Failure::new(format!("no weaver is called {given:?}"))
            .next("`loom ps` shows what is there")),
        _ => {
            let ids = found.iter().map(|view| view.id.as_str()).collect::<Vec<_>>().join(", ");
            Err(Failure::new(format!("{given:?} could be any of {ids}")).next("type more of it"))
        }
    }
}

fn part_of(given: &str, view: &WeaverView) -> bool {
    let uuid = view.id.strip_prefix("W-").unwrap_or(&view.id);
    let part = given.strip_prefix("W-").unwrap_or(given).to_ascii_lowercase();
    // An end may not be typed with the prefix in front.
    !part.is_empty()
        && (uuid.starts_with(&part) || (uuid.ends_with(&part) && !given.starts_with("W-")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "W-018e2b3c-4d5e-7f8a-9b0c-1d2e3f4a5b6c";
    const B: &str = "W-018e2b3c-5e6f-8a9b-0c1d-2e3f4a5b6c7d";

    fn weavers() -> Vec<WeaverView> {
        let one = |id: &str, name: Option<&str>| WeaverView {
            id: id.into(),
            name: name.map(str::to_owned),
            ..crate::table::sample()
        };
        vec![one(A, Some("web")), one(B, Some("018e2b3c-4"))]
    }

    #[test]
    fn ids_as_people_type_them() {
        for (given, id) in [
            ("web", Ok(A)),
            ("018e2b3c-5", Ok(B)),
            ("W-018e2b3c-5", Ok(B)),
            ("5b6c", Ok(A)),
            ("5B6C7D", Ok(B)),
            ("018e2b3c-4", Ok(B)), // a name goes before a beginning
            ("018e2b3c", Err("could be any of")),
            ("W-", Err("no weaver")),
            ("", Err("no weaver")),
            ("W-5b6c", Err("no weaver")),
            ("\u{1b}[2J", Err("no weaver")),
        ] {
            match (pick(given, &weavers()), id) {
                (Ok(found), Ok(id)) => assert_eq!(found.to_string(), id, "{given}"),
                (Err(failure), Err(says)) => {
                    let text = failure.to_string();
                    assert!(text.contains(says) && !text.contains('\u{1b}'), "{text}");
                }
                (found, _) => panic!("{given}: {found:?}"),
            }
        }
    }

    #[test]
    fn whole_ids_cost_no_call() {
        for given in [A, &A[2..], "weaver-018e2b3c-4d5e-7f8a-9b0c-1d2e3f4a5b6c"] {
            assert_eq!(whole(given).unwrap().to_string(), A);
        }
        assert_eq!(whole("W-018e2b3c4d5e7f8a9b0c1d2e3f4a5b6c"), None);
    }
}
