package rest

import (
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

// errRange is the failure of a range that holds no byte of the file.
var errRange = withStatus(http.StatusRequestedRangeNotSatisfiable,
	fault.New(fault.Invalid, "range_not_satisfiable", "the range is beyond the end of the file; Content-Range has its size"))

// rangeOf returns the range that a request asks for (RFC 9110, section 14), or nil for
// the whole file. Several ranges, other units and malformed ranges are answered with
// the whole file, as the RFC permits. An If-Range that is no entity tag of this server,
// such as a date, matches no file.
func rangeOf(h http.Header) *control.FileRange {
	spec, ok := strings.CutPrefix(h.Get("Range"), "bytes=")
	first, last, found := strings.Cut(strings.TrimSpace(spec), "-")
	if !ok || !found || len(h.Values("Range")) > 1 {
		return nil
	}
	out := control.FileRange{}
	if condition := h.Get("If-Range"); condition != "" {
		out.IfTag = strings.TrimSuffix(strings.TrimPrefix(condition, `"`), `"`)
		if len(out.IfTag) != len(condition)-2 || out.IfTag == "" {
			return nil
		}
	}
	from, fromOK := digits(first)
	to, toOK := digits(last)
	switch {
	case first == "" && toOK && to > 0: // the last bytes
		out.Offset = -to
	case fromOK && last == "":
		out.Offset = from
	case fromOK && toOK && to >= from:
		out.Offset, out.Length = from, to-from+1
	default:
		return nil
	}
	return &out
}

// digits returns a whole number without a sign. One that is too large is cut off, which
// is beyond the end of every file.
func digits(s string) (int64, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n > math.MaxInt64/2 {
		n = math.MaxInt64 / 2
	}
	return n, true
}
