package host

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/wrenn-dev/wrenn/api/gen/process"
	guestv1 "github.com/wrenn-dev/wrenn/api/gen/wrenn/guest/v1"
	"github.com/wrenn-dev/wrenn/internal/guestclient"
	"github.com/wrenn-dev/wrenn/internal/host/image"
	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// coldBoot boots a kernel in a VM for a template snapshot, runs the operations that every
// sandbox begins with, and starts the template's own processes. Clones then find that code
// and those pages in the memory they share.
func (b *body) coldBoot(ctx context.Context, start image.Start) error {
	if err := os.MkdirAll(string(b.Dir), 0o700); err != nil {
		return err
	}
	for _, s := range []step{
		{journal.StepTemplateRecord, b.makeDirs},
		{journal.StepTemplateDisk, b.createDisk},
		{journal.StepTemplateNetwork, b.makeNetwork},
		{journal.StepTemplateCgroup, b.CreateCgroup},
	} {
		if err := b.step(ctx, s.name, s.do); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	b.rec.Base = string(b.Dir) // needs no count: no other VM uses it
	err := b.inTurn(ctx, func(ctx context.Context) error { return b.startGuest(ctx, b.bootOnce) })
	if err != nil {
		return err
	}
	b.rec.State = sandbox.Running
	return b.step(ctx, journal.StepTemplateWarm, func(ctx context.Context) error {
		if err := b.warm(ctx); err != nil {
			return err
		}
		ctx, stop := b.UntilExit(ctx)
		defer stop()
		b.stage.set(stepTemplateStart)
		err := newTemplateStart(start, b.rec.Spec.Template, b.Guest()).run(ctx)
		return causeOr(ctx, err)
	})
}

func (b *body) bootOnce(ctx context.Context) error {
	err := b.step(ctx, journal.StepTemplateVMM, func(ctx context.Context) error { return b.startCold(ctx, string(b.Dir)) })
	if err != nil {
		return err
	}
	ctx, stop := b.UntilExit(ctx)
	defer stop()
	if err := b.step(ctx, journal.StepTemplateGuest, b.awaitGuest); err != nil {
		return err
	}
	return b.step(ctx, journal.StepTemplateConfigure, func(ctx context.Context) error {
		return b.configure(ctx, renewal{identity: true, users: true, token: randomToken()})
	})
}

// warmTimeout bounds the exercise of a template.
const warmTimeout = 60 * time.Second

// warmCommands run in every template before it is sealed. An image need not
// have any of them.
var warmCommands = [][]string{
	{"true"},
	{"/bin/sh", "-c", "true"},
	{"/bin/sh", "-c", "ls / >/dev/null; id >/dev/null; cat /etc/hostname >/dev/null"},
	{"python3", "-c", "import json, os, subprocess, sys"},
	{"/bin/bash", "-l", "-c", "true"},
}

// warm runs commands and moves files, twice, because the second round reaches code
// that the first has left cold.
func (b *body) warm(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, warmTimeout)
	defer cancel()
	scratch := "/tmp/.wrenn-warm-" + b.Name // fake guests share the host's /tmp
	for range 2 {
		for _, argv := range warmCommands {
			// The result says nothing about the VM: an image may lack any
			// of these programs.
			_ = b.runQuietly(ctx, argv)
		}
		if _, err := b.Guest().WriteFile(ctx, guestclient.WriteFile{Path: scratch}, strings.NewReader("warm")); err != nil {
			return err
		}
		f, err := b.Guest().ReadFile(ctx, guestclient.ReadFile{Path: scratch})
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, f.Body)
		_ = f.Body.Close()
		if err != nil {
			return err
		}
	}
	// An image need not have rm.
	_, err := b.Guest().CallFile(ctx, &guestv1.FileCall{Operation: &guestv1.FileCall_Remove{Remove: &guestv1.RemoveFile{Path: scratch}}})
	return err
}

// runQuietly runs one command in the guest to its end.
func (b *body) runQuietly(ctx context.Context, argv []string) error {
	stdin := false
	stream, err := b.Guest().Start(ctx, &process.StartRequest{
		Process: &process.ProcessConfig{Cmd: argv[0], Args: argv[1:]}, Stdin: &stdin,
	}, guestclient.StartOptions{Timeout: warmTimeout, Unrecorded: true})
	if err != nil {
		return err
	}
	defer stream.Close()
	for {
		if _, err := stream.Receive(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}
