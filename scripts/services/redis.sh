#!/usr/bin/env bash
# Redis from Debian's packages, without persistence: its data is lost with the process.
#
# Uses the ports PORT and, with TLS, PORT+12.
#
# DIR/env: REDIS_URL, REDIS_TLS_URL, REDIS_CA
. "$(dirname "$0")/_lib.sh"

do_install() { command -v redis-server >/dev/null || apt_install redis-server; }

ready() {
  timeout 1 bash -c 'exec 3<>/dev/tcp/127.0.0.1/$0 && printf "PING\r\n" >&3 && read -r line <&3 && [[ $line == +PONG* ]]' "$1"
}

do_start() {
  local dir="$1" port="$2" tls_port=$(($2 + 12))
  command -v redis-server >/dev/null || with_lock "$SERVICE" do_install
  if ! alive "$dir"; then
    port_free "$port"
    port_free "$tls_port"
    make_certificates "$dir" DNS:localhost,IP:127.0.0.1
    spawn "$dir" redis-server --port "$port" --bind 127.0.0.1 --dir "$dir" --daemonize no --save "" --appendonly no \
      --tls-port "$tls_port" --tls-cert-file "$dir/tls/server.crt" --tls-key-file "$dir/tls/server.key" \
      --tls-ca-cert-file "$dir/tls/ca.crt" --tls-auth-clients no
  fi
  wait_ready 10 "$dir" ready "$port"
  printf 'REDIS_URL=redis://127.0.0.1:%s/\nREDIS_TLS_URL=rediss://127.0.0.1:%s/\nREDIS_CA=%s\n' \
    "$port" "$tls_port" "$dir/tls/ca.crt" | tee "$dir/env"
}

do_stop() { stop_server "$1" TERM 10; }

main "$@"
