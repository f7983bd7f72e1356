// Package crashpoints keeps docs/crash-points.md true: the table of each step of
// each operation of the host agent, with what the next agent does if the agent
// ends there, and the test that ends it there.
//
// It holds data and a test only. The test fails when a step has no row, when a
// row names no step, and when the document is stale; with -update it writes the
// document.
package crashpoints
