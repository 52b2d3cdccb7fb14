//! Weavers of images that are not this machine's own.

use std::process::Command;

use crate::support::{Case, World, code, show, text, until};

pub(crate) const CASES: &[Case] = &[
    ("images::a_saved_image_is_loaded_lived_in_and_pruned", saved),
    ("images::what_is_no_image_is_refused", no_image),
    ("images::a_registry_that_is_not_there_is_named", no_registry),
];

/// Writes what `docker save` does: an image of two layers out of programs of this machine, with
/// what they are linked to.
const SAVE: &str = r#"set -eu
mkdir -p "$1/image" "$1/base/etc" "$1/base/usr/bin" "$1/top/opt/tool" && cd "$1"
ln -s usr/bin base/bin
for name in sh bash cat id ls stty sleep; do
  program=$(command -v "$name") && cp -L "$program" base/usr/bin/
  for file in $(ldd "$program" | grep -o '/[^ ]*'); do
    mkdir -p "base${file%/*}" && cp -Lf "$file" "base$file"
  done
done
printf 'root:x:0:0::/root:/bin/sh\ndev:x:1000:1000::/home/dev:/bin/bash\n' >base/etc/passwd
printf 'PATH=/usr/bin:/bin\nexport PATH\n' >base/etc/profile
printf 'lower\n' >base/etc/which
mkdir -p top/etc && printf 'upper\n' >top/etc/which
printf '#!/bin/sh\necho the tool of the image\n' >top/opt/tool/tool && chmod 755 top/opt/tool/tool
tar -C base -cf image/base.tar . && tar -C top -cf image/top.tar .
cat >image/config.json <<'JSON'
{"os": "linux", "config": {"User": "1000", "WorkingDir": "/opt",
 "Env": ["PATH=/opt/tool:/usr/bin:/bin", "OF_IMAGE=yes"], "Cmd": ["sh"]}}
JSON
cat >image/manifest.json <<'JSON'
[{"Config": "config.json", "RepoTags": ["r.example/box:1"], "Layers": ["base.tar", "top.tar"]}]
JSON
tar -C image -cf image.tar manifest.json config.json base.tar top.tar
"#;

fn save(world: &World) -> String {
    let mut shell = Command::new("sh");
    let output = shell.args(["-c", SAVE, "sh"]).arg(world.path("i")).output().unwrap();
    assert!(output.status.success(), "{}", show(&output));
    world.path("i/image.tar").display().to_string()
}

fn saved() {
    let world = World::new();
    let archive = save(&world);
    assert_eq!(world.ok(&format!("dev load {archive}")), "loaded r.example/box:1\n");
    assert!(world.ok("dev images").starts_with("r.example/box:1 "));
    let words = "cat /etc/which; id -u; echo $OF_IMAGE; tool; echo mine >/etc/which; exit 3";
    let output = world.run_with("new --local --rm --image r.example/box:1 -- sh -c", &[words]);
    let said = text(&output.stdout);
    assert_eq!(code(&output), 3, "{}", show(&output));
    assert!(said.starts_with("upper\n1000\nyes\nthe tool of the image\n"), "{said}");
    world.is_empty();

    let mut terminal = world.shell("new --local --image r.example/box:1");
    terminal.send("tool; stty size; cat /etc/which; loom-host --version; echo al''l\r");
    // The shell itself says the last: from then on Ctrl-D is for it, and detaches.
    for line in ["the tool of the image", "24 80", "upper", "loom-host ", "all"] {
        terminal.sees(&format!("\n{line}"));
    }
    terminal.send("\x04");
    assert_eq!(terminal.end(), 0);

    world.ok("dev prune");
    assert!(world.ok("dev images").starts_with("r.example/box:1 "), "a weaver shows it");
    world.ok(&format!("rm {}", world.only_id()));
    // The pod shows it until it has ended.
    until("it is pruned", || world.ok("dev prune").contains("removed images that no weaver shows"));
    assert_eq!(world.ok("dev images --json").trim(), "[]");
}

fn no_image() {
    let world = World::new();
    std::fs::write(world.path("text"), "no archive").unwrap();
    for name in ["text", "nothing"] {
        let path = world.path(name).display().to_string();
        let output = world.run(&format!("dev load {path}"));
        let said = text(&output.stderr);
        assert_eq!((code(&output), said.lines().count()), (1, 1), "{said}");
        assert!(said.starts_with("loom: ") && said.contains(&path), "{said}");
    }
    assert_eq!(world.ok("dev images"), "");
}

fn no_registry() {
    let world = World::new();
    // Nobody listens on port 1 of loopback.
    let output = world.run("new --local --image 127.0.0.1:1/box:1 -- true");
    let said = text(&output.stderr);
    assert_eq!(code(&output), 255, "{said}");
    assert!(said.contains("ErrImagePull: ") || said.contains("ImagePullBackOff: "), "{said}");
    assert!(said.contains("127.0.0.1:1") && said.contains("; deleted W-"), "{said}");
    world.is_empty();
}
