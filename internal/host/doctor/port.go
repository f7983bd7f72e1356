package doctor

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// defaultListen is where wrenn up listens unless told otherwise.
const defaultListen = "127.0.0.1:8080"

// checkPort finds out whether the REST API can listen on an address: whether
// that is free, or served by this installation's own wrenn up, which is process
// own (0 where none runs).
func checkPort(listen string, own int) Check {
	c := Check{Name: "port", Status: OK, Found: listen + " is free"}
	l, err := net.Listen("tcp", listen)
	if err == nil {
		_ = l.Close()
		return c
	}
	c.Status = Fail
	if !errors.Is(err, syscall.EADDRINUSE) {
		c.Found, c.Detail = "a server cannot listen on "+listen, err.Error()
		c.Fix = "export WRENN_LISTEN=" + defaultListen
		return c
	}
	_, port, _ := net.SplitHostPort(listen)
	number, _ := strconv.Atoi(port)
	for _, s := range listeners("/proc", number) {
		if s.pid == own && own != 0 {
			return Check{Name: "port", Status: OK, Found: fmt.Sprintf("%s is served by this installation (process %d)", listen, own)}
		}
		if s.pid != 0 {
			c.Found = fmt.Sprintf("%s is taken by %s (process %d)", listen, s.command, s.pid)
		}
	}
	if c.Found == listen+" is free" {
		c.Found = listen + " is taken by a process that cannot be seen from here"
	}
	c.Detail = "wrenn up cannot start there; WRENN_LISTEN or --listen choose another address"
	if free := freePort(); free != "" {
		c.Fix = "export WRENN_LISTEN=" + free
	}
	return c
}

// freePort returns an address on loopback that is free now.
func freePort() string {
	for port := 8081; port < 8200; port++ {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		if l, err := net.Listen("tcp", address); err == nil {
			_ = l.Close()
			return address
		}
	}
	return ""
}

// socket is one that listens. pid is 0 where its process cannot be told.
type socket struct {
	address netip.Addr
	pid     int
	command string
}

// listeners returns the sockets that listen on a TCP port, from the files of
// proc(5) below proc.
func listeners(proc string, port int) []socket {
	inodes := map[string]netip.Addr{}
	for _, name := range []string{"net/tcp", "net/tcp6"} {
		text, err := os.ReadFile(filepath.Join(proc, name))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if inode, addr, ok := listening(line, port); ok {
				inodes[inode] = addr
			}
		}
	}
	return owners(proc, inodes)
}

// listening reads one line of /proc/net/tcp: the local address is field 1, the
// state field 3 (0A is LISTEN), the inode field 9.
func listening(line string, port int) (inode string, addr netip.Addr, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 10 || fields[3] != "0A" {
		return "", addr, false
	}
	host, hexPort, _ := strings.Cut(fields[1], ":")
	got, err := strconv.ParseUint(hexPort, 16, 16)
	raw, hexErr := hex.DecodeString(host)
	if err != nil || hexErr != nil || int(got) != port {
		return "", addr, false
	}
	// The words of an address are in the processor's byte order.
	for i := 0; i+4 <= len(raw); i += 4 {
		binary.BigEndian.PutUint32(raw[i:], binary.LittleEndian.Uint32(raw[i:]))
	}
	addr, ok = netip.AddrFromSlice(raw)
	return fields[9], addr, ok
}

// owners finds the processes that have the sockets open.
func owners(proc string, inodes map[string]netip.Addr) []socket {
	var out []socket
	left := make(map[string]netip.Addr, len(inodes))
	for inode, addr := range inodes {
		left["socket:["+inode+"]"] = addr
	}
	fds, _ := filepath.Glob(filepath.Join(proc, "[0-9]*", "fd", "*"))
	for _, fd := range fds {
		target, err := os.Readlink(fd)
		addr, mine := left[target]
		if err != nil || !mine {
			continue
		}
		delete(left, target)
		process := filepath.Dir(filepath.Dir(fd))
		pid, _ := strconv.Atoi(filepath.Base(process))
		command, _ := os.ReadFile(filepath.Join(process, "comm"))
		out = append(out, socket{addr, pid, strings.TrimSpace(string(command))})
	}
	for _, addr := range left {
		out = append(out, socket{address: addr})
	}
	return out
}
