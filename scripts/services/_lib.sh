# Shared parts of the service scripts; sourced, not run.
#
# Every NAME.sh beside it takes:
#   install          idempotent, under a lock, seconds when cached
#   start DIR PORT   returns when the server answers; prints and writes DIR/env (KEY=value lines)
#   stop DIR         stops it by the process id recorded by start
#   status DIR       exit code 0 when it runs, 3 when it does not
#   env DIR          prints what start wrote
#
# DIR has the server's data: stop and start is a restart on the same data, kill -9 and start is a
# crash.
set -euo pipefail

HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
SERVICE="$(basename "$0" .sh)"
CACHE="${FOREBAY_SERVICES_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/forebay-services}"
mkdir -p "$CACHE"

log() { echo "[$SERVICE] $*" >&2; }
die() { log "error: $*"; exit 1; }
usage() { echo "usage: $(basename "$0") install | start DIR PORT | stop DIR | status DIR | env DIR" >&2; exit 2; }
absdir() { mkdir -p "$1" && (cd "$1" && pwd); }

# Installers may race: tests of several crates run at once.
with_lock() {
  local name="$1"; shift
  exec 9>"$CACHE/.lock-$name"
  flock 9
  "$@"
  flock -u 9
  exec 9>&-
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null 2>&1; then sudo -n "$@" || die "needs root (sudo without a password): $*"
  else die "needs root, and there is no sudo: $*"; fi
}

installed() { dpkg-query -W -f='${Status}' "$1" 2>/dev/null | grep -q 'install ok installed'; }

