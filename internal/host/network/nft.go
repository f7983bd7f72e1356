package network

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// table, set and chain are a rule set as data: String writes it as nft(8)
// does, install gives it to the kernel.
type table struct {
	family nftables.TableFamily
	name   string
	sets   []set
	chains []chain
}

type set struct {
	name  string
	spans []span
}

type chain struct {
	name   string
	kind   nftables.ChainType
	hook   hook
	device string // for the ingress hook only
	drop   bool   // drops packets that no rule decides; false accepts them
	rules  []rule
}

// hook is a point in a packet's way at which a chain is run.
type hook struct {
	name     string
	number   *nftables.ChainHook
	priority *nftables.ChainPriority
	prioText string
}

var (
	hookIngress     = hook{"ingress", nftables.ChainHookIngress, nftables.ChainPriorityFilter, "filter"}
	hookPrerouting  = hook{"prerouting", nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest, "dstnat"}
	hookPostrouting = hook{"postrouting", nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource, "srcnat"}
	hookForward     = hook{"forward", nftables.ChainHookForward, nftables.ChainPriorityFilter, "filter"}
	hookInput       = hook{"input", nftables.ChainHookInput, nftables.ChainPriorityFilter, "filter"}
)

func (t table) String() string {
	family := map[nftables.TableFamily]string{nftables.TableFamilyIPv4: "ip", nftables.TableFamilyNetdev: "netdev"}[t.family]
	var b strings.Builder
	fmt.Fprintf(&b, "table %s %s {\n", family, t.name)
	for _, s := range t.sets {
		fmt.Fprintf(&b, "\tset %s {\n\t\ttype ipv4_addr\n\t\tflags interval\n\t\telements = { %s }\n\t}\n", s.name, s.text())
	}
	for _, c := range t.chains {
		device, verdict := "", "accept"
		if c.device != "" {
			device = fmt.Sprintf("device %q ", c.device)
		}
		if c.drop {
			verdict = "drop"
		}
		fmt.Fprintf(&b, "\tchain %s {\n\t\ttype %s hook %s %spriority %s; policy %s;\n", c.name, c.kind, c.hook.name, device, c.hook.prioText, verdict)
		for _, r := range c.rules {
			fmt.Fprintf(&b, "\t\t%s\n", r)
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}

func (s set) text() string {
	words := make([]string, len(s.spans))
	for i, sp := range s.spans {
		words[i] = sp.String()
	}
	return strings.Join(words, ", ")
}

// elements are the set's ranges as the kernel wants intervals: the first
// address in, the first address out. A range that ends with the highest
// address has no end element.
func (s set) elements() []nftables.SetElement {
	var all []nftables.SetElement
	for _, sp := range s.spans {
		all = append(all, nftables.SetElement{Key: sp.first.AsSlice()})
		if next := sp.last.Next(); next.IsValid() {
			all = append(all, nftables.SetElement{Key: next.AsSlice(), IntervalEnd: true})
		}
	}
	return all
}

// install puts the tables into the calling thread's namespace, which has none
// of their names, in one transaction.
func install(tables []table) error { return transact(tables, addTable) }

// replace is install where tables of the same names may be there and give way.
// It takes some ten milliseconds more: the kernel waits until no packet uses
// the old rules.
func replace(tables []table) error {
	return transact(tables, func(conn *nftables.Conn, t table) error {
		deleteTable(conn, t)
		return addTable(conn, t)
	})
}

// renewDenied changes the content of the set of denied ranges in tables that are
// installed, at once for all packets.
func renewDenied(tables []table) error {
	return transact(tables, func(conn *nftables.Conn, t table) error {
		for _, s := range t.sets {
			if s.name != denySet {
				continue
			}
			ks := &nftables.Set{
				Table: &nftables.Table{Family: t.family, Name: t.name}, Name: s.name, KeyType: nftables.TypeIPAddr, Interval: true,
			}
			conn.FlushSet(ks)
			if err := addElements(conn, ks, s); err != nil {
				return err
			}
		}
		return nil
	})
}

// uninstall removes the tables if they are there.
func uninstall(tables []table) error {
	return transact(tables, func(conn *nftables.Conn, t table) error {
		deleteTable(conn, t)
		return nil
	})
}

// transact queues something for each table and commits all of it at once.
func transact(tables []table, queue func(*nftables.Conn, table) error) error {
	if err := commit(func(conn *nftables.Conn) error {
		for _, t := range tables {
			if err := queue(conn, t); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return fault.Wrap(err, fault.HostFailed, "firewall_failed",
			"the host's firewall rules for sandboxes cannot be changed; the kernel must have nftables and the agent root's rights")
	}
	return nil
}

// deleteTable queues the removal of a table that may not be there: adding one
// that is there changes nothing.
func deleteTable(conn *nftables.Conn, t table) {
	target := &nftables.Table{Family: t.family, Name: t.name}
	conn.AddTable(target)
	conn.DelTable(target)
}

// elementsAtOnce keeps a message below the 64 KiB that an attribute can have.
const elementsAtOnce = 1000

// addElements queues the content of an empty set.
func addElements(conn *nftables.Conn, ks *nftables.Set, s set) error {
	for part := range slices.Chunk(s.elements(), elementsAtOnce) {
		if err := conn.SetAddElements(ks, part); err != nil {
			return err
		}
	}
	return nil
}

// addTable queues the making of a table with all its content.
func addTable(conn *nftables.Conn, t table) error {
	target := conn.AddTable(&nftables.Table{Family: t.family, Name: t.name})
	for i, s := range t.sets {
		// Set ids are local to a transaction. Left at 0 they would come from
		// an unguarded counter of the library.
		ks := &nftables.Set{Table: target, ID: uint32(i + 1), Name: s.name, KeyType: nftables.TypeIPAddr, Interval: true}
		if err := conn.AddSet(ks, nil); err != nil {
			return err
		}
		if err := addElements(conn, ks, s); err != nil {
			return err
		}
	}
	for _, c := range t.chains {
		verdict := nftables.ChainPolicyAccept
		if c.drop {
			verdict = nftables.ChainPolicyDrop
		}
		kc := conn.AddChain(&nftables.Chain{
			Table: target, Name: c.name, Type: c.kind, Hooknum: c.hook.number, Priority: c.hook.priority,
			Policy: &verdict, Device: c.device,
		})
		for _, r := range c.rules {
			conn.AddRule(&nftables.Rule{Table: target, Chain: kc, Exprs: r.exprs()})
		}
	}
	return nil
}
