package memory

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"

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
	var st unix.Stat_t
	if err := unix.Stat(base, &st); err != nil {
		return nil, fmt.Errorf("stat %s: %w", base, err)
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	device := fmt.Sprintf("%02x:%02x", unix.Major(st.Dev), unix.Minor(st.Dev))
	inode := strconv.FormatUint(st.Ino, 10)
	var out []region
	var total int64
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 || fields[3] != device || fields[4] != inode {
			continue
		}
		if !strings.HasSuffix(fields[1], "p") {
			return nil, fmt.Errorf("process %d maps its memory file shared", pid)
		}
		r, err := parseRegion(fields)
		if err != nil {
			return nil, err
		}
		total += r.size
		out = append(out, r)
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if total != st.Size {
		return nil, fmt.Errorf("process %d maps %d of the %d bytes of its memory file", pid, total, st.Size)
	}
	return out, nil
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
