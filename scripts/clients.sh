#!/bin/bash
# Generates clients from api/openapi.yaml with the generators that people use,
# and compiles a program that creates, runs, reads and deletes with each:
# openapi-typescript, @hey-api/openapi-ts, openapi-python-client, oapi-codegen.
# Then schemathesis compares a server's behavior with the document.
#
# Lock files in test/clients pin the versions. Generated and downloaded files
# go below .cache/clients.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
use_go
export CGO_ENABLED=0 GOFLAGS="${GOFLAGS:+$GOFLAGS }-trimpath" # the packages are those that "make build" has compiled
root=$PWD
work=$root/.cache/clients

for tool in node npm python3; do
	command -v "$tool" >/dev/null || die "clients: $tool is missing; install it with: apt-get install nodejs npm python3 python3-venv"
done
node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 18 || a === 18 && b >= 18 ? 0 : 1)' ||
	die "clients: node $(node --version) is too old; the generators need 18.18 or later"
mkdir -p "$work"
cp -R test/clients/. "$work/"
cd "$work"

say "== generators for TypeScript"
cmp -s package-lock.json node_modules/.installed || { npm ci --silent && cp package-lock.json node_modules/.installed; }
mkdir -p generated
npx --no-install openapi-typescript "$root/api/openapi.yaml" --default-non-nullable false -o generated/fetch.d.ts
npx --no-install openapi-ts -i "$root/api/openapi.yaml" -o generated/sdk -c @hey-api/client-fetch --silent
npx --no-install tsc -p tsconfig.json

say "== generator for Python"
if ! cmp -s python/requirements.txt venv/.installed; then
	python3 -m venv venv || die "clients: python3 -m venv does not work; install python3-venv"
	venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r python/requirements.txt
	cp python/requirements.txt venv/.installed
fi
venv/bin/openapi-python-client generate --path "$root/api/openapi.yaml" --config python/config.yaml \
	--output-path python/generated --overwrite --meta none
(cd python && ../venv/bin/mypy --python-executable ../venv/bin/python --strict --follow-imports=silent program.py)

say "== generator for Go"
cd go
mkdir -p generated
go tool oapi-codegen -generate types,client -package generated -o generated/client.gen.go "$root/api/openapi.yaml"
go vet ./...
cd "$root"

say "== schemathesis"
WRENN_SCHEMATHESIS=$work/venv/bin/schemathesis go test -count=1 -timeout=10m ./internal/control/rest -run '^TestSchemathesis$'
