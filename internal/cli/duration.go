package cli

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// DurationFlag is a duration as people write it: "90" (seconds), "10m", "1h30m",
// "1d", "2w". It implements pflag.Value.
type DurationFlag time.Duration

// DurationVar declares a flag that is a duration. The help shows a fallback of 0 as
// no default.
func DurationVar(flags *pflag.FlagSet, p *time.Duration, name string, fallback time.Duration, usage string) {
	*p = fallback
	flags.Var((*DurationFlag)(p), name, usage)
}

// String returns the duration in a form that Set accepts; "" for 0.
func (f *DurationFlag) String() string {
	if *f == 0 {
		return ""
	}
	if d := time.Duration(*f); d%time.Second != 0 {
		return d.String()
	}
	return showSeconds(int(time.Duration(*f) / time.Second))
}

// Type implements pflag.Value.
func (*DurationFlag) Type() string { return "duration" }

// Set parses a duration.
func (f *DurationFlag) Set(s string) error {
	d, err := parseDuration(s)
	if err == nil {
		*f = DurationFlag(d)
	}
	return err
}

var (
	durationForm = regexp.MustCompile(`^(\d+(\.\d+)?(ms|w|d|h|m|s))+$`)
	durationPart = regexp.MustCompile(`(\d+(?:\.\d+)?)(ms|w|d|h|m|s)`)
	plainSeconds = regexp.MustCompile(`^\d+(\.\d+)?$`)
)

var durationUnits = map[string]time.Duration{
	"ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour,
}

func parseDuration(typed string) (time.Duration, error) {
	s := strings.ToLower(strings.TrimSpace(typed))
	if plainSeconds.MatchString(s) {
		s += "s"
	}
	if !durationForm.MatchString(s) {
		return 0, fmt.Errorf("%q is no duration: write 90 (seconds), 10m, 1h30m or 1d", typed)
	}
	var sum float64
	for _, part := range durationPart.FindAllStringSubmatch(s, -1) {
		n, err := strconv.ParseFloat(part[1], 64)
		if err != nil {
			return 0, err
		}
		sum += n * float64(durationUnits[part[2]])
	}
	if sum > math.MaxInt64/2 {
		return 0, fmt.Errorf("the duration %q is too long", typed)
	}
	return time.Duration(math.Round(sum)), nil
}
