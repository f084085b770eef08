#!/usr/bin/env bash
# Tries the set-up and the demo where nothing is installed: a bare Debian in a folder of its own. Needs root and debootstrap.
#
#   sudo bash run/try_bare.sh [FOLDER]      FOLDER is made, and removed at the end; default: /tmp/bare
#
# Apt's sources, pip's configuration, the certificates and the folder in PIP_FIND_LINKS are those of the running system.
#
#   SUITE    the release to try                               default: the running system's
#   MIRROR   where to take it from                            default: the first of apt's sources
#   KEEP=1   leave FOLDER mounted, to look around in it       then: umount FOLDER/{opt/site-wheels,dev/{shm,pts},dev,sys,proc}; rm -rf --one-file-system FOLDER
set -euo pipefail
source_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
bare="$(realpath -m "${1:-/tmp/bare}")"
[ "$(id -u)" = 0 ] || { echo "try_bare: wants root, to make a root folder and enter it" >&2; exit 2; }
[ ! -e "$bare" ] || { echo "try_bare: $bare is there already; name another folder" >&2; exit 2; }
command -v debootstrap >/dev/null || { echo "try_bare: wants debootstrap" >&2; exit 2; }
suite="${SUITE:-$(. /etc/os-release && echo "$VERSION_CODENAME")}"
mirror="${MIRROR:-$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources} 2>/dev/null \
    | grep -E '^(deb|URIs:) ' | grep -oE "https?://[^ ]+" | head -1 || true)}"

remove() {
    if [ -n "${KEEP:-}" ]; then echo "kept: $bare"; return; fi
    for each in opt/site-wheels dev/shm dev/pts dev sys proc; do
        if mountpoint -q "$bare/$each"; then umount "$bare/$each"; fi
    done
    # What is still mounted there belongs to the running system.
    if grep -qF " $bare/" /proc/mounts; then echo "try_bare: still mounted below $bare: not removed" >&2; return; fi
    rm -rf --one-file-system "$bare"
}
trap remove EXIT
trap 'exit 130' INT TERM

# --- a bare system with this one's way to the registries
debootstrap --variant=minbase "$suite" "$bare" "$mirror" >"/tmp/try_bare.$$" || { tail -20 "/tmp/try_bare.$$" >&2; exit 1; }
rm "/tmp/try_bare.$$"
rm -rf "$bare/etc/apt"
cp -a /etc/apt "$bare/etc/apt"
mkdir -p "$bare/usr/share/keyrings" "$bare/root/.config" "$bare/etc/ssl" "$bare/opt/site-wheels" "$bare/checkout/elsewhere"
cp -a /usr/share/keyrings/. "$bare/usr/share/keyrings/"
cp -L /etc/resolv.conf /etc/hosts "$bare/etc/"
cp /etc/ssl/certs/ca-certificates.crt "$bare/etc/ssl/site.crt"
[ ! -e /etc/pip.conf ] || cp /etc/pip.conf "$bare/etc/"
[ ! -d ~/.config/pip ] || cp -a ~/.config/pip "$bare/root/.config/"
mount -t proc proc "$bare/proc"
mount -t sysfs sysfs "$bare/sys"
mount --bind /dev "$bare/dev"
mount --make-private "$bare/dev"
mount --bind /dev/pts "$bare/dev/pts"
mount -t tmpfs tmpfs "$bare/dev/shm"
site=(PIP_CERT=/etc/ssl/site.crt SSL_CERT_FILE=/etc/ssl/site.crt)
if [ -d "${PIP_FIND_LINKS:-}" ]; then
    mount --bind "$PIP_FIND_LINKS" "$bare/opt/site-wheels"
    mount -o remount,bind,ro "$bare/opt/site-wheels"
    site+=(PIP_FIND_LINKS=/opt/site-wheels)
fi
mapfile -t -O "${#site[@]}" site < <(env | grep -E '^(PIP_|https?_proxy|HTTPS?_PROXY|no_proxy|NO_PROXY)' | grep -vE '^PIP_(CERT|FIND_LINKS)=')

within() { chroot "$bare" env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 "${site[@]}" "$@"; }
clone() {  # clone NAME: what is committed, and what is not yet
    git clone -q "$source_root" "$bare/checkout/$1"
    git -C "$source_root" ls-files -z --cached --others --exclude-standard \
        | tar -C "$source_root" --ignore-failed-read --null -T - -cf - 2>/dev/null | tar -C "$bare/checkout/$1" -xf -
}
timed() {  # timed WHAT COMMAND...: from another working directory, with nothing to read
    local what="$1" start; shift
    start="$(date +%s)"
    echo "== $what"
    within bash -c 'cd /checkout/elsewhere && exec "$@"' - "$@" </dev/null
    figures+=("$(printf '%-42s %5d s' "$what" "$(($(date +%s) - start))")")
}

figures=()
clone first
timed "set-up of a bare machine" bash /checkout/first/run/setup.sh
timed "set-up again" bash /checkout/first/run/setup.sh
clone second
timed "set-up of a second clone, wheels kept" bash /checkout/second/run/setup.sh
timed "demo" bash /checkout/second/run/demo.sh
timed "demo again" bash /checkout/second/run/demo.sh
printf '%s\n' "${figures[@]}"
