package cli

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// sizeFlag is a size in MiB as people write it: "512", "512M", "512Mi", "1GB",
// "1.5G". All units are powers of two.
type sizeFlag int

func (f *sizeFlag) String() string {
	if *f == 0 {
		return ""
	}
	return strconv.Itoa(int(*f))
}

func (f *sizeFlag) Type() string { return "size" }

// maxSizeMB is more than any machine has, and far from overflowing.
const maxSizeMB = 1 << 30

var sizeForm = regexp.MustCompile(`^(\d+(?:\.\d+)?) ?(?:([kmgt])i?)?b?$`)

// sizeUnits are in MiB.
var sizeUnits = map[string]float64{"": 1, "k": 1.0 / 1024, "m": 1, "g": 1024, "t": 1024 * 1024}

func (f *sizeFlag) Set(typed string) error {
	wrong := fmt.Errorf("%q is no size in whole MiB: write 512, 512M, 1.5G or 2GB", typed)
	low := strings.ToLower(strings.TrimSpace(typed))
	parts := sizeForm.FindStringSubmatch(low)
	if parts == nil || parts[2] == "" && strings.HasSuffix(low, "b") { // a number of bytes is a mistake
		return wrong
	}
	n, err := strconv.ParseFloat(parts[1], 64)
	mb := n * sizeUnits[parts[2]]
	if err != nil || mb < 1 || mb > maxSizeMB || mb != float64(int(mb)) {
		return wrong
	}
	*f = sizeFlag(mb)
	return nil
}
