package cli

import (
	"fmt"
	"strings"

	"github.com/wrenn-dev/wrenn/client"
)

// filterFlag collects KEY=VALUE conditions, all of which must hold.
type filterFlag struct{ given []string }

func (f *filterFlag) String() string { return "" }

func (f *filterFlag) Type() string { return "KEY=VALUE" }

func (f *filterFlag) Set(s string) error {
	key, _, ok := strings.Cut(s, "=")
	if name, isMeta := strings.CutPrefix(key, "metadata."); ok && (isMeta && name != "" || key == "name" || key == "template" || key == "status") {
		f.given = append(f.given, s)
		return nil
	}
	return fmt.Errorf("%q is no filter: write metadata.KEY=VALUE, name=NAME, template=NAME or status=STATUS", s)
}

// apply adds the conditions to opts. Two values for a field with one value are an
// error.
func (f *filterFlag) apply(opts *client.ListOptions) error {
	for _, given := range f.given {
		key, value, _ := strings.Cut(given, "=")
		var once *string
		switch key {
		case "name":
			once = &opts.Name
		case "template":
			once = &opts.Template
		case "status":
			opts.Status = append(opts.Status, value)
			continue
		default:
			name := strings.TrimPrefix(key, "metadata.")
			old, twice := opts.Metadata[name]
			if twice && old != value {
				return fmt.Errorf("--filter: no sandbox has two values of %s", key)
			}
			if opts.Metadata == nil {
				opts.Metadata = map[string]string{}
			}
			opts.Metadata[name] = value
			continue
		}
		if *once != "" && *once != value {
			return fmt.Errorf("--filter: no sandbox has two values of %s", key)
		}
		*once = value
	}
	return nil
}
