package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/linux/filesum"
)

// keptInitramfs is how many initramfs files stay: each new guest agent makes
// one, and a file is only read while a VM boots. As many agent images stay.
const keptInitramfs = 8

// Initramfs is a prepared initramfs.
type Initramfs struct {
	Path   string
	Digest string
}

// EnsureInitramfs returns an initramfs that starts guest, a static
// executable, as PID 1 and has the modules of k that a sandbox needs, with
// any extra ones. It holds:
//
//	/init            guest
//	/m/NAME.ko       kernel modules that are loaded at boot, unpacked
//	/m/order         their file names, one a line, in the order to load them, each
//	                 followed by the parameters of the module
//	/later           the same for modules that are loaded beside the agent
//
// The result depends on nothing but its parts. It takes a few milliseconds.
func (s *Store) EnsureInitramfs(ctx context.Context, k Kernel, guest []byte, extra ...string) (Initramfs, error) {
	if len(guest) == 0 {
		return Initramfs{}, errGuestMissing()
	}
	release, err := s.lock(ctx, "initramfs", Quiet)
	if err != nil {
		return Initramfs{}, err
	}
	defer release()
	content, err := buildInitramfs(k, guest, append(GuestModules(), extra...))
	if err != nil {
		return Initramfs{}, err
	}
	sum := sha256.Sum256(content)
	digest := hex.EncodeToString(sum[:])
	out := Initramfs{Path: filepath.Join(s.dir, "initramfs", digest+".cpio"), Digest: digest}
	if have, _, err := filesum.SHA256(out.Path); err == nil && have == digest {
		now := time.Now()
		return out, os.Chtimes(out.Path, now, now)
	}
	if err := s.writeInitramfs(out.Path, content); err != nil {
		return Initramfs{}, s.noSpace(err)
	}
	return out, prune(filepath.Dir(out.Path))
}

func errGuestMissing() error {
	return fault.New(fault.Internal, "guest_missing", "this build has no guest agent in it; build it with 'make build'")
}

func buildInitramfs(k Kernel, guest []byte, modules []string) ([]byte, error) {
	set, err := openModules(k.ModuleDir)
	if err != nil {
		return nil, err
	}
	boot, err := set.resolve(modules)
	if err != nil {
		return nil, err
	}
	all, err := set.resolve(append(slices.Clone(modules), laterModules...))
	if err != nil {
		return nil, err
	}
	w := &cpioWriter{}
	for _, dir := range []string{"dev", "later", "m", "proc", "sys"} {
		w.add(cpioEntry{name: dir, mode: cpioDir | 0o755})
	}
	// The kernel opens /dev/console for PID 1 before devtmpfs is mounted.
	w.add(cpioEntry{name: "dev/console", mode: cpioChar | 0o600, major: 5, minor: 1})
	w.add(cpioEntry{name: "init", mode: cpioFile | 0o755, data: guest})
	// Dependencies come first, so that the modules of boot are the first of all.
	if err := errors.Join(w.addModules("m", boot), w.addModules("later", all[len(boot):])); err != nil {
		return nil, err
	}
	return w.finish(), nil
}

// addModules adds modules, and the order in which to load them, as files of dir.
func (w *cpioWriter) addModules(dir string, modules []module) error {
	var order bytes.Buffer
	for _, m := range modules {
		data, err := os.ReadFile(m.path)
		if err != nil {
			return err
		}
		file := filepath.Base(m.path)
		w.add(cpioEntry{name: dir + "/" + file, mode: cpioFile | 0o644, data: data})
		order.WriteString(strings.TrimSpace(file+" "+moduleOptions[m.name]) + "\n")
	}
	w.add(cpioEntry{name: dir + "/order", mode: cpioFile | 0o644, data: order.Bytes()})
	return nil
}

// writeInitramfs writes content to a temporary file, and to path when it is
// on disk.
func (s *Store) writeInitramfs(path string, content []byte) error {
	work, err := s.buildDir("initramfs")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	tmp := filepath.Join(work, "cpio")
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	return publishFile(tmp, path)
}

// prune removes all files of dir but the keptInitramfs that were used last.
func prune(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) <= keptInitramfs {
		return err
	}
	var infos []os.FileInfo
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return err
		}
		infos = append(infos, info)
	}
	slices.SortFunc(infos, func(a, b os.FileInfo) int { return b.ModTime().Compare(a.ModTime()) })
	for _, old := range infos[keptInitramfs:] {
		if err := os.Remove(filepath.Join(dir, old.Name())); err != nil {
			return err
		}
	}
	return nil
}
