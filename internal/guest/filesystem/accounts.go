package filesystem

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// User is an account of the guest.
type User struct {
	Name string
	UID  uint32
	GID  uint32
	// Groups are the supplementary groups, without GID.
	Groups []uint32
	Home   string
	Shell  string
}

// maxAccountFile is the most bytes read of passwd(5) and of group(5).
const maxAccountFile = 4 << 20

// Accounts reads and extends the users and groups of a root directory. Programs of
// the guest change the files too, so that every lookup checks whether they have
// changed.
type Accounts struct {
	root string

	mu     sync.Mutex // protects the following
	stamp  [2]stamp
	cached *Directory
}

// stamp identifies one version of a file.
type stamp struct {
	at   time.Time
	size int64
}

// Directory holds the users and groups of one reading of the account files. It is
// immutable.
type Directory struct {
	users  map[string]User
	names  map[uint32]string
	groups map[uint32]string
}

// NewAccounts returns the accounts of the system rooted at root ("/").
func NewAccounts(root string) *Accounts { return &Accounts{root: root} }

func (a *Accounts) file(name string) string { return filepath.Join(a.root, "etc", name) }

// Read returns the current users and groups. A missing file counts as empty; root
// always exists.
func (a *Accounts) Read() (*Directory, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := [2]stamp{stampOf(a.file("passwd")), stampOf(a.file("group"))}
	if a.cached != nil && now == a.stamp {
		return a.cached, nil
	}
	passwd, err := readBounded(a.file("passwd"))
	if err != nil {
		return nil, err
	}
	group, err := readBounded(a.file("group"))
	if err != nil {
		return nil, err
	}
	a.cached, a.stamp = parseAccounts(passwd, group), now
	return a.cached, nil
}

// Lookup finds the user called name. An unknown one is Unauthenticated with
// reason unknown_user.
func (a *Accounts) Lookup(name string) (User, error) {
	d, err := a.Read()
	if err != nil {
		return User{}, err
	}
	u, ok := d.users[name]
	if !ok {
		return User{}, fault.New(fault.Unauthenticated, ReasonUnknownUser, "invalid username: '%.64s'", name)
	}
	u.Groups = slices.Clone(u.Groups)
	return u, nil
}

// Owner returns the name of the user uid, or its number.
func (d *Directory) Owner(uid uint32) string { return nameOr(d.names, uid) }

// Group returns the name of the group gid, or its number.
func (d *Directory) Group(gid uint32) string { return nameOr(d.groups, gid) }

func nameOr(names map[uint32]string, id uint32) string {
	if n, ok := names[id]; ok {
		return n
	}
	return strconv.FormatUint(uint64(id), 10)
}

func stampOf(path string) stamp {
	fi, err := os.Stat(path)
	if err != nil {
		return stamp{}
	}
	return stamp{fi.ModTime(), fi.Size()}
}

func readBounded(path string) ([]byte, error) {
	f, err := openRegular(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read accounts: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxAccountFile))
	if err != nil {
		return nil, fmt.Errorf("read accounts: %w", err)
	}
	return b, nil
}

// parseAccounts reads the formats of passwd(5) and group(5). Lines that break
// them are skipped, as the C library does; of several equal names or numbers
// the first wins.
func parseAccounts(passwd, group []byte) *Directory {
	d := &Directory{
		users:  map[string]User{},
		names:  map[uint32]string{},
		groups: map[uint32]string{},
	}
	eachLine(passwd, 7, func(f []string) {
		uid, err1 := strconv.ParseUint(f[2], 10, 32)
		gid, err2 := strconv.ParseUint(f[3], 10, 32)
		if err1 != nil || err2 != nil {
			return
		}
		u := User{Name: f[0], UID: uint32(uid), GID: uint32(gid), Home: f[5], Shell: f[6]}
		if u.Home == "" {
			u.Home = "/"
		}
		putFirst(d.users, u.Name, u)
		putFirst(d.names, u.UID, u.Name)
	})
	putFirst(d.users, "root", User{Name: "root", Home: "/root", Shell: "/bin/sh"})
	putFirst(d.names, 0, "root")
	eachLine(group, 4, func(f []string) {
		gid, err := strconv.ParseUint(f[2], 10, 32)
		if err != nil {
			return
		}
		putFirst(d.groups, uint32(gid), f[0])
		for _, member := range strings.Split(f[3], ",") {
			u, ok := d.users[member]
			if ok && u.GID != uint32(gid) && !slices.Contains(u.Groups, uint32(gid)) {
				u.Groups = append(u.Groups, uint32(gid))
				d.users[member] = u
			}
		}
	})
	return d
}

func putFirst[K comparable, V any](m map[K]V, k K, v V) {
	if _, ok := m[k]; !ok {
		m[k] = v
	}
}

// eachLine calls fn with the colon-separated fields of every line that has at
// least n of them.
func eachLine(b []byte, n int, fn func([]string)) {
	sc := bufio.NewScanner(bytes.NewReader(b))
	sc.Buffer(nil, maxAccountFile+1)
	for sc.Scan() {
		if f := strings.Split(sc.Text(), ":"); len(f) >= n && f[0] != "" {
			fn(f)
		}
	}
}
