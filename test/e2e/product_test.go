package e2e

import "testing"

// TestProduct tests all uses of one server, several at once.
func TestProduct(t *testing.T) {
	s := startUp(t)
	t.Run("bad input", func(t *testing.T) { testBadInput(t, s) })
	for name, test := range map[string]func(*testing.T, *server){
		"create":      testCreate,
		"exec":        testExec,
		"files":       testFiles,
		"guest":       testGuest,
		"pause":       testPause,
		"fork":        testFork,
		"snapshots":   testSnapshots,
		"clocks":      testClocks,
		"auto-resume": testAutoResume,
		"list":        testList,
		"endings":     testEndings,
		"contract":    testServedDocuments,
		"cli":         testCLI,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, s)
		})
	}
}
