package host

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/wrenn-dev/wrenn/api/gen/process"
	"github.com/wrenn-dev/wrenn/internal/guestclient"
	"github.com/wrenn-dev/wrenn/internal/host/disk"
	"github.com/wrenn-dev/wrenn/internal/host/journal"
	"github.com/wrenn-dev/wrenn/internal/host/memory"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// coldBoot boots a kernel in a machine for a template snapshot and runs the
// operations that every sandbox begins with. Clones then find that code and
// those pages in the memory they share.
func (m *machine) coldBoot(ctx context.Context) error {
	if err := os.MkdirAll(string(m.dir), 0o700); err != nil {
		return err
	}
	for _, s := range []step{
		{journal.StepTemplateRecord, m.makeDirs},
		{journal.StepTemplateDisk, func(ctx context.Context) error {
			return disk.Create(ctx, m.dir.disk(), int64(m.rec.Spec.DiskMB)<<20)
		}},
		{journal.StepTemplateNetwork, m.makeNetwork},
		{journal.StepTemplateCgroup, m.makeCgroup},
		{journal.StepTemplateMemory, func(context.Context) error {
			return memory.CreateBase(m.dir.bootMemory(), int64(m.rec.Spec.MemoryMB)<<20)
		}},
	} {
		if err := m.step(ctx, s.name, s.do); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	m.rec.Base = string(m.dir) // never held: it is the machine's own
	err := m.inTurn(ctx, func(ctx context.Context) error { return m.startGuest(ctx, m.bootOnce) })
	if err != nil {
		return err
	}
	m.rec.State = sandbox.Running
	return m.step(ctx, journal.StepTemplateWarm, m.warm)
}

func (m *machine) bootOnce(ctx context.Context) error {
	err := m.step(ctx, journal.StepTemplateVMM, func(ctx context.Context) (err error) {
		cfg := m.vmConfig(m.dir.bootMemory())
		if err := chown(cfg.MemoryFile, cfg.UID, cfg.GID); err != nil {
			return err
		}
		cfg.Kernel, cfg.Initrd = m.mgr.deps.Kernel.Vmlinux, m.mgr.deps.Initramfs.Path
		m.vm, err = m.mgr.driver.Start(ctx, cfg)
		return err
	})
	if err != nil {
		return err
	}
	if err := m.recordVM(); err != nil {
		return err
	}
	ctx, stop := m.untilExit(ctx)
	defer stop()
	if err := m.step(ctx, journal.StepTemplateGuest, m.awaitGuest); err != nil {
		return err
	}
	return m.step(ctx, journal.StepTemplateConfigure, func(ctx context.Context) error {
		return m.configure(ctx, renewal{identity: true, users: true, token: randomToken()})
	})
}

// warmTimeout bounds the exercise of a template; it counts for nothing else.
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
func (m *machine) warm(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, warmTimeout)
	defer cancel()
	scratch := "/tmp/.wrenn-warm-" + m.name // fake guests of one machine share /tmp
	for range 2 {
		for _, argv := range warmCommands {
			// The result says nothing about the machine: an image may lack any
			// of these programs.
			_ = m.runQuietly(ctx, argv)
		}
		if _, err := m.guest.WriteFile(ctx, guestclient.WriteFile{Path: scratch}, strings.NewReader("warm")); err != nil {
			return err
		}
		f, err := m.guest.ReadFile(ctx, scratch, "")
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, f.Body)
		_ = f.Body.Close()
		if err != nil {
			return err
		}
	}
	return m.runQuietly(ctx, []string{"rm", "-f", scratch})
}

// runQuietly runs one command in the guest to its end.
func (m *machine) runQuietly(ctx context.Context, argv []string) error {
	stdin := false
	stream, err := m.guest.Start(ctx, &process.StartRequest{
		Process: &process.ProcessConfig{Cmd: argv[0], Args: argv[1:]}, Stdin: &stdin,
	}, guestclient.StartOptions{Timeout: warmTimeout})
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
