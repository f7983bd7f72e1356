package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/client"
)

func (a *App) hostsCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "hosts [flags]",
		Short: "List the hosts with their capacity and templates",
		Long: "List the hosts with their capacity and templates. The first RUNTIME of a host is for sandboxes that ask for none,\n" +
			"and ISOLATION is that of the runtime. DISK ROOM is the disk that a host can still promise to new sandboxes; because of\n" +
			"overcommitment it may exceed the free disk. LARGEST is the largest sandbox that the host accepts, WARM its ready and\n" +
			"wanted warm clones. --json has the reason for each runtime, the free disk and further fields.",
		Args: args(0, 0, "nothing"),
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		hosts, err := a.Client().Hosts(cmd.Context())
		if err != nil {
			return err
		}
		if a.json {
			return a.printJSON(hosts)
		}
		return a.printHosts(hosts)
	}
	return cmd
}

// printHosts prints the hosts, each with a further row for each further runtime. The
// help of the command explains the columns.
func (a *App) printHosts(hosts []client.Host) error {
	t := a.NewTable("~HOST", "STATE", "RUNTIME", "~ISOLATION", "SIZE", "DISK ROOM", "?LARGEST", "WARM", "~TEMPLATES")
	for _, h := range hosts {
		t.Row(h.ID, hostState(h), preferredRuntime(h), h.Isolation, showShape(h.VCPUs, h.MemoryMB), showDiskRoom(h.DiskRoomMB),
			showShape(h.Limits.MaxVCPUs, h.Limits.MaxMemoryMB), showPools(h.Pools), strings.Join(h.Templates, " "))
		for i, r := range h.Runtimes {
			if i > 0 {
				t.Row("", "", r.Runtime, r.Isolation, "", "", "", "", "")
			}
		}
	}
	return t.Flush()
}

// preferredRuntime is the runtime of sandboxes that ask for none; "-" if the host does
// not report it.
func preferredRuntime(h client.Host) string {
	if len(h.Runtimes) == 0 {
		return "-"
	}
	return h.Runtimes[0].Runtime
}

// showDiskRoom shows an amount in MiB; "-" if the host did not report it.
func showDiskRoom(mb *int64) string {
	if mb == nil {
		return "-"
	}
	return showBytes(*mb << 20)
}

// showPools shows the ready and the wanted number of warm clones.
func showPools(pools []client.Pool) string {
	var ready, target int
	for _, p := range pools {
		ready, target = ready+p.Ready, target+p.Target
	}
	return fmt.Sprintf("%d/%d", ready, target)
}

func hostState(h client.Host) string {
	switch {
	case !h.Reachable:
		return "unreachable"
	case h.Draining:
		return "draining"
	default:
		return "ready"
	}
}
