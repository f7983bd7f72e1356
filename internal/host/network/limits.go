package network

import (
	"fmt"
	"slices"

	"github.com/google/nftables/expr"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// Limits bound one sandbox's use of the host's network, so that a sandbox
// that floods harms itself alone. A zero field takes its default, a negative
// one sets no limit.
type Limits struct {
	// Connections is how many connections that the guest has opened are tracked
	// at the same time; further ones are dropped. Each also takes an entry of
	// the host's own table (net.netfilter.nf_conntrack_max).
	Connections int
	// Packets is how many packets pass in a second, each way. A segment that
	// guest and host pass whole (TSO, up to 64 KiB) is one.
	Packets int
	// Bytes is how many bytes pass in a second, each way, between the guest and
	// the outside. Transfers of the host agent do not count.
	Bytes int64
}

// DefaultLimits are far above the needs of programs.
var DefaultLimits = Limits{Connections: 4096, Packets: 100_000, Bytes: 125_000_000}

// maxRate keeps a burst within 32 bits.
const maxRate = 1 << 33

func (l Limits) withDefaults() (Limits, error) {
	if l.Connections == 0 {
		l.Connections = DefaultLimits.Connections
	}
	if l.Packets == 0 {
		l.Packets = DefaultLimits.Packets
	}
	if l.Bytes == 0 {
		l.Bytes = DefaultLimits.Bytes
	}
	if l.Bytes > maxRate || l.Packets > maxRate || l.Connections > 1<<31 {
		return l, fault.New(fault.Invalid, "bad_network_limit", "a network limit is above what the kernel's firewall can count")
	}
	return l, nil
}

// A second's limit may be used up in this many parts of a second.
const burstParts = 4

// rates are rules that drop packets that match packets and are above the packet limit,
// and packets that match bytes and are above the byte limit. Each rule counts by
// itself.
func (l Limits) rates(packets, bytes []clause) []rule {
	var rules []rule
	if l.Packets > 0 {
		rules = append(rules, append(slices.Clone(packets), packetsOver(l.Packets), drop()))
	}
	if l.Bytes > 0 {
		rules = append(rules, append(slices.Clone(bytes), bytesOver(l.Bytes), drop()))
	}
	return rules
}

// connections is the rule that drops the first packet of a connection above the
// limit. A later packet that is still "new", as of UDP without an answer, is of
// a confirmed connection and does not count again: looking through all that is
// counted takes time.
func (l Limits) connections() []rule {
	if l.Connections <= 0 {
		return nil
	}
	return []rule{{ctUnconfirmed(), ctCountOver(l.Connections), drop()}}
}

func packetsOver(rate int) clause {
	burst := max(1, rate/burstParts)
	return clause{
		fmt.Sprintf("limit rate over %d/second burst %d packets", rate, burst),
		[]expr.Any{&expr.Limit{
			Type: expr.LimitTypePkts, Rate: uint64(rate), Unit: expr.LimitTimeSecond, Over: true, Burst: uint32(burst),
		}},
	}
}

// minByteBurst lets one whole segment pass.
const minByteBurst = 64 << 10

func bytesOver(rate int64) clause {
	burst := max(minByteBurst, rate/burstParts)
	return clause{
		fmt.Sprintf("limit rate over %s/second burst %s", nftBytes(rate), nftBytes(burst)),
		[]expr.Any{&expr.Limit{
			Type: expr.LimitTypePktBytes, Rate: uint64(rate), Unit: expr.LimitTimeSecond, Over: true, Burst: uint32(burst),
		}},
	}
}

// nftBytes writes a number of bytes as nft(8) does: in the largest unit in
// which it is whole.
func nftBytes(n int64) string {
	units := []string{"bytes", "kbytes", "mbytes"}
	for n%1024 == 0 && len(units) > 1 {
		n, units = n/1024, units[1:]
	}
	return fmt.Sprintf("%d %s", n, units[0])
}

func ctCountOver(n int) clause {
	return clause{
		fmt.Sprintf("ct count over %d", n),
		[]expr.Any{&expr.Connlimit{Count: uint32(n), Flags: expr.NFT_CONNLIMIT_F_INV}},
	}
}
