package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/internal/cli"
	"github.com/wrenn-dev/wrenn/internal/control"
	"github.com/wrenn-dev/wrenn/internal/control/auth"
	"github.com/wrenn-dev/wrenn/internal/control/postgres"
)

type keyConfig struct {
	data     dataSettings
	database databaseSettings
}

func (p program) addKey() {
	parent := &cobra.Command{
		Use:   "key",
		Short: "Create, list and revoke API keys",
		Long: "Create, list and revoke API keys directly in the database: the one of DATABASE_URL, or the embedded one of the\n" +
			"data directory, whether or not wrenn up runs. A running server applies the change with its next request.",
	}
	p.addParent(parent)
	p.addKeyCommand(parent, &cobra.Command{
		Use:   "create [flags] NAME",
		Short: "Create an API key and print it, only this once",
		Args:  oneArg("a NAME for the key"),
	}, p.createKey)
	p.addKeyCommand(parent, &cobra.Command{
		Use:   "ls [flags]",
		Short: "List the API keys",
		Args:  noArgs,
	}, p.listKeys)
	p.addKeyCommand(parent, &cobra.Command{
		Use:   "revoke [flags] ID",
		Short: "Revoke an API key permanently",
		Args:  oneArg("the ID of a key"),
	}, p.revokeKey)
	p.addRevokeURLs(parent)
}

// addRevokeURLs adds the command that replaces the secret of signed URLs.
func (p program) addRevokeURLs(parent *cobra.Command) {
	cfg := new(keyConfig)
	cmd := &cobra.Command{
		Use:   "revoke-urls [flags]",
		Short: "Revoke every signed URL of a file",
		Args:  noArgs,
	}
	p.add(parent, cmd, config{&cfg.data, &cfg.database}, func(ctx context.Context, _ []string) error {
		err := withStore(ctx, cfg.data.layout(), cfg.database, func(store *postgres.Store) error { return store.RevokeSignedURLs(ctx) })
		if err == nil {
			p.say("revoked; running servers refuse every URL that was signed before")
		}
		return err
	})
}

func (p program) addKeyCommand(parent, cmd *cobra.Command, do func(context.Context, *auth.Service, []string) error) {
	cfg := new(keyConfig)
	cmd.Annotations = map[string]string{printsJSON: ""}
	p.add(parent, cmd, config{&cfg.data, &cfg.database}, func(ctx context.Context, args []string) error {
		return withStore(ctx, cfg.data.layout(), cfg.database, func(store *postgres.Store) error {
			keys, err := auth.New(store)
			if err != nil {
				return err
			}
			return do(ctx, keys, args)
		})
	})
}

func oneArg(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("%s needs %s", cmd.Name(), name)
		}
		return nil
	}
}

// keyOutput is a key for --json. Key is set only when it has just been created.
type keyOutput struct {
	ID         string     `json:"id"`
	Name       string     `json:"name"`
	Prefix     string     `json:"prefix"`
	Key        string     `json:"key,omitempty"`
	CreatedAt  time.Time  `json:"created_at"`
	LastUsedAt *time.Time `json:"last_used_at"`
	RevokedAt  *time.Time `json:"revoked_at"`
}

func outputOf(k control.APIKey) keyOutput {
	return keyOutput{ID: k.ID, Name: k.Name, Prefix: k.Prefix, CreatedAt: k.CreatedAt, LastUsedAt: k.LastUsedAt, RevokedAt: k.RevokedAt}
}

func (p program) createKey(ctx context.Context, keys *auth.Service, args []string) error {
	k, plain, err := keys.Create(ctx, args[0])
	if err != nil {
		return err
	}
	if p.app.JSON() {
		out := outputOf(k)
		out.Key = plain
		return p.printJSON(out)
	}
	fmt.Fprintln(p.io.Out, plain)
	p.say("made %s for %q; the key is not shown again", k.ID, k.Name)
	return nil
}

func (p program) listKeys(ctx context.Context, keys *auth.Service, _ []string) error {
	list, err := keys.List(ctx)
	if err != nil {
		return err
	}
	if p.app.JSON() {
		out := []keyOutput{}
		for _, k := range list {
			out = append(out, outputOf(k))
		}
		return p.printJSON(out)
	}
	t := p.app.NewTable("ID", "~NAME", "PREFIX", "CREATED", "LAST USED", "REVOKED")
	now := time.Now()
	for _, k := range list {
		t.Row(k.ID, k.Name, k.Prefix, showAgo(&k.CreatedAt, now), showAgo(k.LastUsedAt, now), showAgo(k.RevokedAt, now))
	}
	return t.Flush()
}

func (p program) revokeKey(ctx context.Context, keys *auth.Service, args []string) error {
	if err := keys.Revoke(ctx, args[0]); err != nil {
		return err
	}
	fmt.Fprintln(p.io.Out, args[0])
	p.say("revoked; a running server refuses it from now on")
	return nil
}

// showAgo shows the age of a time; "-" for nil.
func showAgo(at *time.Time, now time.Time) string {
	if at == nil {
		return "-"
	}
	return cli.ShowAge(now.Sub(*at)) + " ago"
}
