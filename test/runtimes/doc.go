// Package runtimes finds out what a sandbox of each runtime can do, and compares that
// with the tables in docs/runtimes.md. The tables are written by these tests:
//
//	go test ./test/runtimes -update
//
// Package features has a probe for each feature; the program in probe runs them in a
// real sandbox.
package runtimes
