package main

import (
	"context"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

func (p program) addVersion() {
	p.app.Root().Version = version
	p.app.Root().SetVersionTemplate("wrenn {{.Version}}\n")
	cmd := &cobra.Command{Use: "version [flags]", Annotations: map[string]string{printsJSON: ""}, Short: "Show the version of wrenn"}
	p.add(p.app.Root(), cmd, nil, func(context.Context, []string) error {
		_, err := guestBinary()
		v := struct {
			Version string `json:"version"`
			Go      string `json:"go"`
			OS      string `json:"os"`
			Arch    string `json:"arch"`
			Guest   bool   `json:"guest"`
		}{version, runtime.Version(), runtime.GOOS, runtime.GOARCH, err == nil}
		if p.app.JSON() {
			return p.printJSON(v)
		}
		without := ""
		if !v.Guest {
			without = ", without guest agent"
		}
		_, err = fmt.Fprintf(p.io.Out, "wrenn %s (%s, %s/%s%s)\n", v.Version, v.Go, v.OS, v.Arch, without)
		return err
	})
}
