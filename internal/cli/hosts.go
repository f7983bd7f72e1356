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
		Args:  args(0, 0, "nothing"),
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

// printHosts prints the hosts. LARGEST is the largest sandbox that a host accepts,
// WARM its ready and wanted warm clones.
func (a *App) printHosts(hosts []client.Host) error {
	t := a.NewTable("~HOST", "STATE", "ACCEL", "ISOLATION", "SIZE", "DISK FREE", "LARGEST", "WARM", "~TEMPLATES")
	for _, h := range hosts {
		t.Row(h.ID, hostState(h), h.Acceleration, h.Isolation, showShape(h.VCPUs, h.MemoryMB), showBytes(h.DiskFreeBytes),
			showShape(h.Limits.MaxVCPUs, h.Limits.MaxMemoryMB), showPools(h.Pools), strings.Join(h.Templates, " "))
	}
	return t.Flush()
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
