package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/client"
)

func (a *App) filesSignCmd() *cobra.Command {
	in := client.SignFileRequest{Operation: client.SignRead}
	var write bool
	var expires time.Duration
	cmd := &cobra.Command{
		Use:   "sign [flags] ID PATH",
		Short: "Print a URL that reads or writes a file without an API key",
		Long: "Print a URL with which anyone can read one file, or write it with --write and the method PUT, until it expires.\n" +
			"The end of the sandbox ends it, and `wrenn key revoke-urls` on the server revokes all.",
		Example: "  curl -OJ \"$(wrenn files sign $id /root/out.csv)\"\n  curl -T in.csv \"$(wrenn files sign --write --expires 10m $id /root/in.csv)\"",
		Args:    args(2, 2, "the ID of a sandbox and a path in it"),
	}
	flags := cmd.Flags()
	flags.BoolVarP(&write, "write", "w", false, "sign an upload")
	DurationVar(flags, &expires, "expires", time.Hour, "lifetime of the URL, 1 second to 7 days")
	flags.Int64Var(&in.MaxBytes, "max-bytes", 0, "largest upload in bytes (the server's limit)")
	flags.StringVarP(&in.User, "user", "u", "", "user of the file (the guest's default)")
	return a.onFiles(cmd, func(ctx context.Context, id string, paths []string) error {
		if in.Path = paths[0]; write {
			in.Operation = client.SignWrite
		}
		if in.ExpiresInSec = int(expires / time.Second); in.ExpiresInSec < 1 {
			return &Failure{Message: "the lifetime of a URL is at least 1 second"}
		}
		signed, err := a.Client().SignFile(ctx, id, in)
		switch {
		case err != nil:
			return err
		case a.json:
			return a.printJSON(signed)
		}
		_, err = fmt.Fprintln(a.io.Out, signed.URL)
		return err
	})
}
