package doctor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/network"
)

// Targets of the checks of the outside: a name that every nameserver of the
// internet knows, and addresses that answer from anywhere.
const knownName = "deb.debian.org."

var knownAddresses = []string{"9.9.9.9:443", "1.1.1.1:443"}

// Waits for an answer. The first packets through a new pair of devices may be
// lost, so that a question is asked more than once, and TCP needs some seconds.
const (
	answerTimeout  = 1200 * time.Millisecond
	answerTries    = 3
	connectTimeout = 4 * time.Second
)

// dial connects from somewhere to an IP address and port.
type dial func(ctx context.Context, network, address string) (net.Conn, error)

// outside looks at the world from the place of a sandbox, or, where that cannot
// be, from this machine.
type outside struct {
	nameservers []netip.Addr
	addresses   []string
	from        dial
	machine     dial
	// why explains why from is this machine; empty if it is a sandbox's network.
	why string
}

// checkOutside asks nameservers and connects to the outside as a sandbox does.
func checkOutside(ctx context.Context, cfg Config) []Check {
	machine := new(net.Dialer).DialContext
	o := outside{nameservers: cfg.Nameservers, addresses: knownAddresses, from: machine, machine: machine}
	sample, err := network.TakeSample(ctx, network.Config{
		Name: cfg.Name, Prefix: cfg.Network, Nameservers: cfg.Nameservers,
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		o.why = fault.As(err).Public
	} else {
		defer sample.Close()
		o.from = sample.Dial
	}
	var dns, egress Check
	var both sync.WaitGroup
	both.Go(func() { dns = o.checkNameservers(ctx) })
	both.Go(func() { egress = o.checkEgress(ctx) })
	both.Wait()
	return []Check{dns, egress}
}

// place names where o looks from.
func (o outside) place() string {
	if o.why == "" {
		return "a sandbox's network"
	}
	return "this machine"
}

// note adds to a detail that o does not look from a sandbox's network.
func (o outside) note(detail string) string {
	if o.why == "" {
		return detail
	}
	return strings.TrimPrefix(detail+"; not tried from a sandbox's network: "+o.why, "; ")
}

func (o outside) checkNameservers(ctx context.Context) Check {
	c := Check{Name: "sandbox dns", Status: OK}
	silent := make([]bool, len(o.nameservers))
	var all sync.WaitGroup
	for i, server := range o.nameservers {
		all.Go(func() { silent[i] = !answers(ctx, o.from, server) })
	}
	all.Wait()
	var good, bad []string
	for i, server := range o.nameservers {
		if silent[i] {
			bad = append(bad, server.String())
		} else {
			good = append(good, server.String())
		}
	}
	switch {
	case len(o.nameservers) == 0:
		c.Status, c.Found, c.Detail = Warn, "sandboxes get no nameserver", "they cannot look up names"
	case len(bad) == 0:
		c.Found, c.Detail = fmt.Sprintf("%s: answers for %s", strings.Join(good, ", "), o.place()), o.note("")
	case len(good) > 0:
		c.Status = Warn
		c.Found = fmt.Sprintf("%s: no answer for %s; %s: answers", strings.Join(bad, ", "), o.place(), strings.Join(good, ", "))
		c.Detail = o.note("programs in sandboxes wait for the silent one first; choose others with --nameserver")
	default:
		c.Status = Warn
		c.Found = fmt.Sprintf("%s: no answer for %s", strings.Join(bad, ", "), o.place())
		c.Detail = o.note("sandboxes cannot look up names; choose other nameservers with --nameserver")
	}
	return c
}

// answers reports whether a nameserver answers, be it that it does not know the
// name.
func answers(ctx context.Context, from dial, server netip.Addr) bool {
	resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return from(ctx, network, netip.AddrPortFrom(server, 53).String())
	}}
	for range answerTries {
		once, cancel := context.WithTimeout(ctx, answerTimeout)
		_, err := resolver.LookupNetIP(once, "ip4", knownName)
		cancel()
		var dnsErr *net.DNSError
		if err == nil || errors.As(err, &dnsErr) && dnsErr.IsNotFound {
			return true
		}
	}
	return false
}

func (o outside) checkEgress(ctx context.Context) Check {
	c := Check{Name: "sandbox egress", Status: OK}
	reached := o.reaches(ctx, o.from)
	switch {
	case reached != "":
		c.Found, c.Detail = fmt.Sprintf("%s is reached from %s", reached, o.place()), o.note("")
	case o.why == "" && o.reaches(ctx, o.machine) != "":
		c.Status = Warn
		c.Found = fmt.Sprintf("%s: reached from this machine, but not from a sandbox's network", strings.Join(o.addresses, ", "))
		c.Detail = "something on this machine, as a rule its firewall, drops what sandboxes send; see forwarding"
	default:
		c.Status = Warn
		c.Found = fmt.Sprintf("%s: not reached from %s", strings.Join(o.addresses, ", "), o.place())
		c.Detail = o.note("sandboxes have no way to the internet because this machine has none, or only through a proxy")
	}
	return c
}

// reaches returns the first of the addresses that answers, be it with a
// refusal, or nothing.
func (o outside) reaches(ctx context.Context, from dial) string {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	answered := make(chan string, len(o.addresses))
	var all sync.WaitGroup
	for _, address := range o.addresses {
		all.Go(func() {
			conn, err := from(ctx, "tcp", address)
			if err == nil {
				_ = conn.Close()
			}
			if err == nil || errors.Is(err, unix.ECONNREFUSED) {
				answered <- address
				cancel() // one is enough
			}
		})
	}
	all.Wait()
	close(answered)
	return <-answered
}
