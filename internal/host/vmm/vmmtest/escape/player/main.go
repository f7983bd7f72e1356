// Command player is a program for tests: a player of package escape in a file of its
// own, which needs no libraries.
package main

import (
	"os"

	"github.com/wrenn-dev/wrenn/internal/host/vmm/vmmtest/escape"
)

func main() {
	os.Args = os.Args[1:]
	escape.MaybeChild()
}
