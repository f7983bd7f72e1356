package cli

import (
	"cmp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/client"
)

// everyAddress is the range of all IPv4 addresses.
const everyAddress = "0.0.0.0/0"

// networkFlags are the flags that replace the limits of outgoing traffic.
type networkFlags struct {
	deny, allow     []string
	offline, online bool
}

func (a *App) networkCmd() *cobra.Command {
	var f networkFlags
	cmd := &cobra.Command{
		Use:   "network [flags] ID",
		Short: "Show or change the addresses that a sandbox can reach",
		Long: "Show the limits of outgoing traffic of a sandbox. With flags, replace all of them first: at once for a sandbox that\n" +
			"runs, also for its open connections, and with the next resume for a paused one.",
		Example: "  wrenn network --offline $id\n  wrenn network --offline --allow-out 203.0.113.0/24 $id\n  wrenn network --online $id",
		Args:    args(1, 1, "the ID of a sandbox"),
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&f.deny, "deny-out", nil, "IPv4 address or range to which the sandbox cannot open connections, may be repeated")
	flags.StringSliceVar(&f.allow, "allow-out", nil, "exception from --deny-out or --offline, may be repeated")
	flags.BoolVar(&f.offline, "offline", false, "let the sandbox open no connections, except to those of --allow-out")
	flags.BoolVar(&f.online, "online", false, "take all limits away")
	cmd.ValidArgsFunction = a.completeIDs(1, live...)
	cmd.RunE = func(cmd *cobra.Command, argv []string) error {
		if err := f.check(cmd); err != nil {
			return err
		}
		id, err := a.sandboxID(cmd.Context(), argv[0])
		if err != nil {
			return err
		}
		var limits *client.Network
		if f.given() {
			limits, err = a.Client().SetNetwork(cmd.Context(), id, f.request())
		} else {
			limits, err = a.Client().Network(cmd.Context(), id)
		}
		if err != nil {
			return err
		}
		if a.json {
			return a.printJSON(limits)
		}
		return a.printLines(networkLines(*limits))
	}
	return cmd
}

// given reports whether the limits are to be changed.
func (f *networkFlags) given() bool { return f.limits() || f.online }

// limits reports whether there will be limits.
func (f *networkFlags) limits() bool { return f.offline || len(f.deny) > 0 || len(f.allow) > 0 }

func (f *networkFlags) check(cmd *cobra.Command) error {
	switch {
	case f.online && f.limits():
		return usagef(cmd, "--online takes all limits away: give no other limit with it")
	case len(f.allow) > 0 && !f.offline && len(f.deny) == 0:
		return usagef(cmd, "--allow-out makes exceptions: give --offline or --deny-out too")
	}
	return nil
}

func (f *networkFlags) request() client.NetworkRequest {
	deny := f.deny
	if f.offline {
		deny = append(slices.Clone(deny), everyAddress)
	}
	return client.NetworkRequest{EgressDeny: deny, EgressAllow: f.allow}
}

// networkLines show n.
func networkLines(n client.Network) []line {
	if len(n.EgressDeny) == 0 {
		return []line{{"outgoing", "no limits for this sandbox"}}
	}
	return []line{
		{"denied", strings.Join(n.EgressDeny, ", ")},
		{"except", cmp.Or(strings.Join(n.EgressAllow, ", "), "none")},
	}
}