# apt_install PACKAGE...: does nothing if all are installed; refreshes the lists only if needed.
apt_install() {
  local package missing=() options=(-y -qq -o DPkg::Lock::Timeout=300 --no-install-recommends)
  for package in "$@"; do installed "$package" || missing+=("$package"); done
  [ ${#missing[@]} = 0 ] && return 0
  command -v apt-get >/dev/null 2>&1 || die "no apt-get here: install these yourself: ${missing[*]}"
  log "installing ${missing[*]}"
  exec 8>"$CACHE/.lock-apt"
  flock 8
  local install=(env DEBIAN_FRONTEND=noninteractive apt-get install "${options[@]}" "${missing[@]}")
  if ! as_root "${install[@]}" >"$CACHE/apt.log" 2>&1; then
    as_root apt-get update -qq >>"$CACHE/apt.log" 2>&1 || true
    as_root "${install[@]}" >>"$CACHE/apt.log" 2>&1 || { tail -20 "$CACHE/apt.log" >&2; die "apt-get install ${missing[*]} failed, see $CACHE/apt.log"; }
  fi
  flock -u 8
  exec 8>&-
}

# make_certificates DIR NAMES: a CA and a server certificate for these names (as in DNS:localhost)
# in DIR/tls, so that tests can verify and reject a server's certificate.
make_certificates() {
  local dir="$1" names="$2"
  [ -s "$dir/tls/server.crt" ] && return 0
  command -v openssl >/dev/null 2>&1 || apt_install openssl
  mkdir -p "$dir/tls"
  (
    cd "$dir/tls"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -subj "/CN=forebay test CA" \
      -addext "keyUsage=critical,keyCertSign,cRLSign" -keyout ca.key -out ca.crt
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=localhost" -keyout server.key -out server.csr
    printf 'subjectAltName=%s\nbasicConstraints=CA:FALSE\n' "$names" >extensions
    openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 365 -extfile extensions -out server.crt
  ) >"$dir/tls.log" 2>&1 || { cat "$dir/tls.log" >&2; die "making certificates failed"; }
  chmod 600 "$dir/tls/server.key"
}

# The kernel's start time of a process, which detects a reused process id.
start_time() { if [ -r "/proc/$1/stat" ]; then sed 's/.*) //' "/proc/$1/stat" | cut -d' ' -f20; else echo 0; fi; }

# spawn DIR COMMAND...: in a separate session, so that it outlives the shell that started it, and
# without the caller's pipes, so that a reader of our output gets an end of file.
spawn() {
  local dir="$1" pid; shift
  setsid "$@" >>"$dir/$SERVICE.log" 2>&1 </dev/null 8>&- 9>&- &
  pid=$!
  sleep 0.05
  echo "$pid $(start_time "$pid")" >"$dir/$SERVICE.pid"
  if [ -n "${FOREBAY_OWNER_PID:-}" ]; then watch_owner "$FOREBAY_OWNER_PID" "$pid"; fi
}

# With FOREBAY_OWNER_PID=<pid of the test run> the server stops when that process ends for any
# reason: a killed test run leaves no server running.
watch_owner() {
  setsid bash -c '
    start_time() { [ -r "/proc/$1/stat" ] && sed "s/.*) //" "/proc/$1/stat" | cut -d" " -f20; }
    owner=$(start_time "$1"); server=$(start_time "$2")
    while [ -n "$owner" ] && [ "$(start_time "$1")" = "$owner" ]; do
      [ "$(start_time "$2")" = "$server" ] || exit 0
      sleep 1
    done
    [ "$(start_time "$2")" = "$server" ] && kill -TERM "$2"
    for _ in $(seq 50); do [ "$(start_time "$2")" = "$server" ] || exit 0; sleep 0.1; done
    kill -KILL "$2"
  ' watcher "$1" "$2" >/dev/null 2>&1 </dev/null 8>&- 9>&- &
}

pid_of() { cut -d' ' -f1 "$1/$SERVICE.pid"; }

# alive DIR: whether the process recorded by start still runs.
alive() {
  local pid began
  [ -f "$1/$SERVICE.pid" ] || return 1
  read -r pid began <"$1/$SERVICE.pid" || return 1
  [ "$began" != 0 ] && [ "$(start_time "$pid")" = "$began" ] || return 1
  [ "$(awk '/^State/{print $2}' "/proc/$pid/status" 2>/dev/null)" != Z ]
}

# stop_server DIR SIGNAL SECONDS: a signal, time to obey it, then SIGKILL.
stop_server() {
  local dir="$1" signal="$2" seconds="$3" pid i
  if ! alive "$dir"; then rm -f "$dir/$SERVICE.pid"; return 0; fi
  pid="$(pid_of "$dir")"
  kill "-$signal" "$pid" 2>/dev/null || true
  for ((i = 0; i < seconds * 10; i++)); do alive "$dir" || break; sleep 0.1; done
  if alive "$dir"; then
    log "pid $pid did not go within $seconds s of SIG$signal: SIGKILL"
    kill -KILL "$pid" 2>/dev/null || true
    sleep 0.2
  fi
  rm -f "$dir/$SERVICE.pid"
  log "stopped"
}

# wait_ready SECONDS DIR CHECK...: polls; stops early if the process died.
wait_ready() {
  local seconds="$1" dir="$2" deadline; shift 2
  deadline=$((SECONDS + seconds))
  until "$@" >/dev/null 2>&1; do
    alive "$dir" || { tail -n 25 "$dir/$SERVICE.log" >&2; rm -f "$dir/$SERVICE.pid"; die "it died while starting, see $dir/$SERVICE.log"; }
    [ "$SECONDS" -lt "$deadline" ] || { tail -n 25 "$dir/$SERVICE.log" >&2; die "not ready after $seconds s, see $dir/$SERVICE.log"; }
    sleep 0.1
  done
  log "ready (pid $(pid_of "$dir"))"
}

tcp_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# A killed server may hold its port for a moment.
port_free() {
  local i
  for i in $(seq 30); do tcp_open "$1" || return 0; sleep 0.1; done
  die "port $1 is taken by another process"
}

# main ARGUMENTS: the five commands, with the functions do_install, do_start and do_stop of the script.
main() {
  case "${1:-}" in
    install) with_lock "$SERVICE" do_install ;;
    start) [ $# = 3 ] || usage; do_start "$(absdir "$2")" "$3" ;;
    stop) [ $# = 2 ] || usage; if [ -d "$2" ]; then do_stop "$(absdir "$2")"; fi ;;
    status)
      [ $# = 2 ] || usage
      if alive "$2"; then log "runs (pid $(pid_of "$2"))"; else log "does not run"; exit 3; fi ;;
    env) [ $# = 2 ] || usage; [ -f "$2/env" ] || die "$2 was never started"; cat "$2/env" ;;
    *) usage ;;
  esac
}
