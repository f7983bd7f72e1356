package network

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// reservedPrefix begins the names of the tables that stand for reservations.
const reservedPrefix = "wrenn-reserved-"

// tableOwned is NFT_TABLE_F_OWNER of linux/netfilter/nf_tables.h (kernel 5.12
// and later), in network byte order.
var tableOwned = []byte{0, 0, 0, 2}

// reserve keeps other pools of the same network namespace from using an address
// range or a pool's name, given as what, while the returned file is open. It fails with
// EADDRINUSE where another pool has reserved it.
//
// A reservation is an empty nftables table that its socket owns: the kernel
// removes it when the socket is closed, which the end of the process does too,
// and only root can make one. It needs no route yet. An abstract socket address
// would do the same, but any local user can bind one first.
func reserve(what string) (*os.File, error) {
	table := &nftables.Table{Name: reservedPrefix + what, Family: nftables.TableFamilyINet}
	batch, err := encode(func(c *nftables.Conn) error { c.AddTable(table); return nil })
	if err != nil {
		return nil, err
	}
	attributes, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: unix.NFTA_TABLE_NAME, Data: []byte(table.Name + "\x00")},
		{Type: unix.NFTA_TABLE_FLAGS, Data: tableOwned},
	})
	if err != nil {
		return nil, err
	}
	const familyHeader = 4 // struct nfgenmsg of linux/netfilter/nfnetlink.h
	add := &batch[1]
	add.Header.Flags |= netlink.Excl
	add.Data = append(slices.Clip(add.Data[:familyHeader]), attributes...)
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, err
	}
	if err := sendBatch(fd, batch); err != nil {
		_ = unix.Close(fd)
		return nil, reservationError(what, err)
	}
	return os.NewFile(uintptr(fd), "reservation of "+what), nil
}

// reservationError is EADDRINUSE if err says that the table exists. The kernel
// answers EPERM for a table that another socket owns, and also to callers who
// lack CAP_NET_ADMIN; those cannot list tables either.
func reservationError(what string, err error) error {
	if errors.Is(err, unix.EPERM) {
		if _, listErr := reserved(); listErr == nil {
			err = unix.EADDRINUSE
		}
	}
	if errors.Is(err, unix.EEXIST) {
		err = unix.EADDRINUSE
	}
	return fmt.Errorf("reserve %s: %w", what, err)
}

// reserved returns all reservations in the calling thread's network namespace.
func reserved() (whats []string, err error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, err
	}
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyINet)
	for _, t := range tables {
		if what, ok := strings.CutPrefix(t.Name, reservedPrefix); ok {
			whats = append(whats, what)
		}
	}
	return whats, err
}

// InUse reports whether a pool is open in the calling thread's network namespace,
// in this process or another. It needs root.
func InUse() (bool, error) {
	whats, err := reserved()
	return len(whats) > 0, err
}

// nameWait is how long a starting agent waits for its name, which a sample that
// is being taken has for a moment.
const nameWait = 5 * time.Second

// reserveName keeps a second agent from using the devices, names and rules of
// this one.
func reserveName(name string) (*os.File, error) {
	deadline := time.Now().Add(nameWait)
	f, err := reserve(name)
	for errors.Is(err, unix.EADDRINUSE) && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
		f, err = reserve(name)
	}
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, fault.Wrap(err, fault.Exists, "network_name_in_use", "another host agent uses the network name %s: stop it, or use another data directory", name)
	}
	return f, err
}
