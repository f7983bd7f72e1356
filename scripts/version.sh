#!/bin/bash
# Prints the version of this tree: that of the tag at this commit, or the last
# tag with the number of commits since and the commit. Without tags it is the
# latest version in CHANGELOG.md with the commit; without git, with "unknown".
set -euo pipefail
cd "$(dirname "$0")/.."
git=(git -c safe.directory='*')
if "${git[@]}" describe --tags --match 'v[0-9]*' --dirty 2>/dev/null; then
	exit
fi
latest=$(sed -n 's/^## \[\([0-9][^]]*\)\].*/\1/p' CHANGELOG.md | head -n 1)
commit=$("${git[@]}" describe --always --dirty --exclude '*' 2>/dev/null || echo unknown)
printf 'v%s-dev+%s\n' "${latest:-0.0.0}" "$commit"
