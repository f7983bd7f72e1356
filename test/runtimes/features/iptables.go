package features

import (
	"bytes"
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The requests and structures of linux/netfilter_ipv4/ip_tables.h.
const (
	iptGetInfo    = 64
	iptGetEntries = 65
	iptReplace    = 64
)

type iptInfo struct {
	Name                  [32]byte
	ValidHooks            uint32
	HookEntry             [5]uint32
	Underflow             [5]uint32
	NumEntries, TableSize uint32
}

// iptables reads the table filter with its size, and replaces it by its own rules.
func iptables() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var info iptInfo
	copy(info.Name[:], "filter")
	size := uint32(unsafe.Sizeof(info))
	if err := getOption(fd, iptGetInfo, unsafe.Pointer(&info), &size); err != nil {
		return err
	}
	// struct ipt_get_entries: name, size, and 4 bytes to align the entries.
	const header = 40
	entries := make([]byte, header+int(info.TableSize))
	copy(entries, info.Name[:])
	binary.NativeEndian.PutUint32(entries[32:], info.TableSize)
	size = uint32(len(entries))
	if err := getOption(fd, iptGetEntries, unsafe.Pointer(&entries[0]), &size); err != nil {
		return err
	}
	counters := make([]byte, 16*info.NumEntries)
	var replace bytes.Buffer
	replace.Write(info.Name[:])
	for _, n := range []any{
		info.ValidHooks, info.NumEntries, info.TableSize, info.HookEntry, info.Underflow, info.NumEntries, uint64(uintptr(unsafe.Pointer(&counters[0]))),
	} {
		_ = binary.Write(&replace, binary.NativeEndian, n) // to memory
	}
	replace.Write(entries[header:])
	return unix.SetsockoptString(fd, unix.SOL_IP, iptReplace, replace.String())
}

func getOption(fd, option int, value unsafe.Pointer, size *uint32) error {
	_, _, err := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_IP, uintptr(option), uintptr(value), uintptr(unsafe.Pointer(size)), 0)
	if err != 0 {
		return err
	}
	return nil
}
