package oci

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/untrusted"
)

// Remote names an image in a registry.
type Remote struct {
	// Reference is [registry/]repository[:tag][@digest].
	Reference string
	// Username and Password are for the registry; both empty means the credentials
	// that the user of this process has for Docker. A password alone is a bearer token.
	// Neither goes to a mirror.
	Username, Password string
}

// Open asks the registry for the manifest and the settings of an image.
func Open(ctx context.Context, p Policy, l Limits, r Remote) (*Image, error) {
	l = l.withDefaults()
	ref, mirrored, err := p.resolve(r.Reference)
	if err != nil {
		return nil, err
	}
	g := newGuard(p, l)
	s := &hub{repository: ref.Context()}
	i, err := s.open(ctx, g, l, ref, r, mirrored)
	if err != nil {
		g.close()
		return nil, registryFault(err, ref)
	}
	i.Reference, i.close = ref.Name(), g.close
	return i, nil
}

// hub is a repository of a registry as a source.
type hub struct {
	repository name.Repository
	puller     *remote.Puller
}

func (s *hub) open(ctx context.Context, g *guard, l Limits, ref name.Reference, r Remote, mirrored bool) (*Image, error) {
	options := []remote.Option{remote.WithTransport(g), remote.WithUserAgent("wrenn"), remote.WithJobs(2)}
	switch {
	case mirrored || r.Username == "" && r.Password == "":
		options = append(options, remote.WithAuthFromKeychain(authn.DefaultKeychain))
	case r.Username == "":
		options = append(options, remote.WithAuth(authn.FromConfig(authn.AuthConfig{RegistryToken: r.Password})))
	default:
		options = append(options, remote.WithAuth(authn.FromConfig(authn.AuthConfig{Username: r.Username, Password: r.Password})))
	}
	var err error
	if s.puller, err = remote.NewPuller(options...); err != nil {
		return nil, err
	}
	top, err := s.puller.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	if int64(len(top.Manifest)) > l.Manifest {
		return nil, tooLarge("its manifest has %d bytes, more than %d", len(top.Manifest), l.Manifest)
	}
	// The digest of a tag's manifest is computed from its content.
	algorithm := "sha256"
	if _, byDigest := ref.(name.Digest); byDigest {
		algorithm = top.Digest.Algorithm
	}
	d := top.Descriptor
	if d.Digest, err = digest(algorithm, top.Manifest); err != nil {
		return nil, err
	}
	if want, byDigest := ref.(name.Digest); byDigest && want.DigestStr() != d.Digest.String() {
		return nil, damaged(nil, "the registry's manifest is not the one of the digest %s", want.DigestStr())
	}
	i, err := resolve(ctx, s, l, d, top.Manifest)
	return i, err
}

func (s *hub) manifest(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	m, err := s.puller.Get(ctx, s.repository.Digest(d.Digest.String()))
	if err != nil {
		return nil, err
	}
	return readCloserOf(m.Manifest), nil
}

func (s *hub) blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	l, err := s.puller.Layer(ctx, s.repository.Digest(d.Digest.String()))
	if err != nil {
		return nil, err
	}
	return l.Compressed()
}

func (s *hub) layer(ctx context.Context, l layer) (io.ReadCloser, error) {
	return s.blob(ctx, l.blob)
}

// registryFault returns err, of a request for ref, as a fault that says what to do.
func registryFault(err error, ref name.Reference) error {
	where := untrusted.Line(ref.Context().RegistryStr(), 100)
	image := untrusted.Line(ref.Name(), 200)
	return asFault(err, func(err error) error {
		var answer *transport.Error
		var resolving *net.DNSError
		switch {
		case errors.Is(err, errNotAllowed):
			return fault.Wrap(err, fault.Forbidden, "registry_not_allowed",
				"this host may not connect to %s or to the address that it names: it is not public; the operator can list a registry with --registry", where)
		case errors.As(err, &answer):
			return answerFault(err, answer, where, image)
		case errors.As(err, &resolving) && resolving.IsNotFound:
			return fault.Wrap(err, fault.NotFound, "registry_not_found", "there is no registry %s; check the name of the image", where)
		case errors.Is(err, errStalled), errors.Is(err, context.DeadlineExceeded), isNetwork(err):
			return fault.Wrap(err, fault.Unavailable, "registry_unreachable", "the registry %s cannot be reached or does not answer; try again later", where)
		}
		return fault.Wrap(err, fault.Unavailable, "registry_failed", "the registry %s did not give %s: %s", where, image, untrusted.Line(err.Error(), 300))
	})
}

// answerFault is the fault of an error that the registry has sent.
func answerFault(err error, answer *transport.Error, where, image string) error {
	switch status := answer.StatusCode; {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return fault.Wrap(err, fault.Forbidden, "registry_denied",
			"the registry %s gives %s to nobody without the right credentials, or has no such image; check the name and the credentials", where, image)
	case status == http.StatusNotFound:
		return fault.Wrap(err, fault.NotFound, "image_not_found", "the registry %s has no image %s; check the name and the tag", where, image)
	case status == http.StatusTooManyRequests:
		return fault.Wrap(err, fault.Unavailable, "registry_busy", "the registry %s refuses more requests for now; try again later, or with credentials", where)
	}
	return fault.Wrap(err, fault.Unavailable, "registry_failed", "the registry %s answered with the status %d; try again later", where, answer.StatusCode)
}

func isNetwork(err error) bool {
	var n net.Error
	var op *net.OpError
	return errors.As(err, &n) && n.Timeout() || errors.As(err, &op) || errors.Is(err, io.ErrUnexpectedEOF)
}
