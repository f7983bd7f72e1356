// Package dockerfile turns the text of a Dockerfile into the plan of a build.
//
// It reads text with BuildKit's parser and knows no sandbox. The package templates calls
// it; it does no I/O.
package dockerfile
