package filesystem

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// maxAccountName is the limit of useradd(8).
const maxAccountName = 32

// validAccountName reports whether useradd(8) would accept name: lower-case letters,
// digits, "_" and "-", not beginning with a digit or "-". It excludes the separators
// of the account files. A regular expression would have to be compiled at every
// boot.
func validAccountName(name string) bool {
	const first = "abcdefghijklmnopqrstuvwxyz_"
	return name != "" && len(name) <= maxAccountName && strings.IndexByte(first, name[0]) >= 0 &&
		strings.Trim(name, first+"0123456789-") == ""
}

// validAccount checks that a line of passwd(5) can represent u.
func validAccount(u User) error {
	bad := func(s string) bool {
		return strings.ContainsAny(s, ":\n\r\x00") || !path.IsAbs(s) || len(s) > maxPath
	}
	if !validAccountName(u.Name) || bad(u.Home) || bad(u.Shell) {
		return fault.New(fault.Invalid, "invalid_user", "a user needs a plain name and an absolute home and shell")
	}
	return nil
}

// Ensure creates the user want, without a password: its lines in passwd, group and,
// if that file exists, shadow, and its home directory. If a user of that name
// exists, only a missing home is created.
func (a *Accounts) Ensure(want User) error {
	if err := validAccount(want); err != nil {
		return err
	}
	d, err := a.Read()
	if err != nil {
		return err
	}
	if have, ok := d.users[want.Name]; ok {
		return a.ensureHome(have)
	}
	if _, ok := d.groups[want.GID]; !ok {
		line := fmt.Sprintf("%s:x:%d:\n", want.Name, want.GID)
		if err := a.appendLine("group", line, 0o644); err != nil {
			return err
		}
	}
	if _, err := os.Stat(a.file("shadow")); err == nil {
		// "*" is no valid hash, so that no password logs in (shadow(5)).
		if err := a.appendLine("shadow", want.Name+":*:19000:0:99999:7:::\n", 0o640); err != nil {
			return err
		}
	}
	line := fmt.Sprintf("%s:x:%d:%d::%s:%s\n", want.Name, want.UID, want.GID, want.Home, want.Shell)
	if err := a.appendLine("passwd", line, 0o644); err != nil {
		return err
	}
	return a.ensureHome(want)
}

// ensureHome makes a missing home directory, owned by u. "/nonexistent" is not
// made: system accounts of images have no home on purpose.
func (a *Accounts) ensureHome(u User) error {
	home := filepath.Join(a.root, u.Home)
	if _, err := os.Stat(home); err == nil || u.Home == "/nonexistent" {
		return nil
	}
	err := makeParents(filepath.Dir(home), Owner{})
	if err == nil {
		err = makeParents(home, Owner{UID: u.UID, GID: u.GID})
	}
	if err != nil {
		return fmt.Errorf("make home of %s: %w", u.Name, err)
	}
	return nil
}

// appendLine adds line to an account file by replacing the whole file, so that
// no reader sees half a line. The file keeps its mode and owner.
func (a *Accounts) appendLine(name, line string, mode os.FileMode) error {
	have, err := readBounded(a.file(name))
	if err != nil {
		return err
	}
	if len(have) > 0 && have[len(have)-1] != '\n' {
		line = "\n" + line
	}
	content := string(have) + line
	if err := ReplaceSystemFile(a.file(name), content, mode); err != nil {
		return fmt.Errorf("extend /etc/%s: %w", name, err)
	}
	return nil
}
