// Package runtimes finds out the abilities of a sandbox of each runtime, and compares them
// with the tables in docs/runtimes.md. The tables are written by these tests:
//
//	go test ./test/runtimes -update
//
// Package features has a probe for each feature; the program in probe runs them in a
// real sandbox.
package runtimes
