package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/wrenn-dev/wrenn/internal/host/doctor"
)

// keyCheck looks at the file with the server's own API key. It never reads the
// key: doctor's output is shown to others.
func keyCheck(path string) doctor.Check {
	c := doctor.Check{Name: "API key", Status: doctor.OK}
	st, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.Found = "none yet"
		c.Detail = "the first start makes one in " + path + ", unless it is started with --no-auth"
	case err != nil:
		c.Status, c.Found, c.Detail = doctor.Warn, "cannot be looked at", err.Error()
	case st.Mode().Perm()&0o077 != 0:
		c.Status, c.Found = doctor.Warn, fmt.Sprintf("%s has the mode %04o", path, st.Mode().Perm())
		c.Detail = "other users of this machine can read it and use every sandbox"
		c.Fix = "sudo chmod 600 " + path
	default:
		c.Found = "in " + path
	}
	return c
}
