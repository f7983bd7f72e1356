package network

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// clause is one condition or action of a rule, both as nft(8) would write it
// and as the expressions the kernel runs. The two are made side by side so
// that a test reads the same rules as the kernel.
type clause struct {
	text  string
	exprs []expr.Any
}

// rule is a list of clauses; the last one is the verdict.
type rule []clause

func (r rule) String() string {
	words := make([]string, len(r))
	for i, c := range r {
		words[i] = c.text
	}
	return strings.Join(words, " ")
}

func (r rule) exprs() []expr.Any {
	var all []expr.Any
	for _, c := range r {
		all = append(all, c.exprs...)
	}
	return all
}

// equal says whether a comparison wants equality.
type equal bool

const (
	is    equal = true
	isNot equal = false
)

func (e equal) op() expr.CmpOp {
	if e {
		return expr.CmpOpEq
	}
	return expr.CmpOpNeq
}

func (e equal) text() string {
	if e {
		return ""
	}
	return "!= "
}

// All clauses work in register 1; none outlives its clause.
const register = 1

func compare(e equal, data []byte) expr.Any {
	return &expr.Cmp{Op: e.op(), Register: register, Data: data}
}

func load(base expr.PayloadBase, offset, length uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: base, Offset: offset, Len: length}
}

// iif and oif match the device a packet came in by or goes out by. A name that
// ends in * matches every device that begins with the text before it.
func iif(e equal, name string) clause { return device("iifname", expr.MetaKeyIIFNAME, e, name) }
func oif(e equal, name string) clause { return device("oifname", expr.MetaKeyOIFNAME, e, name) }

func device(word string, key expr.MetaKey, e equal, name string) clause {
	data, wild := []byte(strings.TrimSuffix(name, "*")), strings.HasSuffix(name, "*")
	if !wild {
		data = append(data, make([]byte, unix.IFNAMSIZ-len(data))...)
	}
	return clause{
		fmt.Sprintf("%s %s%q", word, e.text(), name),
		[]expr.Any{&expr.Meta{Key: key, Register: register}, compare(e, data)},
	}
}

// Offsets in an IPv4 header (RFC 791), an Ethernet header, an ARP packet for
// IPv4 over Ethernet (RFC 826), and TCP and UDP headers.
const (
	ipProtocolField         = 9
	ipSource, ipDestination = 12, 16
	etherSource             = 6
	arpSenderIP             = 14
	destinationPort         = 2
)

func saddr(e equal, a netip.Addr) clause {
	return address("ip saddr", ipSource, e, a)
}

func daddr(e equal, a netip.Addr) clause {
	return address("ip daddr", ipDestination, e, a)
}

// wireSaddr, wireDaddr and wireARP match an address in a frame on a device,
// where the protocol is not yet known: their text implies it, their expressions
// ask.
func wireSaddr(a netip.Addr) clause {
	return ofType(unix.ETH_P_IP, saddr(is, a))
}

func wireDaddr(e equal, a netip.Addr) clause {
	return ofType(unix.ETH_P_IP, daddr(e, a))
}

func wireARP(a netip.Addr) clause {
	return ofType(unix.ETH_P_ARP, address("arp saddr ip", arpSenderIP, is, a))
}

func ofType(protocol uint16, c clause) clause {
	return clause{c.text, append([]expr.Any{
		&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: register},
		compare(is, binary.BigEndian.AppendUint16(nil, protocol)),
	}, c.exprs...)}
}

func address(word string, offset uint32, e equal, a netip.Addr) clause {
	return clause{
		fmt.Sprintf("%s %s%s", word, e.text(), a),
		[]expr.Any{load(expr.PayloadBaseNetworkHeader, offset, 4), compare(e, a.AsSlice())},
	}
}

// saddrIn matches a source address by prefix.
func saddrIn(e equal, p netip.Prefix) clause {
	mask := binary.BigEndian.AppendUint32(nil, ^(^uint32(0) >> p.Bits()))
	return clause{
		fmt.Sprintf("ip saddr %s%s", e.text(), p),
		[]expr.Any{
			load(expr.PayloadBaseNetworkHeader, ipSource, 4),
			&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 4, Mask: mask, Xor: make([]byte, 4)},
			compare(e, p.Addr().AsSlice()),
		},
	}
}

// protocols are those that a sandbox may speak with the outside, as nft(8) and
// IANA call them.
var protocols = []struct {
	name   string
	number byte
}{{"tcp", unix.IPPROTO_TCP}, {"udp", unix.IPPROTO_UDP}, {"icmp", unix.IPPROTO_ICMP}}

// ipProtocol matches the protocol in an IPv4 header, also in a fragment.
func ipProtocol(e equal, name string, number byte) clause {
	return clause{
		fmt.Sprintf("ip protocol %s%s", e.text(), name),
		[]expr.Any{load(expr.PayloadBaseNetworkHeader, ipProtocolField, 1), compare(e, []byte{number})},
	}
}

