//! Weavers of images that `buildah` made and Debian's `docker-registry` serves.
//!
//! `LOOM_TEST_DEBIAN` names an archive of the files of a Debian; without it, that case is ignored.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test ends it")]

#[expect(dead_code, reason = "other suites need the rest of it")]
mod support;

#[path = "registry/server.rs"]
mod server;

use std::process::{Command, ExitCode};

use support::{Case, World, code, show, text};

const CASES: &[Case] = &[
    ("registry::sixty_layers", sixty_layers),
    ("registry::nothing_but_a_program", nothing_but_a_program),
    ("registry::another_c_library_and_busybox", as_alpine),
    ("registry::wants_a_login", wants_a_login),
    ("registry::a_helper_has_the_password", keychain),
    ("registry::a_mirror_has_what_is_not_its_own", mirror),
];
const DEBIAN: &[Case] =
    &[("registry::debian", debian), ("registry::root_installs_packages", root_installs_packages)];

fn main() -> ExitCode {
    let missing =
        ["docker-registry", "buildah", "busybox", "musl-gcc"].into_iter().filter(|name| !has(name));
    let missing: Vec<_> = missing.collect();
    if !missing.is_empty() {
        eprintln!("ignored, because these are not installed: {}", missing.join(", "));
        return support::main(&[], &[]);
    }
    let Some(_registry) = server::start() else { return ExitCode::FAILURE };
    if std::env::var_os("LOOM_TEST_DEBIAN").is_some() {
        return support::main(&[CASES, DEBIAN].concat(), &[]);
    }
    eprintln!("ignored {}, because LOOM_TEST_DEBIAN is not set", DEBIAN[0].0);
    support::main(CASES, &[])
}

fn has(program: &str) -> bool {
    let find = format!("command -v {program}");
    Command::new("sh").args(["-c", &find]).output().unwrap().status.success()
}

/// Makes a world whose user has signed in to the registry.
fn signed_in() -> (World, &'static str) {
    let world = World::new();
    let host = server::with_images();
    std::fs::create_dir_all(world.path("h/.docker")).unwrap();
    std::fs::write(world.path("h/.docker/config.json"), server::login(host)).unwrap();
    (world, host)
}

/// Runs a command in a weaver of this image to its end and returns what it said.
fn says(world: &World, image: &str, command: &[&str]) -> String {
    let output = world.run_with(&format!("new --local --rm --image {image} --"), command);
    assert_eq!(code(&output), 0, "{}", show(&output));
    text(&output.stdout)
}

fn sixty_layers() {
    let (world, host) = signed_in();
    let image = format!("{host}/layers:60");
    let looks = "cat /n; ls /d /d/gone; stat -c %h /d/kept /d/twin; stat -c %a /bin/busybox-setuid
        [ $(id -u) = $(/bin/busybox-setuid id -u) ] && echo nobody else";
    let said = says(&world, &image, &["sh", "-c", looks]);
    let words: Vec<_> = said.split_whitespace().collect();
    let found = "55 /d: 55 gone kept twin /d/gone: b 2 2 4755 nobody else";
    assert_eq!(words.join(" "), found);

    let images: serde_json::Value = serde_json::from_str(&world.ok("dev images --json")).unwrap();
    assert_eq!(images[0]["name"], image.as_str(), "{images}");
    let mut terminal = world.shell(&format!("new --local --rm --image {image}"));
    terminal.send("wc -l </n; exit\r");
    terminal.sees("\n1");
    assert_eq!(terminal.end(), 0);
}

/// No shell, no /etc, no folders: still a weaver.
fn nothing_but_a_program() {
    let (world, host) = signed_in();
    let image = format!("{host}/distroless:1");
    assert_eq!(says(&world, &image, &["/busybox", "id", "-u"]), "1000\n", "as every weaver");
    let id = world.idle(&format!("--image {image}"));
    let output = world.run_with(&format!("exec {id} --"), &["/busybox", "ls", "/run/loom"]);
    assert!(text(&output.stdout).contains("tools"), "{}", show(&output));
}

/// Alpine's own packages are not needed for what is different about it.
fn as_alpine() {
    let (world, host) = signed_in();
    let image = format!("{host}/musl:1");
    assert_eq!(says(&world, &image, &["tool"]), "musl finds 127.0.0.1\n");
    let mut terminal = world.shell(&format!("new --local --image {image}"));
    terminal.send("echo $PAGER ${PATH%%:*} $0; tool; cd; pwd; loom-host --version\r");
    for line in ["less /opt/tool /bin/sh", "musl finds 127.0.0.1", "/home/loom", "loom-host "] {
        terminal.sees(&format!("\n{line}"));
    }
    terminal.send("exit\r");
    assert_eq!(terminal.end(), 0);
}

