// Package law holds the tests of the project's own rules: the imports that each
// package may have, and that each package has a doc comment.
//
// Nothing imports it. The tests read the source with go/parser: `go list` would
// let the test cache hide a violation.
package law
