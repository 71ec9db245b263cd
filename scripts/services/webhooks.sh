#!/usr/bin/env bash
# The Python libraries of webhook senders and receivers, pinned: standardwebhooks, svix, stripe and
# slack_sdk sign the requests of tests. No server: it only installs. `webhooks/` has the versions.
#
# DIR/env: WEBHOOK_TOOLS, a folder with bin/python
. "$(dirname "$0")/_lib.sh"
PINS="$HERE/webhooks"
TOOLS="$CACHE/webhooks-$(sha256sum "$PINS/requirements.txt" | cut -c1-12)"

do_install() {
  [ -f "$TOOLS/.complete" ] && return 0
  rm -rf "$TOOLS"
  python3 -m venv "$TOOLS" 2>/dev/null || { rm -rf "$TOOLS"; apt_install python3-venv; python3 -m venv "$TOOLS"; }
  log "installing libraries of webhook senders (60 MB)"
  "$TOOLS/bin/pip" install -q --disable-pip-version-check --only-binary :all: -r "$PINS/requirements.txt" || die "pip failed"
  touch "$TOOLS/.complete"
}

do_start() {
  with_lock webhooks do_install
  echo "WEBHOOK_TOOLS=$TOOLS" | tee "$1/env"
}

do_stop() { :; }

main "$@"
