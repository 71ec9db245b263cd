#!/usr/bin/env bash
# Chromium from Debian's packages, and the modules that drive it: for the tests of the dashboard,
# which start it themselves. No server: it only has `install`, and `path`, which prints the location.
. "$(dirname "$0")/_lib.sh"

do_install() {
  command -v chromium >/dev/null || apt_install chromium
  # Tests also run the commands that the dashboard shows.
  command -v curl >/dev/null || apt_install curl
  { command -v node && command -v npm; } >/dev/null || apt_install nodejs npm
  "$HERE/../../ui/install"
}

case "${1:-}" in
  install) with_lock "$SERVICE" do_install ;;
  path) command -v chromium ;;
  *) echo "usage: $(basename "$0") install | path" >&2; exit 2 ;;
esac
