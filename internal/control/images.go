package control

import (
	"context"
	"errors"
	"io"
	"slices"

	"github.com/wrenn-dev/wrenn/internal/fault"
)

// ImageImporter makes root images of container images.
type ImageImporter interface {
	// ImportImage makes a root image of a container image and returns it once
	// sandboxes can start from it. An image that the host has already is not fetched
	// again. Content is read to its end if src is an archive, and nil otherwise; an
	// error of content is returned. Progress is called from one goroutine at a time
	// and must return soon.
	//
	// Errors that the caller can act on have the kinds Invalid, NotFound,
	// Forbidden, Unsupported, TooLarge, NoCapacity and Unavailable.
	ImportImage(ctx context.Context, src ImageSource, content io.Reader, progress func(ImageProgress)) (HostImage, error)
}

// ImageSource is the place of a container image.
type ImageSource struct {
	// Reference names an image in a registry as Docker does:
	// [registry/]repository[:tag][@digest]. Empty means that the content is given:
	// a tar, which may be compressed with gzip, of an OCI image layout or as
	// "docker save" writes it.
	Reference string
	// Username and Password are for the registry. Both empty means the credentials
	// that the host has. A password alone is a bearer token.
	Username, Password string
}

// ImageProgress tells how far an import is.
type ImageProgress struct {
	// Stage is one of wait, receive, resolve, pull, unpack, pack and publish.
	Stage string
	// Detail is a line of text for people; may be empty.
	Detail string
	// Done and Total are in bytes; Total is 0 where it is not known.
	Done, Total int64
}

// HostImage is an image that a host has imported.
type HostImage struct {
	// Name is the template that a spec names to start from it. It begins with "oci-".
	Name string
	// Digest is that of the image's manifest, such as "sha256:...".
	Digest string
	// Env and the following are the image's settings, as its author wrote them.
	// Each entry of Env is NAME=VALUE.
	Env             []string
	User, Workdir   string
	Entrypoint, Cmd []string
}

// images is the use case that imports container images.
type images struct {
	common
	inventory *inventory
}

// ImportImage imports an image on the host hostID, or on a reachable host that does
// not drain if hostID is empty, and returns the image and the host's id. Content and
// progress are those of [ImageImporter]; content is read at most once.
func (i *images) ImportImage(ctx context.Context, hostID string, src ImageSource, content io.Reader, progress func(ImageProgress)) (HostImage, string, error) {
	if progress == nil {
		progress = func(ImageProgress) {}
	}
	id, err := i.importer(ctx, hostID)
	if err != nil {
		return HostImage{}, "", err
	}
	host, ok := i.fleet.Host(id)
	if !ok {
		return HostImage{}, "", noImporter()
	}
	watched := &watchedReader{r: content}
	image, err := host.ImportImage(ctx, src, watched, progress)
	switch {
	case err == nil:
	case watched.err != nil && errors.Is(err, watched.err):
		return HostImage{}, id, err // no fault of the host
	default:
		return HostImage{}, id, guestFault(err)
	}
	// The host's report now names the image. One that fails is repeated soon.
	if _, err := i.inventory.observe(ctx, id); err != nil {
		i.log.Warn("a host that has imported an image does not report", "host", id, "error", err)
	}
	return image, id, nil
}

// watchedReader keeps the error of a reader.
type watchedReader struct {
	r   io.Reader
	err error
}

// Read implements io.Reader.
func (w *watchedReader) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		w.err = err
	}
	return n, err
}

// importer returns the id of the host that imports: hostID, or the one with the most
// free disk.
func (i *images) importer(ctx context.Context, hostID string) (string, error) {
	hosts, err := i.inventory.remembered(ctx)
	if err != nil {
		return "", err
	}
	hosts = slices.DeleteFunc(slices.Clone(hosts), func(h HostInfo) bool {
		return !h.Reachable || (hostID == "" && h.Draining) || (hostID != "" && h.ID != hostID)
	})
	if len(hosts) == 0 {
		return "", noImporter()
	}
	best := slices.MaxFunc(hosts, func(a, b HostInfo) int {
		switch {
		case a.DiskFree < b.DiskFree:
			return -1
		case a.DiskFree > b.DiskFree:
			return 1
		}
		return 0
	})
	return best.ID, nil
}

func noImporter() error {
	return fault.New(fault.HostFailed, "host_unreachable", "no host agent that could import an image can be reached")
}
