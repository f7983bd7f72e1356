package memory

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// region is one mapping of the base file in a process.
type region struct {
	address, size int64
	offset        int64 // in the base file
}

// mappings finds where process pid has mapped the file base privately, by
// device and inode: names in /proc/PID/maps can be anything.
func mappings(pid int, base string) ([]region, error) {
	f, err := os.Open(base)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	device, inode, err := shownAs(f)
	if err != nil {
		return nil, fmt.Errorf("identify %s: %w", base, err)
	}
	var out []region
	var total int64
	err = eachMapping(pid, func(fields []string) error {
		if fields[3] != device || fields[4] != inode {
			return nil
		}
		if !strings.HasSuffix(fields[1], "p") {
			return fmt.Errorf("process %d maps its memory file shared", pid)
		}
		r, err := parseRegion(fields)
		if err != nil {
			return err
		}
		total += r.size
		out = append(out, r)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if total != st.Size() {
		return nil, fmt.Errorf("process %d maps %d of the %d bytes of its memory file", pid, total, st.Size())
	}
	return out, nil
}

// shownAs returns the device and inode under which /proc/PID/maps shows
// mappings of f. They are not always those of stat(2): on btrfs, and on overlay
// file systems of older kernels, that tells of another layer. So f is mapped
// here, and looked up.
func shownAs(f *os.File) (device, inode string, err error) {
	page, err := unix.Mmap(int(f.Fd()), 0, PageSize, unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return "", "", err
	}
	defer func() { err = errors.Join(err, unix.Munmap(page)) }()
	address := int64(uintptr(unsafe.Pointer(unsafe.SliceData(page))))
	err = eachMapping(os.Getpid(), func(fields []string) error {
		r, err := parseRegion(fields)
		if err == nil && r.address <= address && address < r.address+r.size {
			device, inode = fields[3], fields[4]
		}
		return nil // the kernel's own mappings may lie beyond what an int64 holds
	})
	if err == nil && device == "" {
		err = errors.New("the mapping just made is not in /proc/self/maps")
	}
	return device, inode, err
}

// eachMapping calls visit with the fields of every line of /proc/PID/maps
// (proc_pid_maps(5)): addresses, permissions, offset, device, inode and, for
// some, a name.
func eachMapping(pid int, visit func(fields []string) error) error {
	f, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 {
			continue
		}
		if err := visit(fields); err != nil {
			return err
		}
	}
	return lines.Err()
}

func parseRegion(fields []string) (region, error) {
	from, to, ok := strings.Cut(fields[0], "-")
	start, err1 := strconv.ParseInt(from, 16, 64)
	end, err2 := strconv.ParseInt(to, 16, 64)
	offset, err3 := strconv.ParseInt(fields[2], 16, 64)
	if !ok || err1 != nil || err2 != nil || err3 != nil {
		return region{}, fmt.Errorf("cannot read the mapping %q", strings.Join(fields, " "))
	}
	return region{address: start, size: end - start, offset: offset}, nil
}
