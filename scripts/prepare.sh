#!/bin/bash
# Prepares the parts of real sandboxes that tests use, unless they are there: the guest's
# kernel and templates, runsc, and the clients of E2B. It takes minutes, of which it waits
# many for the network. It needs bin/wrenn.
#
# WRENN_TEST_IMAGES is the directory of kernel and templates, as for scripts/test.sh. The
# clients go below .cache/compat.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
data=$(dirname "$WRENN_TEST_IMAGES")
say "== images in $WRENN_TEST_IMAGES"
as_root bin/wrenn image build --data-dir "$data" minimal code-interpreter-v1
WRENN_DATA_DIR=$data scripts/runsc.sh
say "clients of E2B: $(scripts/compat.sh --install)"
