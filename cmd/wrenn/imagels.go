package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/wrenn-dev/wrenn/internal/host/image"
)

// States of an image.
const (
	imagePrepared = "prepared"
	imageOutdated = "outdated" // made from the recipe of an earlier version
	imageMissing  = "missing"
)

// imageOutput is the image of a template for --json.
type imageOutput struct {
	Name string `json:"name"`
	// Kind is "built_in", "imported", or "other" for a recipe that this version does not have.
	Kind      string     `json:"kind"`
	State     string     `json:"state"`
	SizeBytes int64      `json:"size_bytes"`
	Digest    string     `json:"digest"`
	CreatedAt *time.Time `json:"created_at"`
	// Reference is the place in a registry from which the image was imported, or empty.
	Reference string `json:"reference"`
}

func (p program) addImageList(parent *cobra.Command) {
	cfg := new(imageConfig)
	cmd := &cobra.Command{
		Use:   "ls [flags]",
		Short: "List the images of templates on this machine",
		Long: "List the built-in templates, with the images that are prepared in the data directory, and the container images that\n" +
			"template builds have imported. \"outdated\" images were made by an earlier version; \"wrenn image build\" makes them anew.",
		Annotations: map[string]string{printsJSON: ""},
	}
	p.add(parent, cmd, config{&cfg.data}, func(context.Context, []string) error {
		store, err := image.Open(cfg.data.layout().images(), slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		found, err := store.Templates()
		if err != nil {
			return err
		}
		return p.printImages(imagesOf(found))
	})
}

// imagesOf returns the built-in templates, in their order, and then the other images of
// found.
func imagesOf(found []image.Template) []imageOutput {
	out := []imageOutput{}
	at := make(map[string]int)
	for _, name := range image.BuiltInNames() {
		at[name] = len(out)
		out = append(out, imageOutput{Name: name, Kind: "built_in", State: imageMissing})
	}
	for _, t := range found {
		one := imageOutput{Name: t.Name, Kind: "other", State: imagePrepared, SizeBytes: t.SizeBytes, Digest: t.Digest, CreatedAt: &t.CreatedAt}
		if t.Imported != nil {
			one.Kind, one.Reference = "imported", t.Imported.Reference
		}
		recipe, builtIn := image.BuiltIn(t.Name)
		if !builtIn {
			out = append(out, one)
			continue
		}
		if one.Kind = "built_in"; t.RecipeDigest != recipe.Digest() {
			one.State = imageOutdated
		}
		out[at[t.Name]] = one
	}
	return out
}

func (p program) printImages(all []imageOutput) error {
	if p.app.JSON() {
		return p.printJSON(all)
	}
	now := time.Now()
	t := p.app.NewTable("NAME", "STATE", "SIZE", "?DIGEST", "?CREATED", "~FROM")
	for _, i := range all {
		size := "-"
		if i.CreatedAt != nil {
			size = fmt.Sprintf("%d MiB", i.SizeBytes>>20)
		}
		from := i.Reference
		switch {
		case i.Kind != "imported":
			from = "recipe"
		case from == "":
			from = "archive"
		}
		t.Row(i.Name, i.State, size, fmt.Sprintf("%.12s", i.Digest), showAgo(i.CreatedAt, now), from)
	}
	return t.Flush()
}
