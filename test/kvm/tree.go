package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/wrenn-dev/wrenn/internal/host/image"
	"github.com/wrenn-dev/wrenn/test/kvm/plan"
)

// Programs of the host that the product calls, with further directories besides
// PATH.
var programs = []string{"qemu-system-x86_64", "mke2fs", "mkfs.erofs", "ip", "/bin/sh", "/bin/true", "sleep", "setsid"}

// insideImages is where the product looks for its images inside.
const insideImages = "/var/lib/wrenn/images"

// tree is a root file system that is being built.
type tree struct{ root string }

func (t tree) path(inside string) string { return filepath.Join(t.root, inside) }

// build fills the tree with programs, firmware, the product and its images.
func (t tree) build(ctx context.Context, bin string, images *image.Store, steps []plan.Step) error {
	for _, dir := range []string{
		"dev", "proc", "sys", "run", "tmp", "var/tmp", "root", "etc", "kvm", insideImages + "/kernels", insideImages + "/templates",
	} {
		if err := os.MkdirAll(t.path(dir), 0o755); err != nil {
			return err
		}
	}
	for _, name := range programs {
		if err := t.addProgram(ctx, name); err != nil {
			return err
		}
	}
	if err := t.addFirmware(ctx); err != nil {
		return err
	}
	if err := t.copyTree("/kvm", bin); err != nil {
		return err
	}
	if err := t.addImages(images); err != nil {
		return err
	}
	data, err := json.Marshal(steps)
	if err != nil {
		return err
	}
	return os.WriteFile(t.path(plan.Path), data, 0o644)
}

// addProgram adds one of the host's programs with the libraries it loads.
func (t tree) addProgram(ctx context.Context, name string) error {
	path, err := exec.LookPath(name)
	if errors.Is(err, exec.ErrNotFound) {
		path, err = exec.LookPath(filepath.Join("/usr/sbin", name))
	}
	if err != nil {
		return err
	}
	if err := t.copyFile(path, path); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "ldd", path).Output()
	if err != nil {
		return fmt.Errorf("ldd %s: %w", path, err)
	}
	// "NAME => PATH (ADDRESS)", or "PATH (ADDRESS)" for the loader.
	for _, word := range strings.Fields(string(out)) {
		if !strings.HasPrefix(word, "/") {
			continue
		}
		if err := t.copyFile(word, word); err != nil {
			return err
		}
	}
	return nil
}

// addFirmware adds the directories in which QEMU looks for firmware.
func (t tree) addFirmware(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "qemu-system-x86_64", "-L", "help").Output()
	if err != nil {
		return fmt.Errorf("qemu -L help: %w", err)
	}
	for _, dir := range strings.Fields(string(out)) {
		if err := t.copyTree(dir, dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// addImages adds the current kernel, the default template and the builds of runsc,
// as a store of their own.
func (t tree) addImages(images *image.Store) error {
	kernel, err := images.Kernel()
	if err != nil {
		return err
	}
	template, err := images.Template(image.Minimal().Name)
	if err != nil {
		return err
	}
	for _, dir := range []string{filepath.Dir(kernel.Vmlinux), filepath.Dir(template.Path)} {
		rel, err := filepath.Rel(images.Dir(), dir)
		if err != nil {
			return err
		}
		inside := filepath.Join(insideImages, rel)
		if err := t.copyTree(inside, dir); err != nil {
			return err
		}
		if err := os.Symlink(filepath.Base(dir), t.path(filepath.Join(filepath.Dir(inside), "current"))); err != nil {
			return err
		}
	}
	runsc := filepath.Join(images.Dir(), "runsc")
	return t.copyTree(filepath.Join(insideImages, "runsc"), runsc)
}

// copyTree copies the files below src. It follows links, because they may lead
// out of src.
func (t tree) copyTree(inside, src string) error {
	return filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(src, path)
		if err != nil {
			return err
		}
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() {
			return nil // a link that leads nowhere here, or to a directory
		}
		return t.copyFile(filepath.Join(inside, rel), path)
	})
}

// copyFile copies one file by content, with its mode.
func (t tree) copyFile(inside, src string) error {
	dst := t.path(inside)
	if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
		return err
	}
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(dst, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, info.Mode().Perm()|0o444)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
