package host

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/wrenn-dev/wrenn/internal/fault"
	"github.com/wrenn-dev/wrenn/internal/host/image"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// template is the snapshot of a guest that has booted and done nothing else,
// from which sandboxes of one kind are cloned.
type template struct {
	dir   templateDir
	image image.Template
}

// templateDir is the directory of one template snapshot: memory, state, disk
// and manifest.json. Once published it never changes.
type templateDir string

func (t templateDir) memory() string   { return filepath.Join(string(t), "memory") }
func (t templateDir) state() string    { return filepath.Join(string(t), "state") }
func (t templateDir) disk() string     { return filepath.Join(string(t), "disk") }
func (t templateDir) manifest() string { return filepath.Join(string(t), "manifest.json") }

// templates knows which template snapshots are being built.
//
// Invariant: a key is in building while, and only while, one goroutine builds
// it; everybody else who wants it waits for that one.
type templates struct {
	mu       sync.Mutex // protects the following
	building map[string]*templateBuild
}

type templateBuild struct {
	done chan struct{}
	err  error // valid once done is closed
}

// templateKey names a template snapshot by everything its content depends on:
// what changes makes a new key, so that a hit is never stale. The clock rate
// of the host is left out, since a measured one is never twice the same; it is
// compared, with a tolerance, when the snapshot is used.
func (m *Manager) templateKey(spec sandbox.Spec, img image.Template) (string, map[string]string) {
	print := m.driver.Fingerprint(vmm.Config{VCPUs: spec.VCPUs, MemoryMB: spec.MemoryMB})
	print["image"], print["kernel"] = img.Digest, m.deps.Kernel.Digest
	print["initramfs"], print["disk_mb"] = m.deps.Initramfs.Digest, fmt.Sprint(spec.DiskMB)
	rate := print[vmm.FingerprintTSC]
	delete(print, vmm.FingerprintTSC)
	data, _ := json.Marshal(print) // a map of strings cannot fail; keys are sorted
	if rate != "" {
		print[vmm.FingerprintTSC] = rate
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:12]), print
}

// ensureTemplate returns the template snapshot for spec, and makes it, once
// however many ask, if there is none that fits.
func (m *Manager) ensureTemplate(ctx context.Context, spec sandbox.Spec) (template, error) {
	img, err := m.template(spec.Template)
	if err != nil {
		return template{}, err
	}
	key, print := m.templateKey(spec, img)
	t := template{dir: templateDir(filepath.Join(m.cfg.TemplateDir, key)), image: img}
	if t.dir.fits(print) {
		return t, nil
	}
	b := m.startBuild(key, t, print, spec)
	select {
	case <-b.done:
		return t, b.err
	case <-ctx.Done():
		return template{}, context.Cause(ctx)
	}
}

// fits reports whether a whole snapshot is there and was taken under print.
func (t templateDir) fits(print map[string]string) bool {
	data, err := os.ReadFile(t.manifest())
	if err != nil {
		return false
	}
	var mf manifest
	return json.Unmarshal(data, &mf) == nil && vmm.CheckFingerprint(mf.Fingerprint, print) == nil
}

// startBuild joins the build of key or starts one, which goes on when its
// callers have gone.
func (m *Manager) startBuild(key string, t template, print map[string]string, spec sandbox.Spec) *templateBuild {
	m.templates.mu.Lock()
	defer m.templates.mu.Unlock()
	if b := m.templates.building[key]; b != nil {
		return b
	}
	b := &templateBuild{done: make(chan struct{})}
	m.templates.building[key] = b
	m.running.Go(func() {
		defer close(b.done)
		if !t.dir.fits(print) { // it may have been finished just before
			b.err = m.buildTemplate(m.life, t, print, spec)
		}
		m.templates.mu.Lock()
		delete(m.templates.building, key)
		m.templates.mu.Unlock()
	})
	return b
}

