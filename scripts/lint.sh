#!/bin/bash
# Runs all checks of the source that are not tests. Each step is announced
# before it runs; the first failed step ends the run.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
scripts/setup.sh --test
use_go

step() { say "== $*"; }

# The generators and checks below read the packages that "make build" compiles, and those
# of the tests are the same: other flags would compile all of them once more.
export CGO_ENABLED=0 GOFLAGS="${GOFLAGS:+$GOFLAGS }-trimpath"

step "generated code matches its sources"
make generate
git diff --exit-code --stat -- api internal/control/postgres ||
	die "generated code differs from the committed code: run 'make generate' and commit the result"

step "gofmt"
unformatted=$(git ls-files -z -- '*.go' | xargs -0 gofmt -l)
[ -z "$unformatted" ] || die "not formatted: $unformatted"

step "shellcheck"
git ls-files -z -- '*.sh' .ci/run | xargs -0 shellcheck -x

step "build, which the embedded programs need before vet"
make build

step "go vet"
go vet ./...
(cd tools && go vet ./...)
(cd tools/benchplot && go vet ./...)

step "staticcheck"
go tool -modfile=tools/go.mod staticcheck ./...

# No code calls the examples in documentation. -test counts calls by tests.
step "deadcode"
unreachable=$(go tool -modfile=tools/go.mod deadcode -test ./... | grep -v 'unreachable func: Example' || true)
[ -z "$unreachable" ] || die "nothing calls these functions, remove them: $unreachable"

# govulncheck exits with 3 if it found a vulnerability, and with another number
# if it could not check, for example without access to its database.
step "govulncheck"
status=0
timeout 300 go tool -modfile=tools/go.mod govulncheck ./... || status=$?
case $status in
0) ;;
3) die "the product calls code with known vulnerabilities" ;;
*) say "govulncheck: NOT CHECKED. The vulnerability database could not be read from here (status $status)." ;;
esac
