package network

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// DefaultName is the prefix of everything a pool makes unless Config says
// otherwise.
const DefaultName = "wrenn"

// Config holds the settings of a pool. The zero value is usable.
type Config struct {
	// Name begins the name of every namespace and device and names the host's
	// nft table. Two agents on one host need different ones. It is 1 to 10
	// lower-case letters and digits, a letter first, because a device name has
	// 15 bytes. Empty means DefaultName.
	Name string
	// Prefix is the IPv4 range (/14 to /30) from which each sandbox gets a
	// /30. The zero value means: the first of a few candidates that overlaps
	// no route of the host and no other pool.
	Prefix netip.Prefix
	// Nameservers may be asked on port 53 although they lie in a denied range.
	// Those that are not IPv4 or are loopback addresses are left out: no
	// sandbox could reach them.
	Nameservers []netip.Addr
	// Limits hold for each sandbox.
	Limits Limits
}

var namePattern = regexp.MustCompile(`^[a-z][a-z0-9]{0,9}$`)

// withDefaults returns the configuration made complete, or fault.Invalid.
func (c Config) withDefaults() (Config, error) {
	if c.Name == "" {
		c.Name = DefaultName
	}
	if !namePattern.MatchString(c.Name) {
		return c, fault.New(fault.Invalid, "bad_network_name", "a network name is 1 to 10 lower-case letters and digits and begins with a letter")
	}
	if c.Prefix.IsValid() {
		p := c.Prefix
		if !p.Addr().Is4() || p.Bits() < 14 || p.Bits() > slotBits || p != p.Masked() {
			return c, fault.New(fault.Invalid, "bad_network_prefix", "the sandbox network must be an IPv4 prefix between /14 and /30, such as %s", candidates[0])
		}
	}
	var usable []netip.Addr
	for _, a := range c.Nameservers {
		if a = a.Unmap(); a.Is4() && !a.IsLoopback() {
			usable = append(usable, a)
		}
	}
	c.Nameservers = usable
	var err error
	c.Limits, err = c.Limits.withDefaults()
	return c, err
}

// slotName is the name of the namespace and of the host's veth end of index.
func (c Config) slotName(index int) string { return fmt.Sprintf("%s-%04x", c.Name, index) }

// slotIndex is the inverse of slotName; ok is false for any other name.
func (c Config) slotIndex(name string) (index int, ok bool) {
	if len(name) != len(c.Name)+5 {
		return 0, false
	}
	if _, err := fmt.Sscanf(name[len(c.Name):], "-%04x", &index); err != nil {
		return 0, false
	}
	return index, name == c.slotName(index)
}

// mark is the owner mark: the alias of the loopback device in a namespace and
// of the host's veth end.
func (c Config) mark(id string) string { return markWord + c.Name + " sandbox=" + id }

// markWord begins the marks of all pools.
const markWord = "wrenn-owner="

// ours accepts every mark of this pool.
func (c Config) ours(mark string) bool { return strings.HasPrefix(mark, c.mark("")) }

var idPattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}$`)
