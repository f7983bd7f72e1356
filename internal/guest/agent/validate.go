package agent

import (
	"net/netip"
	"strings"
	"time"

	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/fault"
)

const (
	// minEntropy is the size of the kernel generator's key: 256 bits.
	minEntropy     = 32
	maxEntropy     = 4096
	maxTokenLen    = 4096
	maxNameservers = 8
	maxUsers       = 64
	maxEnvEntries  = 1024
	maxEnvBytes    = 256 << 10
)

// earliestClock is a time in the past of every host: an earlier wall clock is an
// error of the host.
var earliestClock = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

// maxHostname is HOST_NAME_MAX of Linux.
const maxHostname = 64

// validHostname reports whether name has the form of RFC 1123: letters, digits
// and, inside, dots and dashes.
func validHostname(name string) bool {
	const outer = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	return name != "" && len(name) <= maxHostname && strings.Trim(name, outer+".-") == "" &&
		strings.IndexByte(outer, name[0]) >= 0 && strings.IndexByte(outer, name[len(name)-1]) >= 0
}

// validateConfigure checks all of msg before anything is changed.
func validateConfigure(msg *guestv1.ConfigureRequest) error {
	bad := func(format string, args ...any) error {
		return fault.New(fault.Invalid, "invalid_configure", format, args...)
	}
	if n := len(msg.GetEntropy()); n < minEntropy || n > maxEntropy {
		return bad("entropy must have from %d to %d bytes", minEntropy, maxEntropy)
	}
	if time.Unix(0, msg.GetWallClockUnixNano()).Before(earliestClock) {
		return bad("wall_clock_unix_nano is before %s", earliestClock.Format(time.DateOnly))
	}
	if msg.GetHostname() != "" && !validHostname(msg.GetHostname()) {
		return bad("hostname is not one")
	}
	if len(msg.GetAccessToken()) > maxTokenLen || len(msg.GetEnvdToken()) > maxTokenLen {
		return bad("access_token and envd_token may have at most %d bytes", maxTokenLen)
	}
	if len(msg.GetNameservers()) > maxNameservers || len(msg.GetUsers()) > maxUsers {
		return bad("there may be at most %d name servers and %d users", maxNameservers, maxUsers)
	}
	for _, server := range msg.GetNameservers() {
		if _, err := netip.ParseAddr(server); err != nil {
			return bad("nameservers must be IP addresses")
		}
	}
	return validateEnvs(msg.GetEnvs())
}

// validateEnvs checks the rules that execve(2) and shells rely on, and the limits.
func validateEnvs(envs map[string]string) error {
	total := 0
	for k, v := range envs {
		if k == "" || strings.ContainsAny(k, "=\x00") || strings.Contains(v, "\x00") {
			return fault.New(fault.Invalid, "invalid_env", "environment names must not be empty or hold '=' or NUL, values must not hold NUL")
		}
		total += len(k) + len(v)
	}
	if len(envs) > maxEnvEntries || total > maxEnvBytes {
		return fault.New(fault.Invalid, "invalid_env", "environment may have at most %d entries and %d bytes", maxEnvEntries, maxEnvBytes)
	}
	return nil
}
