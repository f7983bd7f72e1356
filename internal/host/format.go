package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/linux/durable"
)

// dataFormat is the version of everything that the agent keeps in its data
// directory: the names of files, journal records and snapshot manifests. It is
// raised with each change that an earlier agent would misread. Version 0, which
// has no format file, is that of Wrenn 0.1.
// Format 1 has directories with names of one letter, see newNames.
const dataFormat = 2

// maxFormatBytes bounds the format file, which holds one number.
const maxFormatBytes = 32

// claimFormat refuses a data directory of a newer version and marks one of an
// earlier version as this version's. It is called before anything else in the
// directory is read or changed, so that a refused directory stays as it is.
func claimFormat(l layout) error {
	have, err := readFormat(l.format())
	if err != nil {
		return err
	}
	if have > dataFormat {
		return journal.ErrNewerData(fmt.Sprintf("the data in %s has format %d", l.root, have), dataFormat)
	}
	if have == dataFormat {
		return renameDirectories(l)
	}
	if err := refuseNewerRecords(layoutOf(l.root)); err != nil {
		return err
	}
	tmp := l.format() + ".tmp"
	if err := os.WriteFile(tmp, fmt.Appendln(nil, dataFormat), 0o600); err != nil {
		return err
	}
	if err := errors.Join(durable.Sync(tmp), os.Rename(tmp, l.format())); err != nil {
		return err
	}
	if err := durable.Sync(l.root); err != nil {
		return err
	}
	return renameDirectories(l)
}

// refuseNewerRecords fails where a record is of a newer version than the
// directory that it lies in. Other faults are found when the records are used.
func refuseNewerRecords(l layout) error {
	entries, err := os.ReadDir(l.machines())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		_, err := journal.Read(filepath.Join(l.machines(), e.Name()))
		if fault.ReasonOf(err) == journal.ReasonDataNewer {
			return err
		}
	}
	return nil
}

// renameDirectories gives the directories of format 1 their present names. It
// comes after the format file, so that an agent that was cut off continues here,
// and an earlier version refuses the directory instead of taking it for an empty
// one. VM processes keep their open files, and their sockets move with their
// directories.
func renameDirectories(l layout) error {
	renamed := false
	for was, name := range newNames {
		from, to := filepath.Join(l.root, was), filepath.Join(l.root, name)
		if st, err := os.Lstat(from); errors.Is(err, os.ErrNotExist) || err == nil && st.Mode().IsRegular() {
			continue
		}
		if _, err := os.Lstat(to); !errors.Is(err, os.ErrNotExist) {
			return errors.Join(err, fmt.Errorf("%s and %s are both there; move one of them away", from, to))
		}
		if err := os.Rename(from, to); err != nil {
			return err
		}
		renamed = true
	}
	if err := blockOldAgents(l); err != nil || !renamed {
		return err
	}
	return durable.Sync(l.root)
}

// blockOldAgents puts a file where Wrenn 0.1, which knows no format, expects the
// directory of its sandboxes. With an empty directory there it would end every VM.
func blockOldAgents(l layout) error {
	path := filepath.Join(l.root, "s")
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.WriteFile(path, []byte("This data directory has a newer format than Wrenn 0.1 reads; see the file format.\n"), 0o600)
}

// layoutOf returns the layout of a data directory that may not be upgraded yet,
// for those who only read.
func layoutOf(root string) layout {
	l := layout{root: root}
	have, err := readFormat(l.format())
	if err != nil || have >= 2 {
		return l
	}
	_, err = os.Lstat(l.machines())
	l.old = errors.Is(err, os.ErrNotExist)
	return l
}

func readFormat(path string) (int, error) {
	st, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if st.Size() > maxFormatBytes {
		return 0, fmt.Errorf("%s has %d bytes; it must hold one number", path, st.Size())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	version, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || version < 0 {
		return 0, fmt.Errorf("%s holds %q; it must hold one number", path, data)
	}
	return version, nil
}
