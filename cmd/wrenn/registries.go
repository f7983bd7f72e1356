package main

import (
	"fmt"

	"github.com/wrenn-dev/wrenn/internal/host/oci"
)

// registrySettings say from which registries the host imports container images.
type registrySettings struct {
	registries, mirrors []string
}

func (s *registrySettings) flags(f flagSet) {
	f.StringSliceVar(&s.registries, "registry", nil, "registry that may be used although its address is not public, as HOST[:PORT]; with \",insecure\" "+
		"also without TLS or with a certificate that cannot be checked; may be repeated")
	f.StringSliceVar(&s.mirrors, "registry-mirror", nil, "registry to ask instead of another one, as REGISTRY=HOST[:PORT][/PREFIX], such as docker.io=mirror.example:5000; may be repeated")
}

func (s *registrySettings) validate() error {
	_, err := s.policy()
	return err
}

// policy returns what the host may use. The flag's list is split at commas, so that
// "insecure" follows its registry as an entry of its own.
func (s *registrySettings) policy() (oci.Policy, error) {
	p := oci.Policy{Mirrors: make(map[string]oci.Mirror)}
	for n, entry := range s.registries {
		if entry == "insecure" && n > 0 {
			p.Registries[len(p.Registries)-1].Insecure = true
			continue
		}
		r, err := oci.ParseRegistry(entry)
		if err != nil {
			return oci.Policy{}, fmt.Errorf("--registry: %w", err)
		}
		p.Registries = append(p.Registries, r)
	}
	for _, entry := range s.mirrors {
		of, m, err := oci.ParseMirror(entry)
		if err != nil {
			return oci.Policy{}, fmt.Errorf("--registry-mirror: %w", err)
		}
		if _, twice := p.Mirrors[of]; twice {
			return oci.Policy{}, fmt.Errorf("--registry-mirror: %s has two mirrors", of)
		}
		p.Mirrors[of] = m
	}
	return p, nil
}
