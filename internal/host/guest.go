package host

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"

	"github.com/wrenn-dev/wrenn/internal/host/disk"
	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/host/snapshot"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
)

// vmConfig returns the configuration of the body's VM. The VM runs under the build
// that its base was saved under; a cold boot passes no base.
func (b *body) vmConfig(base snapshot.Dir) (vmm.Config, error) {
	cfg, err := b.VMConfig()
	if err != nil {
		return cfg, err
	}
	cfg.RootImage, cfg.RootDigest = b.rec.RootImage, b.rec.TemplateDigest
	cfg.Hostname = b.rec.Spec.GuestHostname(b.rec.ID)
	if base != "" {
		cfg.Build, err = b.mgr.snapshots.BuildOf(base)
	}
	return cfg, err
}

// keepFiles makes root the owner of files that a VM process gets only as open
// descriptors, so that no process of the sandbox's user id can open them by name.
// It skips empty paths.
func keepFiles(paths ...string) error {
	for _, p := range paths {
		if p == "" {
			continue
		}
		if err := disk.Chown(p, 0, 0); err != nil {
			return err
		}
	}
	return nil
}

func (b *body) makeNetwork(ctx context.Context) error {
	rec, err := b.CreateNetwork(ctx)
	if err != nil {
		return err
	}
	b.rec.Network = &rec
	if err := b.limitEgress(); err != nil {
		return err
	}
	b.rec.GuestIP, b.rec.HostIP = b.Slot.GuestAddr().String(), b.Slot.HostAddr().String()
	return nil
}

func (b *body) awaitGuest(ctx context.Context) error {
	g := b.NewGuest()
	b.SetGuest(g)
	return causeOr(ctx, g.WaitReady(ctx))
}

// randomToken is a new access token for a guest.
func randomToken() string {
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails, see crypto/rand
	return hex.EncodeToString(random[:])
}

// guestEnv is the environment of every command: the variables of the sandbox, over
// the ones that tell a program where it runs, also under the names of E2B's sandboxes.
func guestEnv(rec *journal.Record) map[string]string {
	env := map[string]string{
		"WRENN_SANDBOX": "true", "WRENN_SANDBOX_ID": string(rec.ID),
		"E2B_SANDBOX": "true", "E2B_SANDBOX_ID": string(rec.ID), "E2B_TEMPLATE_ID": rec.Spec.Template,
	}
	for k, v := range rec.Spec.Env {
		env[k] = v
	}
	return env
}

// causeOr returns why ctx ended, where that is the reason for err.
func causeOr(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return errors.Join(context.Cause(ctx), err)
	}
	return err
}
