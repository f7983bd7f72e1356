package upgrade

import (
	"bufio"
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// The recorded sandboxes and snapshots of v0.1.
const (
	running      sandbox.ID = "25djlvq55uuq5uhebgdy" // came from the warm pool, with a lifetime
	pausing      sandbox.ID = "66pisynagdihh4ofwalt" // a fork of running; the agent was killed amid its pause
	paused       sandbox.ID = "6epu7zke6lgij4afr7eq" // has an environment variable and resumes by itself
	fromSnapshot sandbox.ID = "cqy36ggovdxa3uavgeh4" // made from named, then paused
	creating     sandbox.ID = "kacmalmm5epmvlisd4rk" // the agent was killed amid its create
	destroyed    sandbox.ID = "q2tplbuntpccwnoea2ex" // only the database knows it
	warm         sandbox.ID = "rvg556we4rzflrcs7evb" // a warm clone that waited in the pool
	building     sandbox.ID = "n27dojhsz6ddup3ak2hr" // booted to become the template snapshot of creating

	named  sandbox.SnapshotID = "pkhfydbiwq5mv3jqgto4" // a snapshot of running, named "ready"
	forked sandbox.SnapshotID = "bam6wmqiu7wubzsmbpsu" // served the fork, and is deleted
)

// recordedDir is where the recorded agent had its data.
const recordedDir = "/var/lib/wrenn-v0.1/host"

// layDown makes dir a copy of the recorded data directory of v0.1.
func layDown(t *testing.T, dir string) {
	t.Helper()
	source := filepath.Join("testdata", "v0.1", "host")
	err := filepath.WalkDir(source, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(source, path)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		target := filepath.Join(dir, rel)
		if err := os.MkdirAll(filepath.Dir(target), 0o711); err != nil {
			return err
		}
		return os.WriteFile(target, bytes.ReplaceAll(data, []byte(recordedDir), []byte(dir)), 0o600)
	})
	check(t, err)
	layDownLarge(t, dir)
}

// layDownLarge makes sparse files of the recorded sizes and times, by which a
// snapshot's memory and disk are recognised.
func layDownLarge(t *testing.T, dir string) {
	t.Helper()
	list, err := os.Open(filepath.Join("testdata", "v0.1", "large.txt"))
	check(t, err)
	defer list.Close()
	files := 0
	for lines := bufio.NewScanner(list); lines.Scan(); {
		var size, modified int64
		var name string
		if n, _ := fmt.Sscanf(lines.Text(), "%d %d %s", &size, &modified, &name); n != 3 {
			continue // a comment
		}
		path := filepath.Join(dir, name)
		check(t, os.WriteFile(path, nil, 0o600))
		check(t, os.Truncate(path, size))
		at := time.Unix(0, modified)
		check(t, os.Chtimes(path, at, at))
		files++
	}
	if files == 0 {
		t.Fatal("large.txt names no file")
	}
}

// content returns the name, size and time of each file below dir.
func content(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	check(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "lock" {
			return err
		}
		st, err := d.Info()
		if err == nil {
			files[path] = fmt.Sprint(st.Size(), st.ModTime())
		}
		return err
	}))
	return files
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
