package cli

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/client"
)

// tokenParameter is the query parameter with the traffic token.
const tokenParameter = "wrenn_traffic_token"

func (a *App) urlCmd() *cobra.Command {
	var withToken bool
	cmd := &cobra.Command{
		Use:   "url [flags] ID PORT",
		Short: "Print the address of a port of a sandbox",
		Long: "Print the address at which a program that listens on a port of a sandbox is reached. A port that is not public\n" +
			"needs the sandbox's traffic token, in the header X-Wrenn-Traffic-Token. With --token the address has it, for a\n" +
			"browser: whoever has that address can use the port.",
		Example: "  wrenn url $id 3000\n  curl \"$(wrenn url --token $id 3000)\"",
		Args:    args(2, 2, "the ID of a sandbox and a port"),
	}
	cmd.Flags().BoolVar(&withToken, "token", false, "add the traffic token to the address of a port that is not public")
	cmd.ValidArgsFunction = a.completeIDs(1, live...)
	cmd.RunE = func(cmd *cobra.Command, argv []string) error {
		port, err := strconv.ParseUint(argv[1], 10, 16)
		if err != nil || port == 0 {
			return usagef(cmd, "%q is not a port from 1 to 65535", argv[1])
		}
		id, err := a.sandboxID(cmd.Context(), argv[0])
		if err != nil {
			return err
		}
		traffic, err := a.Client().Traffic(cmd.Context(), id)
		if err != nil {
			return err
		}
		address, err := client.PortURL(traffic, uint16(port))
		if err != nil {
			return err
		}
		public := slices.Contains(traffic.PublicPorts, int(port))
		if withToken && !public && traffic.Token != nil {
			address += "?" + tokenParameter + "=" + url.QueryEscape(*traffic.Token)
		}
		if a.json {
			return a.printJSON(map[string]any{"url": address, "public": public})
		}
		_, err = fmt.Fprintln(a.io.Out, address)
		return err
	}
	return cmd
}
