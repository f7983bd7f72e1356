// Package crashpoints keeps docs/crash-points.md true: the table of each step of
// each operation of the host agent, with the action of the next agent if the agent
// ends there, and the test that ends it there.
//
// The steps and their recoveries are the tables of package journal, which the
// agent itself follows. The test fails when an operation has no test that ends
// the agent at its steps, and when the document is stale; with -update it writes
// the document.
package crashpoints
