#!/usr/bin/env bash
# PostgreSQL from Debian's packages, a temporary cluster in DIR/data, with TLS by its own CA.
#
# PG_DURABLE=1     fsync on, for tests of crashes (off by default: tests are about ten times faster)
# PG_USER=nobody   its user when this script is run by root, which the server rejects
#
# DIR/env: DATABASE_URL, and PGSSLROOTCERT, the CA's certificate (it is valid for 127.0.0.1 and
# localhost).
. "$(dirname "$0")/_lib.sh"
PG_USER="${PG_USER:-nobody}"

# The newest installed version.
bin() { ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1; }

as_server=()
if [ "$(id -u)" = 0 ]; then
  as_server=(setpriv --reuid "$PG_USER" --regid "$(id -g "$PG_USER")" --clear-groups env HOME=/nonexistent)
fi

do_install() {
  if [ -z "$(bin)" ]; then
    # Before installing the server's package: keep it from creating and starting a cluster.
    apt_install postgresql-common
    as_root sed -i 's/^#\?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
    apt_install postgresql
  fi
  command -v openssl >/dev/null 2>&1 || apt_install openssl
  make_template
}

# initdb takes seconds, unpacking its result does not.
template() { echo "$CACHE/postgres-$(basename "$(dirname "$(bin)")")-v2.tar"; }

make_template() {
  [ -s "$(template)" ] && return 0
  local dir
  dir="$(mktemp -d)"
  chmod 711 "$dir"
  mkdir -m 700 "$dir/data"
  if [ "$(id -u)" = 0 ]; then chown "$PG_USER" "$dir/data"; fi
  (cd / && "${as_server[@]}" "$(bin)/initdb" -D "$dir/data" -U forebay -A trust -E UTF8 --locale=C --no-sync --no-instructions) \
    >"$dir/initdb.log" 2>&1 || { cat "$dir/initdb.log" >&2; die "initdb failed"; }
  # All users are trusted, except members of a role that tests create.
  sed -i '1i host all +password_users 127.0.0.1/32 scram-sha-256' "$dir/data/pg_hba.conf"
  tar -C "$dir" -cf "$(template).$$" data
  mv "$(template).$$" "$(template)"
  rm -rf "$dir"
}

ready() { "$(bin)/pg_isready" -q -h 127.0.0.1 -p "$1" -U forebay -d postgres; }

# Directories that the server's user must own or enter. Our temporary directory is closed to others.
open_folder() {
  local dir="$1"
  [ "$(id -u)" = 0 ] || return 0
  chmod a+x "$dir" "$dir/tls"
  chown "$PG_USER" "$dir/tls/server.key" "$dir/tls/server.crt"
  (cd / && "${as_server[@]}" test -x "$dir") || die "the user $PG_USER can't enter $dir: choose a folder that is not below a closed one (such as /root)"
}

# After a kill the lock file has the id of an ended process, or of a zombie, which the server treats
# as alive. The other processes of the old server must have ended before.
clear_lock() {
  local data="$1/data" pid i cwd
  [ -f "$data/postmaster.pid" ] || return 0
  for i in $(seq 50); do
    cwd="$(for p in /proc/[0-9]*; do readlink "$p/cwd" || true; done 2>/dev/null)"
    grep -qx "$data" <<<"$cwd" || break
    sleep 0.1
  done
  pid="$(head -1 "$data/postmaster.pid")"
  if [ "$(awk '/^State/{print $2}' "/proc/$pid/status" 2>/dev/null)" = Z ]; then rm -f "$data/postmaster.pid"; fi
}

do_start() {
  local dir="$1" port="$2" sync=off
  if [ -z "$(bin)" ] || [ ! -s "$(template)" ] || ! command -v openssl >/dev/null 2>&1; then
    with_lock "$SERVICE" do_install
  fi
  if ! alive "$dir"; then
    port_free "$port"
    make_certificates "$dir" DNS:localhost,IP:127.0.0.1
    open_folder "$dir"
    if [ ! -f "$dir/data/PG_VERSION" ]; then
      tar -C "$dir" -xpf "$(template)"
      if [ "$(id -u)" = 0 ]; then chown -R "$PG_USER" "$dir/data"; fi
    fi
    clear_lock "$dir"
    if [ "${PG_DURABLE:-}" = 1 ]; then sync=on; fi
    cd /
    spawn "$dir" "${as_server[@]}" "$(bin)/postgres" -D "$dir/data" -p "$port" \
      -c listen_addresses=127.0.0.1 -c unix_socket_directories= \
      -c ssl=on -c ssl_cert_file="$dir/tls/server.crt" -c ssl_key_file="$dir/tls/server.key" \
      -c fsync=$sync -c synchronous_commit=$sync -c full_page_writes=$sync \
      -c shared_buffers=32MB -c max_connections=100 -c logging_collector=off
  fi
  wait_ready 30 "$dir" ready "$port"
  printf 'DATABASE_URL=postgres://forebay@127.0.0.1:%s/postgres\nPGSSLROOTCERT=%s\n' "$port" "$dir/tls/ca.crt" | tee "$dir/env"
}

# INT is PostgreSQL's fast shutdown; TERM would wait for clients.
do_stop() { stop_server "$1" INT 20; }

main "$@"
