package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
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
	refresh bool
	archive archiveSettings
}

// archiveSettings name the source of Debian's packages.
type archiveSettings struct{ mirror string }

func (s *archiveSettings) flags(f flagSet) {
	f.StringVar(&s.mirror, "debian-mirror", "", "URL of the Debian archive for guest kernels and templates (default: the one this machine uses)")
}

// open opens the image store, which is filled from that archive.
func (s archiveSettings) open(dirs layout, log *slog.Logger, options ...image.Option) (*image.Store, error) {
	return image.Open(dirs.images(), log, append(options, image.WithArchive(image.Archive{Mirror: s.mirror}))...)
}

func (s *buildSettings) flags(f flagSet) {
	s.archive.flags(f)
	f.BoolVar(&s.refresh, "refresh", false, "build again from Debian's current packages")
}

func (s *buildSettings) validate() error { return nil }

func (p program) addImage() {
	parent := &cobra.Command{Use: "image", Short: "Build and list guest kernels and templates"}
	p.addParent(parent)
	cfg := new(imageConfig)
	names := strings.Join(image.BuiltInNames(), ", ")
	cmd := &cobra.Command{
		Use:   "build [flags] [NAME...]",
		Short: "Build the guest kernel and templates",
		Long: "Build the guest kernel and built-in templates from Debian's signed archive, in the data directory. Without a NAME the\n" +
			"template is " + image.Minimal().Name + ". Complete images are kept unless --refresh is given. A running server offers a new\n" +
			"template at once.\n\n" +
			"Built-in templates: " + names,
		Example: "  sudo wrenn image build\n  sudo wrenn image build minimal code-interpreter-v1",
		Args: func(_ *cobra.Command, args []string) error {
			_, err := recipes(args)
			return err
		},
		ValidArgs: image.BuiltInNames(),
	}
	p.add(parent, cmd, config{&cfg.data, &cfg.build}, func(ctx context.Context, args []string) error {
		chosen, err := recipes(args)
		if err != nil {
			return err
		}
		return p.buildImages(ctx, cfg, chosen)
	})
	p.addImageList(parent)
}

// recipes returns the recipes of the named templates, or that of the default template if
// there are no names.
func recipes(names []string) ([]image.Recipe, error) {
	if len(names) == 0 {
		names = []string{image.Minimal().Name}
	}
	var out []image.Recipe
	for _, name := range names {
		r, known := image.BuiltIn(name)
		if !known {
			return nil, fmt.Errorf("there is no recipe for the template %q; there is one for each of: %s", name, strings.Join(image.BuiltInNames(), ", "))
		}
		out = append(out, r)
	}
	return out, nil
}

// addParent adds a group of commands.
func (p program) addParent(cmd *cobra.Command) {
	cmd.Args = noArgs
	hideForeignFlags(cmd)
	cmd.GroupID = cli.GroupServer
	p.app.Root().AddCommand(cmd)
}

func (p program) buildImages(ctx context.Context, cfg *imageConfig, chosen []image.Recipe) error {
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
	for _, recipe := range chosen {
		template, err := makeTemplate(ctx, recipe, p.progress("template "+recipe.Name))
		if err != nil {
			return err
		}
		p.say("template: %s, %d MiB, %.12s", template.Name, template.SizeBytes>>20, template.Digest)
	}
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
