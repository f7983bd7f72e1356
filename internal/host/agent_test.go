package host_test

import "os"

// agentVariable makes the test binary a host agent.
const agentVariable = "WRENN_TEST_AGENT"

func runAgent() { os.Exit(2) }