// buildTemplate boots a machine that no one sees, seals it, and publishes what
// it then consists of.
func (m *Manager) buildTemplate(life context.Context, t template, print map[string]string, spec sandbox.Spec) error {
	spec.Env, spec.Timeout = nil, 0
	b := newMachine(m, record{Version: recordVersion, ID: sandbox.NewID(), Generation: 1, Spec: spec, State: sandbox.Pending})
	b.dir = dirNames(filepath.Join(m.layout.builds(), string(b.rec.ID)))
	b.rec.TemplateDigest, b.rec.RootImage = t.image.Digest, t.image.Path
	b.log.InfoContext(life, "making a template snapshot", "template", spec.Template, "vcpus", spec.VCPUs, "memory_mb", spec.MemoryMB)
	err := b.coldBoot(life)
	if err == nil {
		err = b.writeSnapshot(life)
	}
	if err == nil {
		err = b.publishTemplate(t.dir, print)
	}
	// Even when the agent is closing: nobody could go on with half a build.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(life), teardownTimeout)
	defer cancel()
	if cleanup := errors.Join(b.endVM(ctx), b.endNetwork(ctx), b.endCgroup(ctx), os.RemoveAll(string(b.dir))); cleanup != nil {
		b.log.ErrorContext(ctx, "could not free the machine of a template snapshot", "error", cleanup)
	}
	if life.Err() != nil {
		return errors.Join(context.Cause(life), err)
	}
	if err != nil {
		return createFault(fmt.Errorf("make a template snapshot: %w", err))
	}
	b.log.InfoContext(life, "template snapshot made", "template", spec.Template, "dir", string(t.dir))
	return nil
}

// publishTemplate moves the snapshot of a sealed machine to its place, whole
// or not at all. Where another agent was faster, its snapshot stays.
func (m *machine) publishTemplate(to templateDir, print map[string]string) error {
	snap := m.dir.snapshot(m.rec.Snapshot)
	from := templateDir(snap)
	if err := os.Rename(m.dir.disk(), from.disk()); err != nil {
		return err
	}
	mf := m.manifest(m.captured)
	mf.Fingerprint = print
	if err := writeManifest(snap, mf); err != nil {
		return err
	}
	// Clones map the memory and never write it. A QEMU that wants it writable
	// all the same is only fit for a single tenant.
	mode := fs.FileMode(0o444)
	if !m.mgr.driver.Info().MultiTenant {
		mode = 0o666
	}
	err := errors.Join(
		os.Chown(from.memory(), 0, 0), os.Chmod(from.memory(), mode),
		os.Chown(from.disk(), 0, 0), os.Chmod(from.disk(), 0o400), os.Chmod(from.state(), 0o400),
		syncFile(from.disk()), syncDir(string(from)))
	if err != nil {
		return err
	}
	if err := os.RemoveAll(string(to)); err != nil { // one that does not fit any more
		return err
	}
	if err := os.Rename(string(from), string(to)); err != nil {
		if to.fits(print) {
			return nil
		}
		return fault.Wrap(err, fault.HostFailed, "template_failed", "the template snapshot could not be stored")
	}
	return syncDir(filepath.Dir(string(to)))
}

// removeOldTemplates removes the template snapshots in the agent's own
// directory that can serve no new sandbox and that no machine maps.
func (m *Manager) removeOldTemplates(ctx context.Context, mapped map[string]bool) {
	dirs, err := filepath.Glob(filepath.Join(m.layout.templates(), "*"))
	for _, dir := range dirs {
		t := templateDir(dir)
		if mapped[t.memory()] || m.current(t) {
			continue
		}
		m.log.InfoContext(ctx, "removing an old template snapshot", "dir", dir)
		err = errors.Join(err, os.RemoveAll(dir))
	}
	if err != nil {
		m.log.WarnContext(ctx, "could not remove old template snapshots", "error", err)
	}
}

// current reports whether a template snapshot would be used for the spec it
// was made for.
func (m *Manager) current(t templateDir) bool {
	data, err := os.ReadFile(t.manifest())
	var mf manifest
	if err != nil || json.Unmarshal(data, &mf) != nil {
		return false
	}
	img, err := m.template(mf.Spec.Template)
	if err != nil {
		return false
	}
	key, print := m.templateKey(mf.Spec, img)
	return key == filepath.Base(string(t)) && t.fits(print)
}
