package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/internal/cli"
	"github.com/wrenn-dev/wrenn/internal/host/image"
)

type imageConfig struct {
	data  dataSettings
	build buildSettings
}

// buildSettings are the settings of image build.
type buildSettings struct {
	template string
	refresh  bool
	archive  archiveSettings
}

// archiveSettings name the source of Debian's packages.
type archiveSettings struct{ mirror string }

func (s *archiveSettings) flags(f flagSet) {
	f.StringVar(&s.mirror, "debian-mirror", "", "URL of the Debian archive for guest kernels and templates (default: the one this machine uses)")
}

// open opens the image store, which is filled from that archive.
func (s archiveSettings) open(dirs layout, log *slog.Logger) (*image.Store, error) {
	return image.Open(dirs.images(), log, image.WithArchive(image.Archive{Mirror: s.mirror}))
}

func (s *buildSettings) flags(f flagSet) {
	f.StringVar(&s.template, "template", image.Minimal().Name, "template to build")
	s.archive.flags(f)
	f.BoolVar(&s.refresh, "refresh", false, "build again from Debian's current packages")
}

func (s *buildSettings) validate() error {
	if s.template != image.Minimal().Name {
		return fmt.Errorf("there is no recipe for the template %q; there is one for %s", s.template, image.Minimal().Name)
	}
	return nil
}

func (p program) addImage() {
	parent := &cobra.Command{Use: "image", Short: "Build guest kernels and templates"}
	p.addParent(parent)
	cfg := new(imageConfig)
	cmd := &cobra.Command{
		Use:   "build [flags]",
		Short: "Build the guest kernel and a template",
		Long: "Build the guest kernel and a template from Debian's signed archive, in the data directory. Complete images are\n" +
			"kept unless --refresh is given.",
	}
	p.add(parent, cmd, config{&cfg.data, &cfg.build}, func(ctx context.Context, _ []string) error { return p.buildImages(ctx, cfg) })
}

// addParent adds a group of commands.
func (p program) addParent(cmd *cobra.Command) {
	cmd.Args = noArgs
	hideForeignFlags(cmd)
	cmd.GroupID = cli.GroupServer
	p.app.Root().AddCommand(cmd)
}

func (p program) buildImages(ctx context.Context, cfg *imageConfig) error {
	guest, err := guestBinary()
	if err != nil {
		return err
	}
	dirs := cfg.data.layout()
	if err := dirs.make(); err != nil {
		return err
	}
	store, err := cfg.build.archive.open(dirs, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	makeKernel, makeTemplate := store.EnsureKernel, store.EnsureTemplate
	if cfg.build.refresh {
		makeKernel, makeTemplate = store.RefreshKernel, store.RefreshTemplate
	}
	began := time.Now()
	kernel, err := makeKernel(ctx, p.progress("kernel"))
	if err != nil {
		return err
	}
	p.say("kernel: %s", kernel.Package)
	template, err := makeTemplate(ctx, image.Minimal(), p.progress("template"))
	if err != nil {
		return err
	}
	p.say("template: %s, %d MiB, %.12s", template.Name, template.SizeBytes>>20, template.Digest)
	initramfs, err := store.EnsureInitramfs(ctx, kernel, guest)
	if err != nil {
		return err
	}
	p.say("initramfs: %.12s", initramfs.Digest)
	agent, err := store.EnsureAgent(ctx, guest)
	if err != nil {
		return err
	}
	p.say("guest agent for gVisor: %.12s", agent.Digest)
	p.say("ready in %s after %.1f s", dirs.images(), time.Since(began).Seconds())
	return nil
}

// progressEvery is the interval at which a long stage is reported again.
const progressEvery = 5 * time.Second

// progress reports each stage of a build when it begins and then at intervals.
func (p program) progress(name string) image.Progress {
	last, told := "", time.Time{}
	return func(e image.Event) {
		if e.Stage == last && time.Since(told) < progressEvery {
			return
		}
		last, told = e.Stage, time.Now()
		p.say("%s: %s %s", name, e.Stage, e.Detail)
	}
}
