package law_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// pathInText matches a path of this repository between backquotes: at least
// one slash, and a first part that is one of the repository's directories.
var pathInText = regexp.MustCompile("`((?:api|bench|client|cmd|docs|internal|scripts|test|tools)/[A-Za-z0-9_./-]+)`")

// TestContributingNamesWhatExists: a newcomer who follows CONTRIBUTING.md
// must find each file and directory that it names.
func TestContributingNamesWhatExists(t *testing.T) {
	root := filepath.Join("..", "..")
	text, err := os.ReadFile(filepath.Join(root, "CONTRIBUTING.md"))
	if err != nil {
		t.Fatal(err)
	}
	paths := pathInText.FindAllStringSubmatch(string(text), -1)
	if len(paths) < 20 {
		t.Fatalf("only %d paths found in CONTRIBUTING.md: the pattern has lost its subject", len(paths))
	}
	for _, p := range paths {
		if _, err := os.Stat(filepath.Join(root, strings.TrimSuffix(p[1], "/"))); err != nil {
			t.Errorf("CONTRIBUTING.md names %s, which does not exist: name its new place", p[1])
		}
	}
}
