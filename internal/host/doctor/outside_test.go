package doctor

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// world is a dial to a world of nameservers and addresses, each of which is
// there or not.
func world(t *testing.T, there ...string) dial {
	t.Helper()
	server, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	go func() {
		buf := make([]byte, 512)
		for {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			buf[2], buf[3] = 0x81, 0x83 // RFC 1035: a response, no such name
			_, _ = server.WriteTo(buf[:n], from)
		}
	}()
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		for _, a := range there {
			switch {
			case a != address:
			case network == "udp":
				return new(net.Dialer).DialContext(ctx, network, server.LocalAddr().String())
			default:
				return nil, unix.ECONNREFUSED // an answer
			}
		}
		return nil, errors.New("unreachable")
	}
}

func TestOutside(t *testing.T) {
	one, two := netip.MustParseAddr("192.0.2.53"), netip.MustParseAddr("192.0.2.54")
	o := outside{nameservers: []netip.Addr{one, two}, addresses: []string{"198.51.100.1:443", "198.51.100.2:443"}}
	for name, c := range map[string]struct {
		from, machine []string
		why           string
		dns, egress   Status
		says          [2]string
	}{
		"all well":       {[]string{"192.0.2.53:53", "192.0.2.54:53", "198.51.100.2:443"}, nil, "", OK, OK, [2]string{"for a sandbox's network", "198.51.100.2:443 is reached"}},
		"one silent":     {[]string{"192.0.2.53:53"}, nil, "", Warn, Warn, [2]string{"192.0.2.54: no answer", "not reached from a sandbox's network"}},
		"forward drop":   {nil, []string{"198.51.100.1:443"}, "", Warn, Warn, [2]string{"192.0.2.53, 192.0.2.54: no answer", "but not from a sandbox's network"}},
		"not as sandbox": {[]string{"192.0.2.53:53", "192.0.2.54:53"}, nil, "it is off", OK, Warn, [2]string{"for this machine", "not reached from this machine"}},
	} {
		t.Run(name, func(t *testing.T) {
			o.from, o.machine, o.why = world(t, c.from...), world(t, c.machine...), c.why
			for i, got := range []Check{o.checkNameservers(t.Context()), o.checkEgress(t.Context())} {
				want := []Status{c.dns, c.egress}[i]
				if got.Status != want || !strings.Contains(got.Found, c.says[i]) || !strings.Contains(got.Detail, c.why) {
					t.Errorf("got %+v, want %s with %q and %q", got, want, c.says[i], c.why)
				}
			}
		})
	}
}