fn wants_a_login() {
    let (world, host) = signed_in();
    std::fs::remove_file(world.path("h/.docker/config.json")).unwrap();
    let output = world.run(&format!("new --local --image {host}/distroless:1 -- /busybox true"));
    let said = text(&output.stderr);
    assert_eq!(code(&output), 255, "{said}");
    assert!(said.contains(host) && said.contains("docker login"), "{said}");
    world.is_empty();
    // It is read anew for each pull.
    std::fs::write(world.path("h/.docker/config.json"), server::login(host)).unwrap();
    assert_eq!(says(&world, &format!("{host}/distroless:1"), &["/busybox", "echo", "in"]), "in\n");
}

/// Passwords that docker keeps in a keychain are asked for there.
fn keychain() {
    let (world, host) = signed_in();
    let file = world.path("h/.docker/config.json");
    std::fs::write(file, serde_json::json!({"credHelpers": {host: "test"}}).to_string()).unwrap();
    let helper = format!(
        r#"mkdir h/bin && printf '%s\n' '#!/bin/sh' \
        '[ "$1 $(cat)" = "get {host}" ] || exit 1' \
        'echo "{{\"ServerURL\": \"{host}\", \"Username\": \"ada\", \"Secret\": \"secret\"}}"' >h/bin/docker-credential-test
        chmod +x h/bin/docker-credential-test"#
    );
    let made = Command::new("sh").args(["-c", &helper]).current_dir(world.path("")).status();
    assert!(made.unwrap().success());
    let mut start = world.command("dev --detach", &[]);
    let path = format!("{}:{}", world.path("h/bin").display(), std::env::var("PATH").unwrap());
    let start = start.env("PATH", path).output().unwrap();
    assert_eq!(code(&start), 0, "{}", show(&start));
    let image = format!("{host}/distroless:1");
    assert_eq!(says(&world, &image, &["/busybox", "echo", "opened"]), "opened\n");
}

fn mirror() {
    let (world, host) = signed_in();
    let mut start = world.command("dev --detach", &[]);
    let start = start.env("LOOM_REGISTRY_MIRROR", format!("r.example={host}")).output().unwrap();
    assert_eq!(code(&start), 0, "{}", show(&start));
    let said = says(&world, "r.example/distroless:1", &["/busybox", "echo", "mirrored"]);
    assert_eq!(said, "mirrored\n");
}

fn has_many_ids() -> bool {
    let own = Command::new("id").arg("-un").output().unwrap().stdout;
    let own = text(&own).trim().to_owned() + ":";
    let ranges = std::fs::read_to_string("/etc/subuid").unwrap_or_default();
    own == "root:" || ranges.lines().any(|line| line.starts_with(&own))
}

fn debian() {
    let (world, host) = signed_in();
    let look = "stat -c %u:%g:%a /etc/shadow; cat /etc/debian_version; dpkg --verify >/dev/null; dpkg-query -W bash | cut -c1-4";
    let said = says(&world, &format!("{host}/debian:12"), &["bash", "-c", look]);
    let (owner, said) = said.split_once('\n').unwrap();
    // An ordinary user's images have owners of their own where there are subordinate ids.
    assert_eq!(owner, if has_many_ids() { "0:42:640" } else { "1000:1000:640" });
    assert!(said.starts_with("12.") && said.ends_with("\nbash\n"), "{said}");
    let mut terminal = world.shell(&format!("new --local --rm --image {host}/debian:12"));
    terminal.send("perl -e 'print 6*7, qq(\\n)'; exit\r");
    terminal.sees("\n42");
    assert_eq!(terminal.end(), 0);
}

/// A package with a user of its own, a file for it, and a script that becomes it.
const PACKAGE: &str = r#"set -e
mkdir -p p/DEBIAN p/opt/tool && cd p
echo hello >opt/tool/file
printf 'Package: tool\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b.example>\nDescription: t\n' >DEBIAN/control
printf '#!/bin/sh\nset -e\nuseradd --system tooluser\nchown tooluser: /opt/tool/file\nchmod 600 /opt/tool/file\n' >DEBIAN/postinst
chmod 755 DEBIAN/postinst && cd ..
dpkg-deb --build p /tmp/tool.deb >/dev/null
apt-get install --yes --quiet /tmp/tool.deb >/tmp/log 2>&1 || { cat /tmp/log; exit 9; }
id -u; stat -c %U:%a /opt/tool/file; su tooluser -s /bin/sh -c 'id -un; cat /opt/tool/file'
dpkg --purge tool >/dev/null && echo purged
mount -t tmpfs none /mnt 2>/dev/null || echo no mounts
"#;

fn root_installs_packages() {
    let (world, host) = signed_in();
    let line = format!("new --local --rm --root --image {host}/debian:12 -- bash -c");
    let output = world.run_with(&line, &[PACKAGE]);
    if !has_many_ids() {
        assert_ne!(code(&output), 0, "one id cannot be two users");
        return;
    }
    assert_eq!(code(&output), 0, "{}", show(&output));
    let said = "0\ntooluser:600\ntooluser\nhello\npurged\nno mounts\n";
    assert_eq!(text(&output.stdout), said, "{}", show(&output));
}
