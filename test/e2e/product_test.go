package e2e

import "testing"

// TestProduct tests all uses of one server, several at once.
func TestProduct(t *testing.T) { testProduct(t, startUp(t)) }

// TestProductOnGVisor tests the same on a server that prefers gVisor.
func TestProductOnGVisor(t *testing.T) { testProduct(t, startGVisor(t)) }

func testProduct(t *testing.T, s *server) {
	t.Helper()
	t.Run("bad input", func(t *testing.T) { testBadInput(t, s) })
	for name, test := range map[string]func(*testing.T, *server){
		"create":         testCreate,
		"exec":           testExec,
		"files":          testFiles,
		"file tree":      testFileTree,
		"guest":          testGuest,
		"pause":          testPause,
		"fork":           testFork,
		"snapshots":      testSnapshots,
		"disk snapshots": testDiskSnapshots,
		"clocks":         testClocks,
		"auto-resume":    testAutoResume,
		"list":           testList,
		"endings":        testEndings,
		"contract":       testServedDocuments,
		"cli":            testCLI,
		"ports":          testPorts,
		"processes":      testProcesses,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, s)
		})
	}
}
