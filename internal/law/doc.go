// Package law holds the tests that keep the house in order: which package may
// import which, and that each one says what it is for.
//
// Nothing imports it. The tests read the source with go/parser: `go list` would
// let the test cache hide a violation.
package law
