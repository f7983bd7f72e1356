package cli

import (
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/wrenn-dev/wrenn/client"
	"github.com/wrenn-dev/wrenn/internal/build/dockerfile"
	"github.com/wrenn-dev/wrenn/internal/build/plan"
)

// dockerHub is the name under which the server knows Docker Hub, and dockerIndex the one
// of Docker's configuration.
const (
	dockerHub   = "docker.io"
	dockerIndex = "index.docker.io"
)

// buildSources is the part of a build's plan that this program needs before it asks the server.
type buildSources struct {
	// registries are the host names of the registries from which the server pulls images, sorted.
	registries []string
	// takesFiles says that a step takes files of the directory.
	takesFiles bool
}

// sourcesOf reads the text of a build with the parser of the server, so that the credentials of a
// registry are sent only if the build pulls an image from it. Stages that the target does not
// need count for nothing, as on the server. The error is that of the text.
func sourcesOf(req *client.BuildRequest) (buildSources, error) {
	p := plan.Plan{Stages: make([]plan.Stage, 1)}
	if req.Dockerfile != "" {
		var err error
		// There is no archive yet. Its key decides nothing here.
		p, err = dockerfile.Parse(req.Dockerfile, dockerfile.Options{Context: "context", Target: req.Target, Args: req.BuildArgs})
		if err != nil {
			return buildSources{}, err
		}
	}
	if req.From != nil {
		p.Stages[len(p.Stages)-1].From = plan.Base{Image: req.From.Image}
	}
	out := buildSources{takesFiles: p.TakesContext()}
	for _, image := range p.Images() {
		if host := registryOf(image); host != "" && !slices.Contains(out.registries, host) {
			out.registries = append(out.registries, host)
		}
	}
	slices.Sort(out.registries)
	return out, nil
}

// unreadText returns the text of an error of sourcesOf without its code.
func unreadText(err error) string { return strings.TrimPrefix(err.Error(), dockerfile.Reason+": ") }

// registryOf returns the host name of the registry of an image, or "" for a text that is no
// reference.
func registryOf(reference string) string {
	ref, err := name.ParseReference(reference)
	if err != nil {
		return ""
	}
	host := ref.Context().RegistryStr()
	if host == dockerIndex {
		return dockerHub
	}
	return host
}

// dockerLogins returns the credentials that Docker's configuration has for the registries:
// ~/.docker/config.json, or $DOCKER_CONFIG, with its credential helpers.
func dockerLogins(hosts []string) []client.RegistryLogin {
	var out []client.RegistryLogin
	for _, host := range hosts {
		index := host
		if host == dockerHub {
			index = dockerIndex
		}
		registry, err := name.NewRegistry(index)
		if err != nil {
			continue
		}
		// A helper that fails is as one without credentials: the image may be public.
		auth, err := authn.DefaultKeychain.Resolve(registry)
		if err != nil {
			continue
		}
		c, err := auth.Authorization()
		if err != nil || c.Username == "" || c.Password == "" {
			continue
		}
		out = append(out, client.RegistryLogin{Server: host, Username: c.Username, Password: c.Password})
	}
	return out
}
