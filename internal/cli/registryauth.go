package cli

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/wrenn-dev/wrenn/client"
)

// dockerHub is the name under which the server knows Docker Hub, and dockerIndex the one
// of Docker's configuration.
const (
	dockerHub   = "docker.io"
	dockerIndex = "index.docker.io"
)

var (
	fromLine = regexp.MustCompile(`(?i)^\s*FROM\s+(?:--\S+\s+)*(\S+)(?:\s+AS\s+(\S+))?`)
	argLine  = regexp.MustCompile(`(?i)^\s*ARG\s+([A-Za-z_][A-Za-z0-9_]*)=("[^"]*"|'[^']*'|\S*)`)
	copyFrom = regexp.MustCompile(`(?i)^\s*(?:COPY|ADD)\s.*--from=(\S+)`)
	// runFlags finds the flags of a RUN, of which mountFrom is an image or a stage.
	runFlags  = regexp.MustCompile(`(?i)^\s*RUN\s+((?:--\S+\s+)+)`)
	mountFrom = regexp.MustCompile(`(?:^|\s)--mount=(?:\S*,)?"?from=([^\s,"]+)`)
	variable  = regexp.MustCompile(`\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))`)
	// takesFiles finds the instructions that read the context.
	takesFiles = regexp.MustCompile(`(?im)^\s*(?:ONBUILD\s+)?(?:COPY|ADD)\s|--mount=`)
)

// registriesOf returns the host names of the registries from which the images of a
// Dockerfile come. It looks only at FROM, --from and the mounts of RUN, because the server reads
// the text: a registry that it misses gets no credentials.
func registriesOf(text string, args map[string]string) []string {
	known, stages, found := maps.Clone(args), map[string]bool{}, map[string]bool{}
	if known == nil {
		known = map[string]string{}
	}
	beforeFrom := true
	for _, line := range instructions(text) {
		reference := ""
		if m := fromLine.FindStringSubmatch(line); m != nil {
			reference, beforeFrom = m[1], false
			if host := registryOf(expandArgs(reference, known), stages); host != "" {
				found[host] = true
			}
			stages[strings.ToLower(m[2])] = true
			continue
		}
		if m := argLine.FindStringSubmatch(line); m != nil && beforeFrom {
			if _, given := known[m[1]]; !given {
				known[m[1]] = strings.Trim(m[2], `"'`)
			}
		}
		sources := copyFrom.FindAllStringSubmatch(line, 1)
		if m := runFlags.FindStringSubmatch(line); m != nil {
			sources = mountFrom.FindAllStringSubmatch(m[1], -1)
		}
		for _, m := range sources {
			if host := registryOf(expandArgs(m[1], known), stages); host != "" {
				found[host] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// instructions returns the lines of a Dockerfile, without comments. A line that ends with a
// backslash is joined with the next one.
func instructions(text string) []string {
	var out []string
	var line strings.Builder
	for part := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(part), "#") {
			continue
		}
		part, continued := strings.CutSuffix(strings.TrimRight(part, " \t\r\n"), `\`)
		line.WriteString(part)
		if !continued {
			out = append(out, line.String())
			line.Reset()
		}
	}
	return append(out, line.String())
}

// expandArgs replaces variables by their values. A text with an unknown one becomes "".
func expandArgs(text string, args map[string]string) string {
	known := true
	out := variable.ReplaceAllStringFunc(text, func(use string) string {
		value, ok := args[strings.Trim(use, "${}")]
		known = known && ok
		return value
	})
	if !known {
		return ""
	}
	return out
}

// registryOf returns the host name of the registry of an image, or "" for stages, templates
// and text that is no reference.
func registryOf(reference string, stages map[string]bool) string {
	if stages[strings.ToLower(reference)] || strings.EqualFold(reference, "scratch") || strings.HasPrefix(reference, "template:") ||
		strings.Trim(reference, "0123456789") == "" {
		return ""
	}
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
