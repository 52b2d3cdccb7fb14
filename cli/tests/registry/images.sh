# Builds images with buildah and pushes them. Usage: sh images.sh REGISTRY FOLDER [DEBIAN.tar]; the
# folder holds auth.json.
set -eu
to=$1
cd "$2"
images() { buildah --root "$PWD/storage" --runroot "$PWD/run" --storage-driver vfs "$@"; }
# buildah's crun sometimes cannot seal its copy in memory, for pages that the kernel holds a moment
# ("Close_Fd sealing memfd copy"): then it is run again, and goes on where it was.
build() {
  for _ in 1 2 3 4 5; do
    images bud --quiet --isolation chroot --layers --tag "$1" --file recipe context >/dev/null 2>said && return
    grep -q 'sealing memfd' said || break
  done
  cat said >&2
  return 1
}
image() {
  cat >recipe
  build "$to/$1"
  images push --quiet --authfile auth.json --tls-verify=false "$to/$1" "docker://$to/$1"
}
# Who is not root cannot remove them without the ids they were made with.
clean() { if [ "$(id -u)" = 0 ]; then rm -rf storage run; else buildah unshare rm -rf storage run; fi; }
trap clean EXIT
mkdir -p context
cp "$(command -v busybox)" context/busybox
cp "${3:-/dev/null}" context/debian.tar

{
  echo 'FROM scratch'
  echo 'COPY busybox /bin/busybox'
  echo 'RUN ["/bin/busybox", "--install", "/bin"]'
  echo 'RUN mkdir -p /d/gone && touch /d/gone/a /d/kept /d/removed && ln /d/kept /d/twin'
  echo 'RUN rm -r /d/gone /d/removed && mkdir /d/gone && touch /d/gone/b && cp /bin/busybox /bin/busybox-setuid && chmod 4755 /bin/busybox-setuid'
  for layer in $(seq 55); do echo "RUN echo $layer >/n && echo >/d/$layer && rm -f /d/$((layer - 1))"; done
} | image layers:60
# As Alpine: another C library, busybox for everything, and a profile that sets PATH anew.
cat >musl.c <<'END'
#include <netdb.h>
#include <stdio.h>
#include <arpa/inet.h>
int main(void) {
  struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *found;
  char text[INET_ADDRSTRLEN];
  if (getaddrinfo("localhost", 0, &hints, &found)) return 1;
  inet_ntop(AF_INET, &((struct sockaddr_in *)found->ai_addr)->sin_addr, text, sizeof text);
  return printf("musl finds %s\n", text) < 0;
}
END
musl-gcc -o context/tool musl.c
cp /lib/x86_64-linux-musl/libc.so context/libc.so
cat >context/profile <<'END'
export PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
export PAGER=less
umask 022
PS1='\h:\w\$ '
for script in /etc/profile.d/*.sh; do [ -r "$script" ] && . "$script"; done
unset script
END
{
  echo 'FROM scratch'
  echo 'COPY busybox /bin/busybox'
  echo 'RUN ["/bin/busybox", "--install", "-s", "/bin"]'
  echo 'COPY libc.so /lib/ld-musl-x86_64.so.1'
  echo 'COPY tool /opt/tool/tool'
  echo 'COPY profile /etc/profile'
  echo 'RUN mkdir /etc/profile.d /root /home && echo "root:x:0:0:root:/root:/bin/ash" >/etc/passwd && echo ID=alpine >/etc/os-release'
  echo 'ENV PATH=/opt/tool:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
  echo 'CMD ["/bin/sh"]'
} | image musl:1
printf 'FROM scratch\nCOPY busybox /busybox\nUSER 65532\nENTRYPOINT ["/busybox", "echo"]\n' | image distroless:1
[ $# -lt 3 ] || printf 'FROM scratch\nADD debian.tar /\nCMD ["bash"]\n' | image debian:12
