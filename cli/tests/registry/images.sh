# Builds images with buildah and pushes them. Usage: sh images.sh REGISTRY FOLDER [DEBIAN.tar]; the
# folder holds auth.json.
set -eu
to=$1
cd "$2"
images() { buildah --root "$PWD/storage" --runroot "$PWD/run" --storage-driver vfs "$@"; }
image() {
  images bud --quiet --isolation chroot --layers --tag "$to/$1" --file - . >/dev/null
  images push --quiet --authfile auth.json --tls-verify=false "$to/$1" "docker://$to/$1"
}
# Who is not root cannot remove them without the ids they were made with.
clean() { if [ "$(id -u)" = 0 ]; then rm -rf storage run; else buildah unshare rm -rf storage run; fi; }
trap clean EXIT
cp "$(command -v busybox)" busybox
cp "${3:-/dev/null}" debian.tar

{
  echo 'FROM scratch'
  echo 'COPY busybox /bin/busybox'
  echo 'RUN ["/bin/busybox", "--install", "/bin"]'
  echo 'RUN mkdir -p /d/gone && touch /d/gone/a /d/kept /d/removed && ln /d/kept /d/twin'
  echo 'RUN rm -r /d/gone /d/removed && mkdir /d/gone && touch /d/gone/b && cp /bin/busybox /bin/busybox-setuid && chmod 4755 /bin/busybox-setuid'
  for layer in $(seq 55); do echo "RUN echo $layer >/n && echo >/d/$layer && rm -f /d/$((layer - 1))"; done
} | image layers:60
printf 'FROM scratch\nCOPY busybox /busybox\nUSER 65532\nENTRYPOINT ["/busybox", "echo"]\n' | image distroless:1
[ $# -lt 3 ] || printf 'FROM scratch\nADD debian.tar /\nCMD ["bash"]\n' | image debian:12
