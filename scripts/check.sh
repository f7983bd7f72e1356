#!/bin/bash
# Everything a change must pass. Each step says what it is; the first that
# fails ends the run.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
scripts/setup.sh --test
use_go

step() { say "== $*"; }

step "generated code is what its sources say"
make generate
git diff --exit-code --stat -- api/gen internal/control/postgres ||
	die "generated code differs from what is committed: run 'make generate' and commit the result"

step "gofmt"
unformatted=$(git ls-files -z -- '*.go' | xargs -0 gofmt -l)
[ -z "$unformatted" ] || die "not formatted: $unformatted"

step "shellcheck"
git ls-files -z -- '*.sh' .ci/run | xargs -0 shellcheck -x

step "go vet"
go vet ./...
(cd tools && go vet ./...)

step "staticcheck"
go tool -modfile=tools/go.mod staticcheck ./...

# Examples in documentation are called by nobody. -test counts calls by tests.
step "deadcode"
unreachable=$(go tool -modfile=tools/go.mod deadcode -test ./... | grep -v 'unreachable func: Example' || true)
[ -z "$unreachable" ] || die "nothing calls these functions, remove them: $unreachable"

step "import law"
go test -count=1 ./internal/law

# govulncheck ends with 3 when it found something, and with another number
# when it could not look, as on a machine that does not reach its database.
step "govulncheck"
status=0
timeout 300 go tool -modfile=tools/go.mod govulncheck ./... || status=$?
case $status in
0) ;;
3) die "there are known vulnerabilities in what the product calls" ;;
*) say "govulncheck: NOT CHECKED. The vulnerability database could not be read from here (status $status)." ;;
esac

step "generated clients, schemathesis"
scripts/clients.sh

step "tests"
scripts/test.sh
