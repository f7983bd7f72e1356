package host

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/image"
	"github.com/wrenn-dev/wrenn/internal/host/oci"
	"github.com/wrenn-dev/wrenn/internal/host/snapshot"
)

// ImageSource is the place of a container image.
type ImageSource struct {
	// Reference names an image in a registry; empty is the archive of Content.
	Reference          string
	Username, Password string
	Content            io.Reader
}

// ImportEvent tells how far an import is.
type ImportEvent = image.Event

// ImportedImage is a container image that is a template of this host.
type ImportedImage struct {
	// Name is that of the template, Digest that of the image's manifest.
	Name, Digest    string
	Env             []string
	User, Workdir   string
	Entrypoint, Cmd []string
}

const (
	// importTimeout bounds one import.
	importTimeout = time.Hour
	// imagesInterval is the time between two looks for imported images that nothing
	// uses.
	imagesInterval = time.Hour
	// garbageImage is the kind of an imported image.
	garbageImage = "image"
)

// ImportImage makes a template of a container image, or returns the one that it made
// before. Progress is called from one goroutine.
func (m *Manager) ImportImage(ctx context.Context, src ImageSource, progress func(ImportEvent)) (ImportedImage, error) {
	if err := m.diskReserve(); err != nil {
		return ImportedImage{}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, importTimeout,
		fault.New(fault.Timeout, "import_timeout", "the import of the image took longer than %s", importTimeout))
	defer cancel()
	defer context.AfterFunc(m.life, cancel)()
	t, err := m.deps.Images.Import(ctx, image.Source{
		Remote:  oci.Remote{Reference: src.Reference, Username: src.Username, Password: src.Password},
		Content: src.Content,
	}, progress)
	switch {
	case err == nil:
	case m.life.Err() != nil:
		return ImportedImage{}, fault.Wrap(err, fault.HostFailed, "host_stopping", "the host agent is stopping")
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return ImportedImage{}, errors.Join(context.Cause(ctx), err)
	default:
		return ImportedImage{}, err
	}
	out := ImportedImage{Name: t.Name}
	if i := t.Imported; i != nil {
		out.Digest, out.Env, out.User, out.Workdir, out.Entrypoint, out.Cmd = i.Digest, i.Env, i.User, i.Workdir, i.Entrypoint, i.Cmd
	}
	return out, nil
}

// keepImages looks for unused imported images from time to time, until ctx ends.
func (m *Manager) keepImages(ctx context.Context) {
	tick := time.NewTicker(imagesInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			m.guarded("removing unused images", func() {
				if _, err := m.CollectGarbage(ctx, false); err != nil && ctx.Err() == nil {
					m.log.Warn("could not remove everything that nothing needs", "error", err)
				}
			})
		}
	}
}

// collectImages removes the imported images that nothing on this host refers to and that
// nobody has used for Config.ImageAge; a dry run only returns them. It marks the others
// as used: agents that share the images remove none of each other's.
func (m *Manager) collectImages(ctx context.Context, dryRun bool) ([]snapshot.Garbage, error) {
	inUse, err := m.imagesInUse()
	if err != nil {
		return nil, err
	}
	all, err := m.deps.Images.Templates()
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, t := range all {
		if t.Imported != nil && (inUse[t.Digest] || inUse[t.Name]) {
			if err := m.deps.Images.Use(t); !fault.Is(err, fault.NotFound) {
				errs = append(errs, err)
			}
		}
	}
	unused, err := m.deps.Images.Unused(m.cfg.ImageAge)
	if err != nil {
		return nil, errors.Join(append(errs, err)...)
	}
	var out []snapshot.Garbage
	for _, t := range unused {
		if inUse[t.Digest] || inUse[t.Name] {
			continue
		}
		removed, err := true, error(nil)
		if !dryRun {
			removed, err = m.deps.Images.Remove(ctx, t, m.cfg.ImageAge)
			errs = append(errs, err)
		}
		if removed && err == nil {
			out = append(out, snapshot.Garbage{
				Kind: garbageImage, ID: t.Name, Bytes: uint64(t.SizeBytes), Reason: "it was imported, nothing is based on it and nobody has used it lately",
			})
		}
	}
	return out, errors.Join(errs...)
}

// imagesInUse returns the digests of the images that sandboxes and snapshots have, and the
// names of those of warm clones.
func (m *Manager) imagesInUse() (map[string]bool, error) {
	used := make(map[string]bool)
	for _, s := range m.List() {
		used[s.TemplateDigest] = true
	}
	snapshots, err := m.Snapshots()
	if err != nil {
		return nil, err
	}
	for _, s := range snapshots {
		used[s.TemplateDigest] = true
	}
	for _, p := range m.Pools() {
		used[p.Spec.Template] = true
	}
	return used, nil
}
