package crashpoints

import "github.com/wrenn-dev/wrenn/internal/host/journal"

const killed = "TestCoreKilledAtEveryStep/"

// tests names, for each operation, the test that ends the agent at each of its
// steps. The step's name is the last part of the test's.
var tests = map[string]string{
	journal.OpTemplate: killed + "template_build",
	journal.OpPool:     "TestCoreRefill",
	journal.OpCreate:   killed + "create",
	journal.OpAssign:   killed + "create_from_the_pool",
	journal.OpPause:    killed + "pause",
	journal.OpResume:   killed + "resume",
	journal.OpSnapshot: killed + "snapshot",
	journal.OpEgress:   killed + "egress",
	journal.OpDestroy:  killed + "destroy",
}
