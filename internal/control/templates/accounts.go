package templates

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/build/plan"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// account is a user of a guest.
type account struct {
	name     string
	uid, gid int
	home     string
}

// accounts are the users and groups of a guest, as its files say. The guest wrote them:
// they decide about files and processes in the same guest only.
type accounts struct {
	users  []account
	groups map[string]int
}

// maxAccounts bounds the size of a file with users or groups, in bytes.
const maxAccounts = 1 << 20

// readAccounts reads the users and groups of m.
func (b *builder) readAccounts(ctx context.Context, m *machine) (*accounts, error) {
	if m.accounts != nil {
		return m.accounts, nil
	}
	passwd, err := b.readText(ctx, m, "/etc/passwd")
	if err != nil {
		return nil, err
	}
	group, err := b.readText(ctx, m, "/etc/group")
	if err != nil {
		return nil, err
	}
	m.accounts = parseAccounts(passwd, group)
	return m.accounts, nil
}

// readText reads a small file of the guest; a missing one is empty.
func (b *builder) readText(ctx context.Context, m *machine, name string) ([]byte, error) {
	f, err := b.Machines.ReadFile(ctx, m.id, control.ReadFile{Path: name, User: "root"})
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Body.Close()
	text, err := io.ReadAll(io.LimitReader(f.Body, maxAccounts+1))
	if err == nil && len(text) > maxAccounts {
		err = fault.New(fault.TooLarge, "file_too_large", "%s has more than %d bytes", name, maxAccounts)
	}
	return text, err
}

// parseAccounts reads the formats of passwd(5) and group(5). The first of equal names
// wins, and lines that break the format are passed over.
func parseAccounts(passwd, group []byte) *accounts {
	a := &accounts{groups: map[string]int{}}
	seen := map[string]bool{}
	for line := range bytes.Lines(passwd) {
		f := strings.Split(strings.TrimRight(string(line), "\n"), ":")
		if len(f) < 7 || f[0] == "" || seen[f[0]] {
			continue
		}
		uid, err1 := strconv.ParseUint(f[2], 10, 32)
		gid, err2 := strconv.ParseUint(f[3], 10, 32)
		if err1 == nil && err2 == nil {
			seen[f[0]] = true
			a.users = append(a.users, account{name: f[0], uid: int(uid), gid: int(gid), home: f[5]})
		}
	}
	if !seen["root"] {
		a.users = append(a.users, account{name: "root", home: "/root"})
	}
	for line := range bytes.Lines(group) {
		f := strings.Split(strings.TrimRight(string(line), "\n"), ":")
		if len(f) < 4 || f[0] == "" {
			continue
		}
		if gid, err := strconv.ParseUint(f[2], 10, 32); err == nil {
			if _, known := a.groups[f[0]]; !known {
				a.groups[f[0]] = int(gid)
			}
		}
	}
	return a
}

// user finds a user by name or number. A number without a name is itself.
func (a *accounts) user(name string) (account, bool) {
	for _, u := range a.users {
		if u.name == name {
			return u, true
		}
	}
	uid, err := strconv.ParseUint(name, 10, 31)
	if err != nil {
		return account{}, false
	}
	for _, u := range a.users {
		if u.uid == int(uid) {
			return u, true
		}
	}
	return account{uid: int(uid), gid: int(uid), home: "/"}, true
}

// group finds a group by name or number.
func (a *accounts) group(name string) (int, bool) {
	if gid, ok := a.groups[name]; ok {
		return gid, true
	}
	gid, err := strconv.ParseUint(name, 10, 31)
	return int(gid), err == nil
}

// NoUser stands before the quoted name in the message about a user who is missing in an image.
const NoUser = "the image has no user "

// owner returns the numbers of "user" or "user:group".
func (a *accounts) owner(text string) (uid, gid int, err error) {
	name, group, given := strings.Cut(text, ":")
	u, ok := a.user(name)
	if !ok {
		return 0, 0, fault.New(fault.Invalid, "unknown_user", NoUser+"%.64q", name)
	}
	if !given {
		return u.uid, u.gid, nil
	}
	gid, ok = a.group(group)
	if !ok {
		return 0, 0, fault.New(fault.Invalid, "unknown_user", "the image has no group %.64q", group)
	}
	return u.uid, gid, nil
}

