# Writes what `docker save` does: an image of programs of this machine whose entrypoint is the script
# `entry`. Usage: sh image.sh FOLDER ENTRY; the archive is FOLDER/image.tar.
set -eu
mkdir -p "$1/image" "$1/base/usr/bin" "$1/base/etc"
cp "$2" "$1/base/entry"
cd "$1"
chmod 755 base/entry
ln -s usr/bin base/bin
for name in sh id ls stty sleep cat; do
  program=$(command -v "$name") && cp -L "$program" base/usr/bin/
  for file in $(ldd "$program" | grep -o '/[^ ]*'); do
    mkdir -p "base${file%/*}" && cp -Lf "$file" "base$file"
  done
done
tar -C base -cf image/base.tar .
cat >image/config.json <<'JSON'
{"os": "linux", "config": {"User": "1000", "WorkingDir": "/",
 "Env": ["PATH=/usr/bin:/bin"], "Entrypoint": ["/entry"], "Cmd": ["by", "default"]}}
JSON
cat >image/manifest.json <<'JSON'
[{"Config": "config.json", "RepoTags": ["r.example/entry:1"], "Layers": ["base.tar"]}]
JSON
tar -C image -cf image.tar manifest.json config.json base.tar
