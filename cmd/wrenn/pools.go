package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/host"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// poolSettings are the kinds and numbers of warm clones.
type poolSettings struct {
	values []string
	kinds  []host.PoolKind
}

// maxPool bounds one pool: each clone takes some 60 MB of the host's memory.
const maxPool = 1000

func (s *poolSettings) flags(f flagSet) {
	f.StringArrayVar(&s.values, "pool", []string{"2"}, "warm clones to keep: a number of the default size, or a kind such as\n"+
		"template=minimal,runtime=gvisor,vcpus=2,memory_mb=1024,disk_mb=4096,size=3; may be repeated")
}

func (s *poolSettings) validate() error {
	s.kinds = nil
	for _, value := range s.values {
		kind, err := parsePool(value)
		if err != nil {
			return fmt.Errorf("--pool is a number, or a list such as vcpus=2,memory_mb=1024,size=3, not %q: %w", value, err)
		}
		if kind.Size > 0 {
			s.kinds = append(s.kinds, kind)
		}
	}
	return nil
}

// parsePool reads "3", or "vcpus=2,size=3" with the names of the REST API.
func parsePool(value string) (host.PoolKind, error) {
	var kind host.PoolKind
	fields := map[string]*int{
		"vcpus": &kind.Spec.VCPUs, "memory_mb": &kind.Spec.MemoryMB, "disk_mb": &kind.Spec.DiskMB, "size": &kind.Size,
	}
	if !strings.Contains(value, "=") {
		value = "size=" + value
	}
	for _, item := range strings.Split(value, ",") {
		name, text, _ := strings.Cut(item, "=")
		switch name {
		case "template":
			kind.Spec.Template = text
			continue
		case "runtime":
			if text != autoRuntime {
				kind.Spec.Runtime = sandbox.Runtime(text)
			}
			continue
		}
		field, ok := fields[name]
		if !ok {
			return kind, fmt.Errorf("there is no field %q", name)
		}
		n, err := strconv.Atoi(text)
		if err != nil {
			return kind, fmt.Errorf("%s is a number", name)
		}
		*field = n
	}
	if kind.Size < 0 || kind.Size > maxPool {
		return kind, fmt.Errorf("size is from 0 to %d", maxPool)
	}
	kind.Spec = kind.Spec.WithDefaults()
	return kind, sandbox.Spec.Validate(kind.Spec)
}