// otherProtocol is a rule's beginning that matches all but protocols.
func otherProtocol() rule {
	var r rule
	for _, p := range protocols {
		r = append(r, ipProtocol(isNot, p.name, p.number))
	}
	return r
}

// saddrInSet and daddrInSet match a source or destination address in a named set of the
// same table.
func saddrInSet(set string) clause { return addressInSet("ip saddr", ipSource, set) }
func daddrInSet(set string) clause { return addressInSet("ip daddr", ipDestination, set) }

func addressInSet(word string, offset uint32, set string) clause {
	return clause{
		word + " @" + set,
		[]expr.Any{
			load(expr.PayloadBaseNetworkHeader, offset, 4),
			&expr.Lookup{SourceRegister: register, SetName: set},
		},
	}
}

func wireMAC(e equal, mac string) clause {
	return clause{
		fmt.Sprintf("ether saddr %s%s", e.text(), mac),
		[]expr.Any{
			&expr.Meta{Key: expr.MetaKeyIIFTYPE, Register: register},
			compare(is, binary.NativeEndian.AppendUint16(nil, unix.ARPHRD_ETHER)),
			load(expr.PayloadBaseLLHeader, etherSource, 6), compare(e, mustMAC(mac)),
		},
	}
}

// dport matches a destination port of "tcp" or "udp".
func dport(proto string, e equal, port uint16) clause {
	number := map[string]byte{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP}[proto]
	return clause{
		fmt.Sprintf("%s dport %s%d", proto, e.text(), port),
		[]expr.Any{
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register}, compare(is, []byte{number}),
			load(expr.PayloadBaseTransportHeader, destinationPort, 2),
			compare(e, binary.BigEndian.AppendUint16(nil, port)),
		},
	}
}

func pingRequest() clause {
	const echoRequest = 8
	return clause{
		"icmp type echo-request",
		[]expr.Any{
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register}, compare(is, []byte{unix.IPPROTO_ICMP}),
			load(expr.PayloadBaseTransportHeader, 0, 1), compare(is, []byte{echoRequest}),
		},
	}
}

// Connection tracking bits; the status ones are IPS_CONFIRMED and IPS_DST_NAT of
// nf_conntrack_common.h.
const (
	stateReply      = expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED
	statusConfirmed = 1 << 3
	statusDNAT      = 1 << 5
)

func ctReply() clause   { return ctBits("state", "established,related", expr.CtKeySTATE, stateReply) }
func ctInvalid() clause { return ctBits("state", "invalid", expr.CtKeySTATE, expr.CtStateBitINVALID) }
func ctRelated() clause { return ctBits("state", "related", expr.CtKeySTATE, expr.CtStateBitRELATED) }
func ctDNAT() clause    { return ctBits("status", "dnat", expr.CtKeySTATUS, statusDNAT) }

// ctOriginal matches packets of the side that opened the connection, ctBack those of the
// other side. Neither matches a packet of no connection. The values are those of enum
// ip_conntrack_dir.
func ctOriginal() clause { return ctDirection("original", 0) }
func ctBack() clause     { return ctDirection("reply", 1) }

func ctDirection(name string, number byte) clause {
	return clause{
		"ct direction " + name,
		[]expr.Any{&expr.Ct{Key: expr.CtKeyDIRECTION, Register: register}, compare(is, []byte{number})},
	}
}

// ctUnconfirmed matches the first packet of a connection, which is not in the
// table yet.
func ctUnconfirmed() clause {
	c := ctBits("status", "! confirmed", expr.CtKeySTATUS, statusConfirmed)
	c.exprs[len(c.exprs)-1] = compare(is, make([]byte, 4))
	return c
}

func ctBits(word, value string, key expr.CtKey, bits uint32) clause {
	return clause{
		"ct " + word + " " + value,
		[]expr.Any{
			&expr.Ct{Key: key, Register: register},
			&expr.Bitwise{
				SourceRegister: register, DestRegister: register, Len: 4,
				Mask: binary.NativeEndian.AppendUint32(nil, bits), Xor: make([]byte, 4),
			},
			compare(isNot, make([]byte, 4)),
		},
	}
}

func accept() clause {
	return clause{"accept", []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}}
}

func drop() clause {
	return clause{"drop", []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}}
}

func masquerade() clause {
	return clause{"masquerade", []expr.Any{&expr.Masq{}}}
}

func dnatTo(a netip.Addr) clause {
	return clause{
		"dnat to " + a.String(),
		[]expr.Any{
			&expr.Immediate{Register: register, Data: a.AsSlice()},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: register},
		},
	}
}
