#!/bin/sh
# Installs what the end-to-end tests run beside Veza, as far as it is missing. `make test` calls it.
set -eu

missing=
need() { # PACKAGE FILE...: the package is missing unless one of the files is there
    package=$1
    shift
    for file in "$@"; do
        [ -e "$file" ] && return
    done
    missing="$missing $package"
}
need postgresql /usr/lib/postgresql/*/bin/initdb
need redis-server /usr/bin/redis-server
need nginx-light /usr/sbin/nginx
need libnginx-mod-rtmp /usr/lib/nginx/modules/ngx_rtmp_module.so
need ffmpeg /usr/bin/ffmpeg
need chromium /usr/bin/chromium
need unzip /usr/bin/unzip
need libarchive-tools /usr/bin/bsdtar
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
    echo "the end-to-end tests need these Debian packages; install them, or run this as root:$missing" >&2
    exit 1
fi

# Debian starts services as it installs them. The tests start their own, so while this runs none may be started
# (/usr/share/doc/init-system-helpers/README.policy-rc.d.gz); a policy that is there already is its owner's.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
fi
apt-get update -qq
# shellcheck disable=SC2086 # a list of packages
DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends $missing