// account returns the user "user[:group]" of m, root for an empty text. The group of
// a process is always that of the user. A number that no user has gets a name, because
// guests know users by name.
func (b *builder) account(ctx context.Context, m *machine, text string) (account, error) {
	name, _, _ := strings.Cut(text, ":")
	if name == "" || name == "root" || name == "0" {
		return account{name: "root", home: "/root"}, nil
	}
	all, err := b.readAccounts(ctx, m)
	if err != nil {
		return account{}, err
	}
	a, ok := all.user(name)
	if !ok {
		return account{}, fault.New(fault.Invalid, "unknown_user", NoUser+"%.64q", name)
	}
	if a.name != "" {
		return a, nil
	}
	a.name = fmt.Sprintf("uid%d", a.uid)
	line := fmt.Sprintf("%s:x:%d:%d::/:/bin/sh\n", a.name, a.uid, a.gid)
	passwd, err := b.readText(ctx, m, "/etc/passwd")
	if err != nil {
		return account{}, err
	}
	if len(passwd) > 0 && passwd[len(passwd)-1] != '\n' {
		passwd = append(passwd, '\n')
	}
	if len(passwd) == 0 {
		passwd = []byte("root:x:0:0:root:/root:/bin/sh\n")
	}
	mode := uint32(0o644)
	_, err = b.Machines.WriteFile(ctx, m.id, control.WriteFile{Path: "/etc/passwd", User: "root", Mode: &mode}, bytes.NewReader(append(passwd, line...)))
	m.accounts = nil
	return a, err
}

// ensureUser is a script that makes the user $1 if it does not exist, with a home and
// bash where there is one. It works with the tools of Debian, Alpine and BusyBox, and
// without any.
const ensureUser = `set -e
name=$1
shell=/bin/sh
if [ -x /bin/bash ]; then shell=/bin/bash; fi
touch /etc/passwd /etc/group
if ! grep -q "^$name:" /etc/passwd; then
	if command -v useradd >/dev/null 2>&1; then
		useradd --create-home --shell "$shell" "$name"
	elif command -v adduser >/dev/null 2>&1; then
		adduser -D -s "$shell" "$name" </dev/null
	else
		id=1000
		while grep -q ":x\{0,1\}:$id:" /etc/passwd /etc/group; do id=$((id + 1)); done
		echo "$name:x:$id:" >>/etc/group
		echo "$name:x:$id:$id::/home/$name:$shell" >>/etc/passwd
	fi
fi
home=$(grep "^$name:" /etc/passwd | head -n 1 | cut -d: -f6)
if [ ! -d "$home" ]; then
	mkdir -p "$home"
	chown "$name" "$home"
fi
`

// allowSudo is a script that lets the user $1 use sudo without a password.
const allowSudo = `
if [ -d /etc/sudoers.d ]; then
	echo "$1 ALL=(ALL:ALL) NOPASSWD: ALL" >"/etc/sudoers.d/wrenn-$1"
	chmod 0440 "/etc/sudoers.d/wrenn-$1"
fi
`

// createUser makes the user of a USER step. The implicit step of E2B's builds lets it use
// sudo as well.
func (b *builder) createUser(ctx context.Context, m *machine, step plan.Step) error {
	name := step.User.Name
	if name == "root" || name == "0" {
		return nil
	}
	script := ensureUser
	if step.ID == baseStep {
		script += allowSudo
	}
	if strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") != "" || name[0] == '-' || len(name) > 32 {
		return failed(step.ID, "%s: the name of the user cannot be used", step.Text)
	}
	return b.exec(ctx, m, step, control.Exec{Cmd: "/bin/sh", Args: []string{"-c", script, "sh", name}, Cwd: "/", User: "root", Timeout: scriptTimeout})
}
