//! The routes of `/api/weavers`, one file a verb.

mod create;
mod events;
mod extend;
mod key;
mod list;
mod logs;
mod name;
mod one;
mod orphan;
mod page;
mod params;
mod path;
mod view;

pub(crate) use create::create;
pub(crate) use events::events;
pub(crate) use extend::extend;
pub(crate) use list::list;
pub(crate) use logs::logs;
pub(crate) use one::{delete, get};

// What utoipa's macro wrote beside the routes.
pub(crate) use create::__path_create;
pub(crate) use events::__path_events;
pub(crate) use extend::__path_extend;
pub(crate) use list::__path_list;
pub(crate) use logs::__path_logs;
pub(crate) use one::{__path_delete, __path_get};
