package host

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/linux/durable"
)

// dataFormat is the version of everything that the agent keeps in its data
// directory: the names of files, journal records and snapshot manifests. It is
// raised with each change that an earlier agent would misread. Version 0, which
// has no format file, is that of Wrenn 0.1.
const dataFormat = 1

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
		return errNewerData(fmt.Sprintf("the data in %s has format %d", l.root, have), dataFormat)
	}
	if have == dataFormat {
		return nil
	}
	tmp := l.format() + ".tmp"
	if err := os.WriteFile(tmp, fmt.Appendln(nil, dataFormat), 0o600); err != nil {
		return err
	}
	if err := errors.Join(durable.Sync(tmp), os.Rename(tmp, l.format())); err != nil {
		return err
	}
	return durable.Sync(l.root)
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

const reasonDataNewer = "data_newer"

// errNewerData is the fault for data of a later version. data is a clause that
// names the data and its version.
func errNewerData(data string, known int) error {
	return fault.New(fault.WrongState, reasonDataNewer,
		"%s, and this wrenn knows formats up to %d: start the wrenn version that wrote it, or a later one", data, known)
}
