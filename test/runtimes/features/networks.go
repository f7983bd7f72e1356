package features

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// networks are the parts of networks that a program can build in a sandbox.
func networks() []Feature {
	return []Feature{
		{"veth pair between network namespaces", "a TCP connection through it", func() error { return inChild("veth", nil) }},
		{"bridge", "a bridge with a veth as its port", bridge},
		{"dummy interface", "add one", link(func(a netlink.LinkAttrs) netlink.Link { return &netlink.Dummy{LinkAttrs: a} })},
		{"VXLAN", "add an interface", link(func(a netlink.LinkAttrs) netlink.Link { return &netlink.Vxlan{LinkAttrs: a, VxlanId: 7, Port: 4789} })},
		{"WireGuard", "add an interface", link(func(a netlink.LinkAttrs) netlink.Link { return &netlink.Wireguard{LinkAttrs: a} })},
		{"TUN device", "read a packet that was routed to it", tun},
		{"nftables", "make a table with a chain and list it", nft},
		{"iptables (legacy)", "read the table filter and write it back", iptables},
		{"traffic control", "a netem queue on the loopback", shaping},
		{"policy routing", "a rule", func() error {
			rule := netlink.NewRule()
			rule.Table, rule.Priority, rule.Family = 100, 1234, unix.AF_INET
			if err := netlink.RuleAdd(rule); err != nil {
				return err
			}
			return netlink.RuleDel(rule)
		}},
		{"IP forwarding", "set net.ipv4.ip_forward", func() error { return setting("net/ipv4/ip_forward", "1") }},
	}
}

// link returns a probe that adds an interface, sets it up and deletes it.
func link(of func(netlink.LinkAttrs) netlink.Link) func() error {
	return func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "probe0"
		l := of(attrs)
		if err := netlink.LinkAdd(l); err != nil {
			return err
		}
		return errors.Join(linkUp("probe0"), netlink.LinkDel(l))
	}
}

func linkUp(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(l)
}

func bridge() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "probebr"
	br := &netlink.Bridge{LinkAttrs: attrs}
	if err := netlink.LinkAdd(br); err != nil {
		return err
	}
	defer netlink.LinkDel(br)
	attrs.Name = "probev0"
	pair := netlink.NewVeth(attrs)
	pair.PeerName = "probev1"
	if err := netlink.LinkAdd(pair); err != nil {
		return err
	}
	defer netlink.LinkDel(pair)
	port, err := netlink.LinkByName("probev0")
	if err != nil {
		return err
	}
	made, err := netlink.LinkByName("probebr")
	if err != nil {
		return err
	}
	return errors.Join(netlink.LinkSetMaster(port, made), netlink.LinkSetUp(made), netlink.LinkSetUp(port))
}

// vethBetween connects two new network namespaces, each of which a thread is in.
func vethBetween() error {
	type end struct {
		ns  *os.File
		do  chan func() error
		got chan error
	}
	enter := func() (end, error) {
		e := end{do: make(chan func() error), got: make(chan error)}
		go func() {
			runtime.LockOSThread()
			err := unix.Unshare(unix.CLONE_NEWNET)
			if err == nil {
				e.ns, err = os.Open("/proc/thread-self/ns/net")
			}
			e.got <- err
			for do := range e.do {
				e.got <- do()
			}
		}()
		return e, <-e.got
	}
	a, err := enter()
	if err != nil {
		return err
	}
	b, err := enter()
	if err != nil {
		return err
	}
	in := func(e end, do func() error) error { e.do <- do; return <-e.got }
	err = in(a, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "probe0"
		pair := netlink.NewVeth(attrs)
		pair.PeerName, pair.PeerNamespace = "probe1", netlink.NsFd(int(b.ns.Fd()))
		return errors.Join(netlink.LinkAdd(pair), address("probe0", "10.9.9.1/24"))
	})
	if err != nil {
		return err
	}
	var l net.Listener
	err = in(b, func() (err error) {
		if err := address("probe1", "10.9.9.2/24"); err != nil {
			return err
		}
		l, err = net.Listen("tcp4", "10.9.9.2:0")
		return err
	})
	if err != nil {
		return err
	}
	go answer(l)
	return in(a, func() error { return ask("tcp4", l.Addr().String()) })
}

func address(link, prefix string) error {
	l, err := netlink.LinkByName(link)
	if err != nil {
		return err
	}
	addr, err := netlink.ParseAddr(prefix)
	if err != nil {
		return err
	}
	return errors.Join(netlink.AddrAdd(l, addr), netlink.LinkSetUp(l))
}

// answer sends back the bytes that one connection brings.
func answer(l net.Listener) {
	c, err := l.Accept()
	if err != nil {
		return
	}
	defer c.Close()
	_, _ = io.Copy(c, c)
}

// ask connects and wants its bytes back.
func ask(network, addr string) error {
	c, err := net.DialTimeout(network, addr, 5*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(c, "hello"); err != nil {
		return err
	}
	got := make([]byte, 5)
	_, err = io.ReadFull(c, got)
	return errors.Join(err, want(string(got) == "hello", "the answer is %q", got))
}

// echo listens, connects and sends a few bytes to and fro.
func echo(network, addr string) error {
	l, err := net.Listen(network, addr)
	if err != nil {
		return err
	}
	defer l.Close()
	go answer(l)
	return ask(network, l.Addr().String())
}

func tun() error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("probe0")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return err
	}
	if err := address("probe0", "10.9.8.1/24"); err != nil {
		return err
	}
	c, err := net.Dial("udp4", "10.9.8.2:9")
	if err != nil {
		return err
	}
	defer c.Close()
	packet := make([]byte, 2048)
	return soon("no packet arrived", func() bool {
		_, _ = io.WriteString(c, "hello")
		n, err := unix.Read(fd, packet)
		return err == nil && n > 20 && packet[0]>>4 == 4
	})
}

func nft() error {
	c := &nftables.Conn{}
	table := c.AddTable(&nftables.Table{Name: "probe", Family: nftables.TableFamilyINet})
	c.AddChain(&nftables.Chain{
		Name: "out", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityFilter,
	})
	if err := c.Flush(); err != nil {
		return err
	}
	chains, err := c.ListChains()
	if err != nil {
		return err
	}
	found := false
	for _, chain := range chains {
		found = found || chain.Table.Name == "probe"
	}
	c.DelTable(table)
	return errors.Join(c.Flush(), want(found, "the chain is not listed"))
}

func shaping() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	queue := netlink.NewNetem(netlink.QdiscAttrs{LinkIndex: lo.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		netlink.NetemQdiscAttrs{Latency: 1000})
	if err := netlink.QdiscAdd(queue); err != nil {
		return err
	}
	return netlink.QdiscDel(queue)
}

// setting writes a sysctl and reads it back.
func setting(name, value string) error {
	path := "/proc/sys/" + name
	before, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		return err
	}
	after, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	got := string(after)
	_ = os.WriteFile(path, before, 0) // most have the value of before
	return want(got == value+"\n", "it stays %s", fmt.Sprintf("%.20q", got))
}
