#!/usr/bin/env bash
# promtool from Debian's package of Prometheus, extracted and not installed: the package would start
# a server. No server here: it only has `install`, and `path`, which prints the location.
. "$(dirname "$0")/_lib.sh"

TOOL="$CACHE/prometheus/usr/bin/promtool"

do_install() {
  [ -x "$TOOL" ] && return 0
  command -v apt-get >/dev/null 2>&1 || die "no apt-get here: put promtool into PATH"
  local dir
  dir="$(mktemp -d "$CACHE/prometheus.XXXXXX")"
  (cd "$dir" && { apt-get download -qq prometheus || { as_root apt-get update -qq && apt-get download -qq prometheus; }; }) >/dev/null 2>&1 \
    || die "apt-get download prometheus failed"
  dpkg -x "$dir"/prometheus_*.deb "$dir/root"
  rm -rf "$CACHE/prometheus"
  mv "$dir/root" "$CACHE/prometheus"
  rm -rf "$dir"
}

case "${1:-}" in
  install) command -v promtool >/dev/null || with_lock "$SERVICE" do_install ;;
  path) command -v promtool || echo "$TOOL" ;;
  *) echo "usage: $(basename "$0") install | path" >&2; exit 2 ;;
esac
