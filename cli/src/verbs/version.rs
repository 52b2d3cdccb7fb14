//! `loom version`.

use serde::Serialize;

use crate::failure::Failure;
use crate::out;

#[derive(Serialize)]
struct Version {
    version: &'static str,
    os: &'static str,
    arch: &'static str,
}

pub(crate) fn run(json: bool) -> Result<u8, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    if json {
        let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
        out::print_json(&Version { version, os, arch })?;
    } else {
        out::print(&format!("loom {version}\n"))?;
    }
    Ok(0)
}
