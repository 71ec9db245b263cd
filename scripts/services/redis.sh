#!/usr/bin/env bash
# Redis from Debian's packages, without persistence: what it knows is gone with its process.
#
# DIR/env: REDIS_URL
. "$(dirname "$0")/_lib.sh"

do_install() { command -v redis-server >/dev/null || apt_install redis-server; }

ready() {
  timeout 1 bash -c 'exec 3<>/dev/tcp/127.0.0.1/$0 && printf "PING\r\n" >&3 && read -r line <&3 && [[ $line == +PONG* ]]' "$1"
}

do_start() {
  local dir="$1" port="$2"
  command -v redis-server >/dev/null || with_lock "$SERVICE" do_install
  if ! alive "$dir"; then
    port_free "$port"
    spawn "$dir" redis-server --port "$port" --bind 127.0.0.1 --dir "$dir" --daemonize no --save "" --appendonly no
  fi
  wait_ready 10 "$dir" ready "$port"
  echo "REDIS_URL=redis://127.0.0.1:$port/" | tee "$dir/env"
}

do_stop() { stop_server "$1" TERM 10; }

main "$@"
